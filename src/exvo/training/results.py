"""Results of a trained system: predictions of Val and Test, and scores on Val."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from exvo.corpus.labels import Country, Labels
from exvo.evaluation.metrics import score
from exvo.evaluation.predictions import Predictions, align, write_predictions
from exvo.util.atomic import write_text


def predictions_or_priors(
    clip_ids: np.ndarray,
    has_audio: np.ndarray,
    priors: Mapping[str, float | Sequence[float]],
    countries: Sequence[Country],
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Predictions:
    """Predict the clips with audio; the others get the prior of the training set.

    Parameters
    ----------
    clip_ids : np.ndarray [shape=(n,), str]
    has_audio : np.ndarray [shape=(n,), bool]
    priors : mapping
        As `exvo.training.priors.priors` returns them.
    countries : sequence of Country
    predict : callable
        Takes the mask of clips with audio, and returns their emotion, age and country probabilities. It is not called
        without such clips.
    """
    n = len(clip_ids)
    emotion = np.tile(np.asarray(priors["emotion"], dtype=np.float64), (n, 1))
    age = np.full(n, priors["age"], dtype=np.float64)
    country = np.tile(np.asarray(priors["country"], dtype=np.float64), (n, 1))
    if has_audio.any():
        emotion[has_audio], age[has_audio], country[has_audio] = predict(has_audio)
    return Predictions(clip_ids, age, country, emotion, tuple(c.code for c in countries))


def write_results(
    folder: Path, labels: Labels, predictions: Predictions, *, best_epoch: int, n_epochs: int
) -> None:
    """Write ``val.parquet``, ``test.parquet`` and ``metrics.json`` into the folder of a trained system.

    Parameters
    ----------
    folder : Path
    labels : Labels
        Labels of the complete corpus.
    predictions : Predictions
        Predictions for all clips of Val and Test, in any order.
    best_epoch, n_epochs : int
        Number of the best epoch, and number of epochs.
    """
    by_split = {split: labels.take(labels.split == split) for split in ("Val", "Test")}
    aligned = {split: align(predictions, part.clip_id) for split, part in by_split.items()}
    write_predictions(folder / "val.parquet", aligned["Val"])
    write_predictions(folder / "test.parquet", aligned["Test"])
    record = {
        "val": score(by_split["Val"], aligned["Val"]).to_json(),
        "best_epoch": best_epoch,
        "n_epochs": n_epochs,
    }
    write_text(folder / "metrics.json", json.dumps(record, indent=1) + "\n")
