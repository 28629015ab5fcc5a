"""CCC per emotion, and confusions between emotions (section 4.4 of the paper)."""

from collections.abc import Mapping, Sequence

import numpy as np

from exvo.corpus.labels import EMOTIONS, Labels
from exvo.evaluation.bootstrap import Draws
from exvo.evaluation.predictions import Predictions
from exvo.evaluation.speakers import speaker_index
from exvo.report.tables.sheet import DASH, Grid, Sheet, estimate, number

N_CONFUSED = 2


def emotion_correlations(labels: Labels, predictions: Predictions) -> np.ndarray:
    """Correlate every predicted emotion with every labelled emotion.

    Parameters
    ----------
    labels : Labels
    predictions : Predictions
        Of the same clips in the same order.

    Returns
    -------
    np.ndarray [shape=(10, 10)]
        Pearson's r of predicted emotion (row) and labelled emotion (column), over the clips labelled with the
        latter. NaN where labels or predictions do not vary.
    """
    found = np.full((len(EMOTIONS), len(EMOTIONS)), np.nan)
    for column, target in enumerate(labels.emotion.T):
        known = ~np.isnan(target)
        if not known.any():
            continue
        off_target = target[known] - target[known].mean()
        predicted = predictions.emotion[known]
        off = predicted - predicted.mean(axis=0)
        scale = np.sqrt((off**2).sum(axis=0) * (off_target**2).sum())
        np.divide(off_target @ off, scale, out=found[:, column], where=scale > 1e-12)
    return found


def emotion_sheet(
    labels: Labels,
    predictions: Mapping[str, Predictions],
    draws: Mapping[str, Draws],
    sds: Mapping[str, Mapping[str, float]],
    confused_by: str,
    notes: Sequence[str] = (),
) -> Sheet:
    """Lay out CCC per emotion, and the confusions.

    Parameters
    ----------
    labels : Labels
        Of the Val clips.
    predictions, draws : mapping of str to Predictions, and to Draws
        By candidate, in the order of the columns; at least one.
    sds : mapping of str to mapping of str to float
        By candidate, the SD over seeds by emotion and of ``ccc``; empty where there is none.
    confused_by : str
        The candidate whose confusions are shown; the CSV has those of all candidates.
    notes : sequence of str
    """
    known = ~np.isnan(labels.emotion)
    index, _ = speaker_index(labels.speaker)
    n_clips = known.sum(axis=0)
    n_speakers = [len(np.unique(index[known[:, column]])) for column in range(len(EMOTIONS))]
    correlations = {name: emotion_correlations(labels, one) for name, one in predictions.items()}

    def sd(name: str, metric: str) -> float:
        return sds[name].get(metric, np.nan)

    def cell(name: str, metric: str) -> str:
        return estimate(draws[name].value(metric), 3, draws[name].interval(metric), sd(name, metric))

    rows = [
        [
            emotion,
            f"{n_clips[i]:,}",
            f"{n_speakers[i]:,}",
            *(cell(name, emotion) for name in draws),
            _confused(correlations[confused_by], i),
        ]
        for i, emotion in enumerate(EMOTIONS)
    ]
    totals = [DASH, DASH, *(cell(name, "ccc") for name in draws), DASH]
    header = [
        "emotion",
        "clips",
        "speakers",
        *(f"CCC, {name}" for name in draws),
        "confused with",
    ]
    matrix = Grid(
        ["predicted / labelled", *EMOTIONS],
        [
            [emotion, *(number(value, 2, DASH) for value in correlations[confused_by][i])]
            for i, emotion in enumerate(EMOTIONS)
        ],
        f"Correlation of predicted with labelled emotions, {confused_by}",
        folded=True,
    )
    records = [
        {
            "candidate": name,
            "emotion": emotion,
            "ccc": number(draws[name].value(emotion), 4, ""),
            "ccc_low": number(draws[name].interval(emotion).low, 4, ""),
            "ccc_high": number(draws[name].interval(emotion).high, 4, ""),
            "ccc_sd": number(sd(name, emotion), 4, ""),
            "n_clips": str(n_clips[i]),
            "n_speakers": str(n_speakers[i]),
            **{f"r_{other}": number(correlations[name][i, j], 4, "") for j, other in enumerate(EMOTIONS)},
        }
        for name in predictions
        for i, emotion in enumerate(EMOTIONS)
    ]
    own = (
        "Confused with: the other emotions whose labels have the highest positive correlation with the prediction. "
        "Labels of different emotions are themselves correlated."
    )
    return Sheet(
        "Emotions on validation",
        [Grid(header, [*rows, ["mean", *totals]]), matrix],
        [own, *notes],
        list(records[0]),
        records,
    )


def _confused(correlations: np.ndarray, emotion: int) -> str:
    """Name the other emotions whose labels have the highest correlation with a prediction."""
    row = np.where(np.arange(len(EMOTIONS)) == emotion, np.nan, correlations[emotion])
    order = [i for i in np.argsort(-row, kind="stable") if row[i] > 0][:N_CONFUSED]
    return ", ".join(f"{EMOTIONS[i]} {row[i]:.2f}" for i in order) or DASH
