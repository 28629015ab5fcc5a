"""How the systems learned: score and loss on Val over the epochs."""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exvo.report.page.drawing import COLOURS, picture
from exvo.report.page.parts import Section, Words

COLUMNS = 5


@dataclass(frozen=True)
class Course:
    """The training of one seed: columns of its history by name (NaN where empty), and the epoch kept, from 1."""

    history: Mapping[str, Sequence[float]]
    best_epoch: int


def read_course(folder: str | Path) -> Course:
    """Read the training of one seed from the folder of its results."""
    with Path(folder, "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else ())}
    metrics = json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8"))
    return Course(columns, int(metrics["best_epoch"]))


def training_section(folders: Mapping[str, Mapping[int, str | Path]]) -> Section:
    """Draw the courses of all systems.

    Parameters
    ----------
    folders : mapping of str to mapping of int to str or Path
        Folder of the results by system and seed.
    """
    courses = {
        name: {seed: read_course(folder) for seed, folder in seeds.items()} for name, seeds in folders.items()
    }
    trained = {
        name: seeds for name, seeds in courses.items() if any(course.history for course in seeds.values())
    }
    lead = "Systems and feature fusions are trained with each seed, and the epoch with the best validation is kept."
    parts: list = []
    if not trained:
        parts.append(Words("No system has a history of its training: there is nothing to draw."))
    else:
        if len(trained) < len(courses):
            left = ", ".join(name for name in courses if name not in trained)
            parts.append(Words(f"Without a history of training, and so not drawn: {left}."))
        parts += [
            picture(
                "Validation score by epoch",
                f"Curves of the score on validation over the epochs of {len(trained)} systems, a line a seed.",
                "The score by which an epoch is chosen (S_MTL; where a task has no score, the harmonic mean of the "
                "others' terms), a line for each seed. The dot marks the epoch that was kept; a curve still climbing "
                "at its end would have gained from more epochs.",
                _size(len(trained)),
                lambda figure: _grid(figure, trained, _score),
            ),
            picture(
                "Loss by epoch",
                f"Curves of the loss on validation, and on training where it is known, of {len(trained)} systems.",
                "Loss on validation (whole lines) and on training (dashed, where the history has it), each system in "
                "its own units. A validation loss that rises while the training loss falls is overfitting.",
                _size(len(trained)),
                lambda figure: _grid(figure, trained, _loss),
            ),
        ]
    return Section("training", "Training", lead, parts)


def _size(n: int) -> tuple[float, float]:
    return 10.5, 1.9 * math.ceil(n / COLUMNS) + 0.6


def _grid(
    figure: Figure, courses: Mapping[str, Mapping[int, Course]], draw: Callable[[Axes, Course, str], Artist]
) -> None:
    n_columns = min(COLUMNS, len(courses))
    n_rows = math.ceil(len(courses) / n_columns)
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=draw is _score).ravel()
    for axes in panels[len(courses) :]:
        axes.set_axis_off()
    handles: dict[str, Artist] = {}
    for axes, (name, seeds) in zip(panels, courses.items(), strict=False):
        axes.set_title(name if len(name) <= 26 else f"{name[:25]}\N{HORIZONTAL ELLIPSIS}", loc="left")
        axes.grid(True)
        axes.tick_params(labelleft=True)
        axes.locator_params(axis="x", integer=True, nbins=5)
        for (seed, course), colour in zip(seeds.items(), COLOURS * len(seeds), strict=False):
            if course.history:
                handles.setdefault(f"seed {seed}", draw(axes, course, colour))
    figure.supxlabel("epoch", fontsize=9)
    figure.legend(list(handles.values()), list(handles), loc="outside upper right", ncols=8)


def _score(axes: Axes, course: Course, colour: str) -> Artist:
    epochs, score = course.history["epoch"], course.history["val_selection"]
    (line,) = axes.plot(epochs, score, color=colour, linewidth=1.2)
    for epoch, value in zip(epochs, score, strict=True):
        if epoch == course.best_epoch:
            axes.plot([epoch], [value], "o", color=colour, markersize=4)
    return line


def _loss(axes: Axes, course: Course, colour: str) -> Artist:
    epochs = course.history["epoch"]
    (line,) = axes.plot(epochs, course.history["val_loss"], color=colour, linewidth=1.2)
    if "loss" in course.history:
        axes.plot(epochs, course.history["loss"], "--", color=colour, linewidth=1)
    return line
