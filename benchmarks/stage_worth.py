"""Measure what one stage of the audio is worth to emotion: two stages, the same features, the same speakers.

A fixed probe (ridge regression on standardised features of a clip, its penalty chosen on validation) and trained
systems, all on Test, with the difference of mean CCC, its 95 % confidence interval and p-value by a bootstrap over
speakers. Seeds of a system are averaged in its score, not in its predictions.

Run, in the folder where the workflow ran:
``python benchmarks/stage_worth.py CORPUS --stages dc denoised [--pair mlp-dc mlp-denoised ...]``
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge

from exvo.corpus.labels import Labels
from exvo.corpus.table import read_corpus, read_test_labels
from exvo.evaluation.bootstrap import BootstrapConfig, Draws, SpeakerBootstrap, difference
from exvo.evaluation.metrics import mean_ccc
from exvo.evaluation.predictions import Predictions, read_predictions
from exvo.features.store import read_utterances
from exvo.training.frames import FrameStore

PENALTIES = 10.0 ** np.arange(1, 7)
SPLITS = ("Train", "Val", "Test")
MAX_SD = 10.0


def functionals(stage: str, groups: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return the ComParE functionals of some groups of clips."""
    shards = sorted(Path("results/features/opensmile", stage).glob("*.parquet"))
    return [part.values for part in read_utterances(shards, groups)]


def embeddings(stage: str, groups: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return mean and standard deviation over time of the HuBERT embeddings of some groups of clips."""
    shards = sorted(Path("results/features/hubert", stage).glob("*.npy"))
    store = FrameStore([(path, path.with_suffix(".parquet")) for path in shards])

    def pooled(clip_id: str) -> np.ndarray:
        frames = store.frames(int(store.rows([clip_id])[0])).astype(np.float32)
        return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])

    return [np.stack([pooled(clip_id) for clip_id in group]) for group in groups]


PROBES = {
    "ridge on ComParE": ("opensmile", functionals),
    "ridge on HuBERT, mean and SD": ("hubert", embeddings),
}


def probe(features: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """Fit a ridge regression on Train, choose its penalty on Val, return predictions of Test."""
    mean, sd = features[0].mean(axis=0), features[0].std(axis=0)
    # Limited like the network's inputs: a functional of one clip can be thousands of SDs off.
    train, val, test = (
        np.clip((part - mean) / np.where(sd > 0, sd, 1), -MAX_SD, MAX_SD).astype(np.float64)
        for part in features
    )
    fits = [Ridge(alpha=penalty, solver="cholesky").fit(train, targets[0]) for penalty in PENALTIES]
    return max(fits, key=lambda fit: mean_ccc(targets[1], fit.predict(val))[1]).predict(test)


def as_predictions(labels: Labels, known: np.ndarray, found: np.ndarray) -> Predictions:
    """Return predictions of some emotions alone; 0 for the others, as systems predict what nobody labelled."""
    codes = tuple(country.code for country in labels.countries)
    n = len(labels)
    emotion = np.zeros((n, len(known)))
    emotion[:, known] = found
    return Predictions(labels.clip_id, np.full(n, np.nan), np.full((n, len(codes)), np.nan), emotion, codes)


def print_difference(name: str, first: Draws, second: Draws) -> None:
    """Print both scores and how far the second lies above the first."""
    change = difference(second, first, "ccc")
    print(
        f"| {name} | {first.value('ccc'):.4f} | {second.value('ccc'):.4f} |"
        f" {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}] | {change.p:.3f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--stages", nargs=2, required=True, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--pair", nargs=2, action="append", default=[], metavar=("BEFORE", "AFTER"))
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.corpus)
    test = read_test_labels(corpus)
    if test is None:
        parser.error(f"{arguments.corpus} has no test_labels.csv, so there is nothing to score on Test")
    parts = [corpus.labels.take(corpus.labels.split == split) for split in SPLITS[:2]] + [test]
    # A probe needs all labels of a clip; emotions that nobody labelled, and clips that lack another, are left out.
    known = ~np.isnan(parts[0].emotion).all(axis=0)
    whole = [part.take(~np.isnan(part.emotion[:, known]).any(axis=1)) for part in parts]
    groups = [list(part.clip_id) for part in whole]
    targets = [part.emotion[:, known] for part in whole]
    print(
        f"Clips with all labels of {known.sum()} emotions: {dict(zip(SPLITS, map(len, whole), strict=True))}\n"
    )
    print(f"| what | {' | '.join(arguments.stages)} | difference | p |\n|---|---|---|---|---|")
    bootstrap = SpeakerBootstrap(whole[2], BootstrapConfig())
    for name, (feature, features) in PROBES.items():
        if not all(Path("results/features", feature, stage).is_dir() for stage in arguments.stages):
            print(f"| {name} | no features of both stages in results/features/{feature} | | | |")
            continue
        found = [
            as_predictions(whole[2], known, probe(features(stage, groups), targets))
            for stage in arguments.stages
        ]
        print_difference(name, *(bootstrap.draws([predictions]) for predictions in found))
    bootstrap = SpeakerBootstrap(test, BootstrapConfig())
    for pair in arguments.pair:
        draws, n_seeds = [], 0
        for system in pair:
            folders = sorted(path.parent for path in Path("results/models", system).glob("*/metrics.json"))
            n_seeds = len(folders)
            draws.append(bootstrap.draws([read_predictions(folder / "test.parquet") for folder in folders]))
        encoder = json.loads((folders[0] / "config.json").read_text(encoding="utf-8"))["system"]["encoder"]
        print_difference(f"{encoder}, {n_seeds} seeds ({pair[0]}, {pair[1]})", *draws)


if __name__ == "__main__":
    main()
