"""Race the denoise stage against the ``logmmse`` package, one core each, on the same clips.

Run as ``python benchmarks/bench_denoise.py [--corpus PATH] [--clips 100]``. With a corpus the clips are
those of its ``raw`` folder, without one they are noisy voices made here. The record goes to
``results/bench/denoise.json``.
"""

import argparse
import os
import random
import subprocess
from pathlib import Path

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1"
)  # before numpy is imported

import imageio_ffmpeg
import numpy as np
from common import race, write_records

from exvo.audio.denoise import DenoiseConfig, denoise_clips

NUMPY_ERRORS = np.geterr()
from logmmse import logmmse  # noqa: E402

np.seterr(**NUMPY_ERRORS)  # logmmse makes every underflow an error, in everybody's code

SAMPLE_RATE = 16_000


def read_corpus(root: Path, n_clips: int) -> list[np.ndarray]:
    """Decode clips drawn at random (always the same ones) to 16 kHz mono float32; none is under 0.25 s."""
    paths = sorted((root / "raw").iterdir())
    random.Random(0).shuffle(paths)
    clips = []
    for path in paths:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path.resolve())]
        command += ["-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", "-"]
        clip = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)
        if len(clip) >= SAMPLE_RATE // 4:  # logmmse needs six frames of 20 ms
            clips.append(clip)
        if len(clips) == n_clips:
            break
    return clips


def make_clips(n_clips: int) -> list[np.ndarray]:
    """Make gliding harmonic tones of 1 to 4 s in white noise at 10 dB, silence around them."""
    rng = np.random.default_rng(0)
    clips = []
    for seconds in rng.uniform(1, 4, n_clips):
        time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        phase = 2 * np.pi * np.cumsum(rng.uniform(120, 400) * (1 + 0.2 * np.sin(3 * time))) / SAMPLE_RATE
        voice = sum(np.cos(k * phase) / k for k in range(1, 15)) * (np.sin(np.pi * time / seconds) > 0.5)
        noise = rng.standard_normal(len(time)) * voice.std() * 10**-0.5
        clips.append((0.1 * (voice + noise)).astype(np.float32))
    return clips


def main() -> None:
    """Run the race and write its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder with raw/<id>.webm")
    parser.add_argument("--clips", type=int, default=100)
    arguments = parser.parse_args()
    clips = (
        read_corpus(arguments.corpus, arguments.clips) if arguments.corpus else make_clips(arguments.clips)
    )
    config = DenoiseConfig()
    denoise_clips(clips[:2], SAMPLE_RATE, config)
    record = race(
        "denoise",
        "logmmse",
        lambda: denoise_clips(clips, SAMPLE_RATE, config),
        lambda: [logmmse(clip.copy(), SAMPLE_RATE) for clip in clips],
        n_clips=len(clips),
        outputs_match="other estimators; SNR gains compared in tests/unit/test_denoise.py",
    )
    write_records([record])


if __name__ == "__main__":
    main()
