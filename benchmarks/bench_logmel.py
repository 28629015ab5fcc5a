"""Log-mel spectrograms against those of ``torchaudio`` and ``librosa``, clip by clip, one thread each.

The peers are ``torchaudio.transforms.MelSpectrogram`` and ``librosa.feature.melspectrogram`` with the same window,
hop, filters and floor. Beside them stands the rate at which a feature shard is read, against plain reads of its files.

Run: ``python benchmarks/bench_logmel.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

import tempfile
from pathlib import Path

from common import SAMPLE_RATE, one_thread, parse_arguments, peer_module, race, read_clips, write_records

one_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchaudio  # noqa: E402
from roofline import against_plain_reads  # noqa: E402

from exvo.features.logmel import LogmelConfig, logmel  # noqa: E402
from exvo.features.store import FeatureRow, read_sequences, write_sequences  # noqa: E402

TOLERANCE = 5e-3  # of the natural logarithm of power, 0.02 dB: float32 near the floor


def main() -> None:
    """Compare the spectrograms, run the race and write its record."""
    arguments = parse_arguments(__doc__, n_clips=200)
    torch.set_num_threads(1)
    clips = read_clips(arguments.corpus, arguments.clips)
    librosa = peer_module("librosa")
    config = LogmelConfig()
    window, hop = (round(ms * SAMPLE_RATE / 1000) for ms in (config.window_ms, config.hop_ms))
    spectrogram = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE,
        config.n_fft,
        window,
        hop,
        n_mels=config.n_mels,
        mel_scale="slaney",
        norm=None,
        pad_mode="constant",
    )

    def ours() -> list[np.ndarray]:
        return [logmel(clip, config) for clip in clips]

    def by_torchaudio() -> list[np.ndarray]:
        mels = [spectrogram(torch.from_numpy(clip)) for clip in clips]
        return [mel.clamp_min(config.log_floor).log().numpy().T for mel in mels]

    def by_librosa() -> list[np.ndarray]:
        mels = [
            librosa.feature.melspectrogram(
                y=clip,
                sr=SAMPLE_RATE,
                n_fft=config.n_fft,
                win_length=window,
                hop_length=hop,
                n_mels=config.n_mels,
                norm=None,
            )
            for clip in clips
        ]
        return [np.log(np.maximum(mel, config.log_floor)).T for mel in mels]

    records = []
    for peer, theirs in (
        ("torchaudio.transforms.MelSpectrogram", by_torchaudio),
        ("librosa.feature.melspectrogram 0.11", by_librosa),
    ):
        furthest = max(
            float(np.abs(found - expected).max()) for found, expected in zip(ours(), theirs(), strict=True)
        )
        records.append(
            race(
                "logmel",
                peer,
                ours,
                theirs,
                n_clips=len(clips),
                outputs_match=furthest < TOLERANCE or f"log powers differ by up to {furthest:.1e}",
                repeats=5,
            )
        )
        print(f"furthest from {peer}: {furthest:.1e} in the logarithm")
    with tempfile.TemporaryDirectory() as folder:
        shard = [Path(folder) / name for name in ("shard.npy", "shard.parquet")]
        rows = [FeatureRow(f"{i:05d}", values, "ok", "") for i, values in enumerate(ours())]
        write_sequences(*shard, rows, config.n_mels, config.dtype)
        read = against_plain_reads(
            "logmel", "a feature shard", shard, lambda: read_sequences(*shard)[0].copy(), "equal"
        )
    write_records([*records, read])


if __name__ == "__main__":
    main()
