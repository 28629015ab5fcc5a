"""What the submission says of the validation clips, beside what is true: age, country and emotion."""

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
from exvo.report.page.parts import Picture, Section, Words

# With more clips, dots would cover each other.
MAX_DOTS = 2000


def answers_section(
    labels: Labels, predictions: Predictions, submitted: str, emotions: str | Path
) -> Section:
    """Draw predicted against true age, countries and the emotions.

    Parameters
    ----------
    labels : Labels
        Of the Val clips.
    predictions : Predictions
        Of the same clips, out-of-fold.
    submitted : str
        Whose these are.
    emotions : str or Path
        The CSV of the table of emotions.
    """
    answers = align(predictions, labels.clip_id)
    lead = f"Answers of {submitted} for validation, each clip by what was learned from other speakers."
    parts = [_age(labels, answers), _country(labels, answers), _emotions(emotions, submitted)]
    return Section("answers", "Predictions", lead, parts)


def _age(labels: Labels, answers: Predictions) -> Picture | Words:
    known = np.isfinite(labels.age)
    if not known.any():
        return Words("Age: no validation clip has a label, so there is nothing to compare.")
    true, said = labels.age[known], answers.age[known]
    if not np.isfinite(said).all():
        return Words("Age: the submission does not predict it.")

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        limits = (min(true.min(), said.min()) - 1, max(true.max(), said.max()) + 1)
        if len(true) > MAX_DOTS:
            image = axes.hexbin(true, said, gridsize=40, mincnt=1, cmap="cividis_r", linewidths=0.1)
            figure.colorbar(image, label="clips")
        else:
            axes.plot(true, said, "o", color=BLUE, alpha=0.45, markersize=4, markeredgewidth=0)
        axes.plot(limits, limits, "--", color=GREY, linewidth=1)
        axes.set(xlim=limits, ylim=limits, xlabel="true age (years)", ylabel="predicted age (years)")
        axes.set_aspect("equal")
        axes.grid(True)

    error = np.abs(said - true).mean()
    return picture(
        "Predicted against true age",
        f"Predicted against true age of {len(true)} clips; mean absolute error {error:.2f} years.",
        f"{len(true):,} clips; the mean absolute error is {error:.2f} years, and {_constant_error(true):.2f} for "
        "always saying the median. On the dashed line a prediction is right; a flat cloud means that ages are guessed "
        "near their mean.",
        (4.6, 4.2),
        paint,
        wide=False,
    )


def _constant_error(true: np.ndarray) -> float:
    return float(np.abs(true - np.median(true)).mean())


def confusion(target: np.ndarray, said: np.ndarray, n_classes: int) -> np.ndarray:
    """Count clips by true (row) and predicted (column) class.

    Parameters
    ----------
    target, said : np.ndarray [shape=(n,), int]
        Class indices; clips with a target of -1 are left out.
    n_classes : int

    Returns
    -------
    np.ndarray [shape=(n_classes, n_classes), int64]
    """
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    known = target >= 0
    np.add.at(counts, (target[known], said[known]), 1)
    return counts


def _country(labels: Labels, answers: Predictions) -> Picture | Words:
    names = [country.name for country in labels.countries]
    if not (labels.country >= 0).any():
        return Words("Country: no validation clip has a label, so there is nothing to compare.")
    said = predicted_class(answers.country)
    if (said[labels.country >= 0] < 0).any():
        return Words("Country: the submission does not predict it.")
    counts = confusion(labels.country, said, len(names))
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
        f"Each row holds the clips of one country ({n_true.sum():,} in all): the share and number taken for each. "
        "The mean of the diagonal is the UAR; countries that are taken for each other stand out beside it.",
        (4.6, 4.2),
        paint,
        wide=False,
    )


def _emotions(path: str | Path, submitted: str) -> Picture | Words:
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_candidate: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        by_candidate.setdefault(row["candidate"], {})[row["emotion"]] = row
    # The best single system stands last in the table, unless it is what was submitted.
    shown = list(dict.fromkeys([submitted, list(by_candidate)[-1]]))
    known = [name for name in EMOTIONS if by_candidate[submitted][name]["ccc"]]
    if not known:
        return Words("Emotion: no emotion has a CCC on validation, for want of labels or of predictions.")
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
    without = f" Without a CCC, for want of labels: {', '.join(missing)}." if missing else ""
    best, worst = order[0], order[-1]
    return picture(
        "Emotions",
        f"CCC of {len(order)} emotions with intervals; highest {best}, lowest {worst}.",
        f"CCC of each emotion with its confidence interval over speakers, the easiest first. {best} is recognised "
        f"best and {worst} worst; which emotions are taken for which is in the table of the ten emotions.{without}",
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
