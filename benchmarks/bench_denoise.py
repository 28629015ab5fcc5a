"""Race the denoise stage against the ``logmmse`` package, one core each, on the same clips.

Run: ``python benchmarks/bench_denoise.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips. What
the two gain in SNR is compared in ``tests/unit/test_denoise.py``.
"""

from common import one_thread, parse_arguments, race, read_clips, write_records

one_thread()

import numpy as np  # noqa: E402

from exvo.audio.denoise import DenoiseConfig, denoise_clips  # noqa: E402

NUMPY_ERRORS = np.geterr()
from logmmse import logmmse  # noqa: E402

np.seterr(**NUMPY_ERRORS)  # logmmse makes every underflow an error, in everybody's code

SAMPLE_RATE = 16_000
MIN_SECONDS = 0.25  # logmmse needs six frames of 20 ms


def main() -> None:
    """Run the race and write its record."""
    arguments = parse_arguments(__doc__, n_clips=100)
    clips = read_clips(arguments.corpus, arguments.clips, min_seconds=MIN_SECONDS)
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
