"""Race the denoise stage against the packages ``logmmse`` and ``noisereduce``, one core each, on the same clips.

Run: ``python benchmarks/bench_denoise.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips. What
ours and logmmse gain in SNR is compared in ``tests/unit/test_denoise.py``. ``noisereduce`` is a spectral gate, run as
it comes: it follows the noise over time (``stationary=False``) and, in its other form, does not.
"""

from common import one_thread, parse_arguments, peer_module, race, read_clips, write_records

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
    noisereduce = peer_module("noisereduce")
    peers = {
        "logmmse 1.5": lambda clip: logmmse(clip, SAMPLE_RATE),
        "noisereduce 3.0.3": lambda clip: noisereduce.reduce_noise(y=clip, sr=SAMPLE_RATE),
        "noisereduce 3.0.3, stationary": lambda clip: noisereduce.reduce_noise(
            y=clip, sr=SAMPLE_RATE, stationary=True
        ),
    }
    for reduce in peers.values():
        reduce(clips[0].copy())
    records = [
        race(
            "denoise",
            peer,
            lambda: denoise_clips(clips, SAMPLE_RATE, config),
            lambda reduce=reduce: [reduce(clip.copy()) for clip in clips],
            n_clips=len(clips),
            outputs_match="other estimators; SNR gains compared in tests/unit/test_denoise.py"
            if peer.startswith("logmmse")
            else "no: a spectral gate",
        )
        for peer, reduce in peers.items()
    ]
    write_records(records)


if __name__ == "__main__":
    main()
