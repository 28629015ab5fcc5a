"""Race the denoise stage against the packages ``logmmse`` and ``noisereduce``, one core each, on the same clips.

The clips are those of the stage ``dc``, as in the workflow. Outputs differ, as the estimators do. So it is what each
gains in SNR that is compared first, on synthetic bursts in coloured noise, filtered alike, of which the clean form is
known; ``denoise_quality.py`` has more kinds of noise and the figures one by one. ``noisereduce`` is a spectral gate,
run as it comes: it follows the noise over time (``stationary=False``) and, in its other form, does not.

Run: ``python benchmarks/bench_denoise.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

from common import one_thread, parse_arguments, race, read_clips, write_records

one_thread()

from denoise_quality import gained_db, ours, peers  # noqa: E402
from noisy_bursts import NOISES, SAMPLE_RATE, noisy_bursts  # noqa: E402

from exvo.audio.highpass import HighpassConfig, highpass_clips  # noqa: E402

COLOURS, SNR_DB, N_BURSTS = ("white", "pink", "brown"), (5, 15, 25), 3  # bursts of each colour and SNR
MIN_SECONDS = 0.25  # logmmse needs six frames of 20 ms


def main() -> None:
    """Run the race and write its record."""
    arguments = parse_arguments(__doc__, n_clips=100)
    clips = read_clips(arguments.corpus, arguments.clips, min_seconds=MIN_SECONDS)
    clips, _ = highpass_clips(clips, SAMPLE_RATE, HighpassConfig())
    ours(clips[:2])
    bursts = [
        burst
        for colour in COLOURS
        for snr in SNR_DB
        for burst in noisy_bursts(NOISES[colour], pauses=True, snr_db=snr, n_bursts=N_BURSTS)
    ]
    gained = gained_db(ours, bursts)
    records = []
    for peer, denoise in peers().items():
        theirs = gained_db(denoise, bursts)
        words = f"{'at least as much' if gained >= theirs else '**less**'} SNR gained: {gained:.1f} and {theirs:.1f} dB"
        records.append(
            race(
                "denoise",
                peer,
                lambda: ours(clips),
                lambda denoise=denoise: denoise(clips),
                n_clips=len(clips),
                outputs_match=words,
            )
        )
    write_records(records)


if __name__ == "__main__":
    main()
