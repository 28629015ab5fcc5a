"""Training curves: score and loss on Val by epoch."""

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
from exvo.report.page.parts import Part, Section, Words

COLUMNS = 5


@dataclass(frozen=True)
class Curves:
    """The training of one seed: its history by column (NaN where empty), and the best epoch, counted from 1."""

    history: Mapping[str, Sequence[float]]
    best_epoch: int


def read_curves(folder: str | Path) -> Curves:
    """Read the training of one seed from the folder of its results."""
    with Path(folder, "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else ())}
    metrics = json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8"))
    return Curves(columns, int(metrics["best_epoch"]))


def training_section(folders: Mapping[str, Mapping[int, str | Path]]) -> Section:
    """Draw the training curves of all systems.

    Parameters
    ----------
    folders : mapping of str to mapping of int to str or Path
        Folder of the results by system and seed.
    """
    curves = {
        name: {seed: read_curves(folder) for seed, folder in seeds.items()} for name, seeds in folders.items()
    }
    trained = {
        name: seeds for name, seeds in curves.items() if any(curve.history for curve in seeds.values())
    }
    lead = "Systems and feature fusions are trained with each seed; the epoch with the best validation score is kept."
    parts: list[Part] = []
    if not trained:
        parts.append(Words("No system has a training history."))
    else:
        if len(trained) < len(curves):
            left = ", ".join(name for name in curves if name not in trained)
            parts.append(Words(f"Not drawn, because they have no training history: {left}."))
        parts += [
            picture(
                "Validation score by epoch",
                f"Curves of the validation score by epoch of {len(trained)} systems, one line per seed.",
                "The score that selects the epoch: S_MTL, or the harmonic mean of the terms of the trained tasks. One "
                "line per seed; the dot marks the best epoch. A curve that still rises at its end indicates too few "
                "epochs.",
                _size(len(trained)),
                lambda figure: _grid(figure, trained, _score),
            ),
            picture(
                "Loss by epoch",
                f"Curves of the loss on validation, and on training where known, of {len(trained)} systems.",
                "Loss on validation (solid) and on training (dashed, where recorded), in the units of each system. A "
                "validation loss that rises while the training loss falls indicates overfitting.",
                _size(len(trained)),
                lambda figure: _grid(figure, trained, _loss),
            ),
        ]
    return Section("training", "Training", lead, parts)


def _size(n: int) -> tuple[float, float]:
    return 10.5, 1.9 * math.ceil(n / COLUMNS) + 0.6


def _grid(
    figure: Figure, curves: Mapping[str, Mapping[int, Curves]], draw: Callable[[Axes, Curves, str], Artist]
) -> None:
    n_columns = min(COLUMNS, len(curves))
    n_rows = math.ceil(len(curves) / n_columns)
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=draw is _score).ravel()
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    handles: dict[str, Artist] = {}
    for axes, (name, seeds) in zip(panels, curves.items(), strict=False):
        axes.set_title(name if len(name) <= 26 else f"{name[:25]}\N{HORIZONTAL ELLIPSIS}", loc="left")
        axes.grid(True)
        axes.tick_params(labelleft=True)
        axes.locator_params(axis="x", integer=True, nbins=5)
        for (seed, curve), colour in zip(seeds.items(), COLOURS * len(seeds), strict=False):
            if curve.history:
                handles.setdefault(f"seed {seed}", draw(axes, curve, colour))
    figure.supxlabel("epoch", fontsize=9)
    figure.legend(list(handles.values()), list(handles), loc="outside upper right", ncols=8)


def _score(axes: Axes, curve: Curves, colour: str) -> Artist:
    epochs, score = curve.history["epoch"], curve.history["val_selection"]
    (line,) = axes.plot(epochs, score, color=colour, linewidth=1.2)
    for epoch, value in zip(epochs, score, strict=True):
        if epoch == curve.best_epoch:
            axes.plot([epoch], [value], "o", color=colour, markersize=4)
    return line


def _loss(axes: Axes, curve: Curves, colour: str) -> Artist:
    epochs = curve.history["epoch"]
    (line,) = axes.plot(epochs, curve.history["val_loss"], color=colour, linewidth=1.2)
    if "loss" in curve.history:
        axes.plot(epochs, curve.history["loss"], "--", color=colour, linewidth=1)
    return line
