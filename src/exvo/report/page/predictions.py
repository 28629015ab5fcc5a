"""The submission on validation: CCC by emotion, and predictions against labels of age and country."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exvo.corpus.labels import EMOTIONS, Labels
from exvo.evaluation.metrics import predicted_class
from exvo.evaluation.predictions import Predictions, align
from exvo.report.page.drawing import BLUE, GREY, ORANGE, picture
from exvo.report.page.parts import Picture, Section, Table, Words

# With more clips, dots would overlap.
MAX_DOTS = 2000


def emotions_section(
    emotions: str | Path, submitted: str, best_single: str, tables: Sequence[Table]
) -> Section:
    """Show the CCC of each emotion.

    Parameters
    ----------
    emotions : str or Path
        The CSV of the table of emotions.
    submitted, best_single : str
        Names of the submission and of the best single system.
    tables : sequence of Table
        The table of emotions.
    """
    lead = f"Out-of-fold predictions of {submitted} on validation."
    return Section("emotions", "Emotions", lead, [_emotions(emotions, submitted, best_single), *tables])


def groups_section(
    labels: Labels, predictions: Predictions, submitted: str, tables: Sequence[Table]
) -> Section:
    """Show predicted against true age and country, and the scores of groups of clips.

    Parameters
    ----------
    labels : Labels
        Of the Val clips.
    predictions : Predictions
        Of the same clips, out-of-fold.
    submitted : str
        Name of the submission.
    tables : sequence of Table
        The table of groups.
    """
    predicted = align(predictions, labels.clip_id)
    lead = f"Out-of-fold predictions of {submitted} on validation, by country, age and noise level."
    return Section("groups", "Groups", lead, [_age(labels, predicted), _country(labels, predicted), *tables])


def _age(labels: Labels, predictions: Predictions) -> Picture | Words:
    known = np.isfinite(labels.age)
    if not known.any():
        return Words("Age: no validation clip has a label.")
    true, predicted = labels.age[known], predictions.age[known]
    if not np.isfinite(predicted).all():
        return Words("Age: the submission does not predict it.")

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        limits = (min(true.min(), predicted.min()) - 1, max(true.max(), predicted.max()) + 1)
        if len(true) > MAX_DOTS:
            image = axes.hexbin(true, predicted, gridsize=40, mincnt=1, cmap="cividis_r", linewidths=0.1)
            figure.colorbar(image, label="clips")
        else:
            axes.plot(true, predicted, "o", color=BLUE, alpha=0.45, markersize=4, markeredgewidth=0)
        axes.plot(limits, limits, "--", color=GREY, linewidth=1)
        axes.set(xlim=limits, ylim=limits, xlabel="true age (years)", ylabel="predicted age (years)")
        axes.set_aspect("equal")
        axes.grid(True)

    error = np.abs(predicted - true).mean()
    return picture(
        "Predicted against true age",
        f"Predicted against true age of {len(true)} clips; mean absolute error {error:.2f} years.",
        f"{len(true):,} clips. The mean absolute error is {error:.2f} years; that of the median, a constant, is "
        f"{_constant_error(true):.2f}. Predictions on the dashed line are correct. A horizontal cloud shows "
        "predictions near the mean age.",
        (4.6, 4.2),
        paint,
        wide=False,
    )


def _constant_error(true: np.ndarray) -> float:
    return float(np.abs(true - np.median(true)).mean())


def confusion(target: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count clips by true (row) and predicted (column) class.

    Parameters
    ----------
    target, predicted : np.ndarray [shape=(n,), int]
        Class indices; clips with a target of -1 are left out.
    n_classes : int

    Returns
    -------
    np.ndarray [shape=(n_classes, n_classes), int64]
    """
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    known = target >= 0
    np.add.at(counts, (target[known], predicted[known]), 1)
    return counts


def _country(labels: Labels, predictions: Predictions) -> Picture | Words:
    names = [country.name for country in labels.countries]
    if not (labels.country >= 0).any():
        return Words("Country: no validation clip has a label.")
    predicted = predicted_class(predictions.country)
    if (predicted[labels.country >= 0] < 0).any():
        return Words("Country: the submission does not predict it.")
    counts = confusion(labels.country, predicted, len(names))
    n_true = counts.sum(axis=1)
    shares = counts / np.maximum(n_true, 1)[:, None]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*shares.shape):
            text = f"{shares[row, column]:.0%}\n{counts[row, column]:,}" if n_true[row] else "no clips"
            colour = "white" if shares[row, column] > 0.55 else "#222222"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true")

    recalls = "; ".join(f"{n} {shares[i, i]:.0%}" for i, n in enumerate(names) if n_true[i])
    return picture(
        "Countries: true and predicted",
        f"Recall by country: {recalls}.",
        f"Confusion matrix of {n_true.sum():,} clips: a row has the clips of one country, with the share and number "
        "predicted as each country. The mean of the diagonal is the UAR.",
        (4.6, 4.2),
        paint,
        wide=False,
    )


def _emotions(path: str | Path, submitted: str, best_single: str) -> Picture | Words:
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_candidate: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        by_candidate.setdefault(row["candidate"], {})[row["emotion"]] = row
    shown = list(dict.fromkeys([submitted, best_single]))
    known = [name for name in EMOTIONS if by_candidate[submitted][name]["ccc"]]
    if not known:
        return Words(
            "Emotion: no emotion has a CCC on validation, because labels or predictions are missing."
        )
    order = sorted(known, key=lambda name: -float(by_candidate[submitted][name]["ccc"]))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        width = 0.8 / len(shown)
        for i, (candidate, colour) in enumerate(zip(shown, (BLUE, ORANGE), strict=False)):
            _bars(
                axes, [by_candidate[candidate][name] for name in order], i * width, width, colour, candidate
            )
        axes.set_xticks(np.arange(len(order)) + 0.4 - width / 2, order)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_ylabel("CCC")
        axes.grid(True, axis="y")
        figure.legend(loc="outside upper right", ncols=2)

    missing = [name for name in EMOTIONS if name not in known]
    without = f" Without a CCC, because labels are missing: {', '.join(missing)}." if missing else ""
    best, worst = order[0], order[-1]
    return picture(
        "CCC by emotion",
        f"CCC of {len(order)} emotions with intervals; highest {best}, lowest {worst}.",
        f"CCC of each emotion with its confidence interval over speakers. {best} has the highest CCC and {worst} the "
        f"lowest.{without}",
        (10.5, 3.4),
        paint,
    )


def _bars(
    axes: Axes, rows: Sequence[Mapping[str, str]], shift: float, width: float, colour: str, label: str
) -> None:
    values = np.array([float(row["ccc"] or "nan") for row in rows])
    low, high = (np.array([float(row[f"ccc_{end}"] or "nan") for row in rows]) for end in ("low", "high"))
    places = np.arange(len(rows)) + shift
    axes.bar(places, values, width * 0.92, color=colour, label=label)
    there = np.isfinite(low) & np.isfinite(high)
    axes.vlines(places[there], low[there], high[there], color="#333333", linewidth=1.2)
