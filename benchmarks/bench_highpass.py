"""The high-pass of the dc stage against scipy, clip by clip, with the same taps.

``scipy.signal.fftconvolve`` is the peer for equal output. ``scipy.signal.filtfilt``, the usual way to filter
without delay, runs the filter twice, so its response is the square and its output differs; it is timed all
the same. Ours also measures clipping and power and applies the gain; the peers take out the mean and filter.

Run: ``python benchmarks/bench_highpass.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

import numpy as np
from common import parse_arguments, race, read_clips, write_records
from scipy.signal import fftconvolve, filtfilt

from exvo.audio.highpass import HighpassConfig, design_highpass, highpass_clips

RATE = 16000


def main() -> None:
    """Race the two peers and write the records."""
    arguments = parse_arguments(__doc__, n_clips=200)
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
            ),
        ]
    )
    print(f"furthest from fftconvolve: {furthest:.1e} of the clip's peak")


if __name__ == "__main__":
    main()
