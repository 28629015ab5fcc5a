"""The high-pass of the dc stage against scipy, clip by clip, with the same taps.

``scipy.signal.fftconvolve`` is the peer for equal output. ``scipy.signal.filtfilt``, the usual way to filter
without delay, runs the filter twice, so its response is the square and its output differs; it is timed all
the same. Ours also measures clipping and power and applies the gain; the peers take out the mean and filter.

Run: ``python benchmarks/bench_highpass.py [--corpus PATH] [--clips N]``; without a corpus, on noise.
"""

import argparse
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from common import race, write_records
from scipy.signal import fftconvolve, filtfilt

from exvo.audio.highpass import HighpassConfig, design_highpass, highpass_clips

RATE = 16000


def read_clips(corpus: Path | None, n_clips: int) -> list[np.ndarray]:
    """Decode clips spread over the corpus to 16 kHz mono; without a corpus, make noise of 1 to 4 s."""
    if corpus is None:
        rng = np.random.default_rng(0)
        lengths = rng.integers(RATE, 4 * RATE, n_clips)
        return [(0.1 * rng.normal(size=n) + 0.05).astype(np.float32) for n in lengths]
    paths = sorted((corpus / "raw").glob("*.webm"))
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, min(n_clips, len(paths))).astype(int)]
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()

    def decode(path: Path) -> np.ndarray:
        output = ["-ac", "1", "-ar", str(RATE), "-f", "f32le", "-"]
        command = [ffmpeg, "-v", "error", "-i", str(path.resolve()), *output]
        return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(decode, paths))


def main() -> None:
    """Race the two peers and write the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    arguments = parser.parse_args()
    clips = read_clips(arguments.corpus, arguments.clips)
    config = HighpassConfig()
    taps = design_highpass(config, RATE)
    half = len(taps) // 2

    def convolved() -> list[np.ndarray]:
        return [fftconvolve(clip - clip.mean(dtype=float), taps)[half:][: len(clip)] for clip in clips]

    def forth_and_back() -> list[np.ndarray]:
        pads = [min(3 * len(taps), len(clip) - 1) for clip in clips]
        return [filtfilt(taps, 1.0, clip, padlen=pad) for clip, pad in zip(clips, pads, strict=True)]

    def ours() -> list[np.ndarray]:
        return highpass_clips(clips, RATE, config)[0]

    filtered, measures = highpass_clips(clips, RATE, config)
    furthest = max(
        float(np.abs(signal / 10 ** (seen.gain_db / 20) - theirs).max() / np.abs(theirs).max())
        for signal, seen, theirs in zip(filtered, measures, convolved(), strict=True)
        if np.isfinite(seen.gain_db)
    )
    differs = "no: filtfilt applies the filter twice"
    n_clips = len(clips)
    write_records(
        [
            race(
                "highpass",
                "scipy.signal.fftconvolve",
                ours,
                convolved,
                n_clips=n_clips,
                outputs_match=furthest < 1e-6,
            ),
            race(
                "highpass",
                "scipy.signal.filtfilt",
                ours,
                forth_and_back,
                n_clips=n_clips,
                outputs_match=differs,
                repeats=1,
            ),
        ]
    )
    print(f"furthest from fftconvolve: {furthest:.1e} of the clip's peak")


if __name__ == "__main__":
    main()
