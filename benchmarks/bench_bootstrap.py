"""1,000 resamples of speakers, by sums per speaker, against a loop that writes each resample out.

20,000 clips of 1,700 speakers, 10 systems of 3 seeds: intervals of every metric of every system. The peer repeats the
rows of each speaker drawn and calls `exvo.evaluation.metrics.score`; it does a few resamples of one system, and its
time is counted up to all of them. Both use the same draws, and the metrics of those resamples are compared.

Run: ``python benchmarks/bench_bootstrap.py [--resamples N]``.
"""

import argparse
import time
from dataclasses import replace

from common import Record, against_budget, one_thread, write_records

one_thread()

import numpy as np  # noqa: E402

from exvo.corpus.labels import Country, Labels  # noqa: E402
from exvo.evaluation.bootstrap import METRICS, BootstrapConfig, Draws, SpeakerBootstrap  # noqa: E402
from exvo.evaluation.metrics import score  # noqa: E402
from exvo.evaluation.predictions import Predictions  # noqa: E402
from exvo.evaluation.speakers import speaker_index  # noqa: E402

N_CLIPS, N_SPEAKERS, N_SYSTEMS, N_SEEDS = 20_000, 1_700, 10, 3
N_WRITTEN_OUT = 10
CODES = tuple(range(4))
BUDGET_S = 5.0


def simulate() -> tuple[Labels, list[list[Predictions]]]:
    """Make labels and the predictions of every seed of every system."""
    random = np.random.default_rng(0)
    clip_id = np.array([f"{i:05d}" for i in range(N_CLIPS)])
    speaker = random.integers(N_SPEAKERS, size=N_CLIPS)
    labels = Labels(
        clip_id=clip_id,
        split=np.full(N_CLIPS, "Val"),
        speaker=np.char.add("s", speaker.astype(str)),
        age=random.uniform(20, 39, N_SPEAKERS)[speaker],
        country=random.integers(len(CODES), size=N_SPEAKERS)[speaker],
        emotion=random.random((N_CLIPS, 10)),
        countries=tuple(Country(code, str(code)) for code in CODES),
    )

    def answers() -> Predictions:
        chances = random.dirichlet(np.ones(len(CODES)), size=N_CLIPS) + np.eye(len(CODES))[labels.country]
        emotion = labels.emotion + 0.3 * random.normal(size=labels.emotion.shape)
        return Predictions(clip_id, labels.age + random.normal(size=N_CLIPS), chances / 2, emotion, CODES)

    return labels, [[answers() for _ in range(N_SEEDS)] for _ in range(N_SYSTEMS)]


def ours(
    labels: Labels, systems: list[list[Predictions]], n_resamples: int
) -> tuple[SpeakerBootstrap, list[Draws]]:
    """Give the intervals' resamples of every system."""
    source = SpeakerBootstrap(labels, BootstrapConfig(n_resamples))
    draws = [source.draws(seeds) for seeds in systems]
    for system in draws:
        for metric in METRICS:
            system.interval(metric)
    return source, draws


def written_out(labels: Labels, seeds: list[Predictions], times: np.ndarray) -> dict[str, float]:
    """Score one resample by repeating rows: ``times`` says how often each speaker was drawn."""
    rows = np.repeat(np.arange(len(labels)), times[speaker_index(labels.speaker)[0]].astype(int))
    there = np.arange(len(rows))
    drawn = replace(labels.take(rows), clip_id=there)
    scores = [
        score(drawn, Predictions(there, s.age[rows], s.country[rows], s.emotion[rows], CODES)) for s in seeds
    ]
    return {metric: float(np.mean([getattr(s, metric) for s in scores])) for metric in METRICS}


def main() -> None:
    """Time both, compare what they give and write the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=1000, help="draws of the speakers (1000)")
    n_resamples = parser.parse_args().resamples
    labels, systems = simulate()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        source, draws = ours(labels, systems, n_resamples)
        seconds.append(time.perf_counter() - start)
    ours_s = sorted(seconds)[1]
    start = time.perf_counter()
    peer = [written_out(labels, systems[0], source._weights[1 + i]) for i in range(N_WRITTEN_OUT)]
    theirs_s = (time.perf_counter() - start) / N_WRITTEN_OUT * n_resamples * N_SYSTEMS
    apart = max(
        abs(draws[0].values[metric][1 + i] - expected[metric])
        for i, expected in enumerate(peer)
        for metric in METRICS
    )
    same = True if apart < 1e-10 else f"up to {apart:.1e} apart"
    what = (
        f"rows repeated, exvo.evaluation.metrics.score; {N_WRITTEN_OUT} resamples of one system, counted up"
    )
    rate = n_resamples * N_SYSTEMS
    write_records(
        [
            Record(
                "bootstrap",
                what,
                round(theirs_s / ours_s, 2),
                round(rate / ours_s, 2),
                round(rate / theirs_s, 2),
                "resamples of a system/s",
                same,
            ),
            against_budget(
                "bootstrap",
                f"budget: {n_resamples:,} resamples of {N_SYSTEMS} systems x {N_SEEDS} seeds in seconds",
                ours_s,
                BUDGET_S,
                "s",
                same,
            ),
        ]
    )


if __name__ == "__main__":
    main()
