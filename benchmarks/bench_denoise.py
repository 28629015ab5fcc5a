"""Race the denoise stage against the packages ``logmmse`` and ``noisereduce``, one core each, on the same clips.

Outputs differ, as the estimators do. So it is what each gains in SNR that is compared first, on synthetic bursts in
white noise of which the clean form is known; ``tests/unit/test_denoise.py`` has more kinds of noise. ``noisereduce``
is a spectral gate, run as it comes: it follows the noise over time (``stationary=False``) and, in its other form, does
not.

Run: ``python benchmarks/bench_denoise.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

from common import one_thread, parse_arguments, peer_module, race, read_clips, write_records

one_thread()

from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402
from scipy.signal import resample_poly  # noqa: E402

from exvo.audio.denoise import DenoiseConfig, denoise_clips  # noqa: E402
from exvo.corpus import synth  # noqa: E402
from exvo.corpus.labels import EMOTIONS  # noqa: E402

NUMPY_ERRORS = np.geterr()
from logmmse import logmmse  # noqa: E402

np.seterr(**NUMPY_ERRORS)  # logmmse makes every underflow an error, in everybody's code

SAMPLE_RATE = 16_000
SNR_DB, N_BURSTS = (0, 5, 10, 15), 3  # bursts at each SNR
MIN_SECONDS = 0.25  # logmmse needs six frames of 20 ms


def noisy_bursts() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return bursts after 0.3 s of silence, and the same in white noise."""
    rng = np.random.default_rng(0)
    pairs = []
    for snr_db in SNR_DB * N_BURSTS:
        voice = synth.voice_of(30.0, "China", bool(rng.integers(2)), rng)
        burst = synth.burst(voice, synth.style_of(rng.random(len(EMOTIONS)), EMOTIONS, rng), rng)
        burst = resample_poly(burst, SAMPLE_RATE, synth.SAMPLE_RATE)
        clean = np.concatenate([np.zeros(int(0.3 * SAMPLE_RATE)), 0.5 * burst])
        deviation = np.sqrt(np.mean(clean**2)) * 10 ** (-snr_db / 20)
        pairs.append((clean, (clean + deviation * rng.standard_normal(len(clean))).astype(np.float32)))
    return pairs


def mean_gain_db(
    denoise: Callable[[list[np.ndarray]], list[np.ndarray]], pairs: list[tuple[np.ndarray, np.ndarray]]
) -> float:
    """Return by how much SNR rises on average."""
    gains = []
    for (clean, noisy), found in zip(pairs, denoise([noisy for _, noisy in pairs]), strict=True):
        n = min(len(clean), len(found))  # logmmse leaves the last part of a frame out
        before, after = (np.square(other[:n] - clean[:n]).sum() for other in (noisy, found))
        gains.append(10 * np.log10(before / after))
    return float(np.mean(gains))


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
    pairs = noisy_bursts()
    gained = mean_gain_db(lambda noisy: denoise_clips(noisy, SAMPLE_RATE, config)[0], pairs)
    records = []
    for peer, reduce in peers.items():
        theirs = mean_gain_db(lambda noisy, reduce=reduce: [reduce(clip.copy()) for clip in noisy], pairs)
        words = f"{'at least as much' if gained >= theirs else '**less**'} SNR gained: {gained:.1f} and {theirs:.1f} dB"
        records.append(
            race(
                "denoise",
                peer,
                lambda: denoise_clips(clips, SAMPLE_RATE, config),
                lambda reduce=reduce: [reduce(clip.copy()) for clip in clips],
                n_clips=len(clips),
                outputs_match=words,
            )
        )
    write_records(records)


if __name__ == "__main__":
    main()
