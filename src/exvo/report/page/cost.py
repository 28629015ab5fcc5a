"""The cost of the run: time and memory by step, from the benchmark files of Snakemake."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from exvo.report.page.drawing import BLUE, log_scale, picture
from exvo.report.page.parts import Part, Section, Table, Words
from exvo.report.tables.sheet import DASH, Grid, number


@dataclass(frozen=True)
class Cost:
    """The jobs of one step, an array per measure; NaN where a job was too short to be measured.

    Attributes
    ----------
    seconds, cpu_seconds : np.ndarray [shape=(n_jobs,)]
    megabytes : np.ndarray [shape=(n_jobs,)]
        Largest resident memory.
    """

    seconds: np.ndarray
    cpu_seconds: np.ndarray
    megabytes: np.ndarray


def read_costs(files: Mapping[str, Sequence[str | Path]]) -> dict[str, Cost]:
    """Read benchmark files.

    Parameters
    ----------
    files : mapping of str to sequence of str or Path
        By step; missing files (their jobs ran elsewhere) are skipped.

    Returns
    -------
    dict of str to Cost
        The steps with at least one file.
    """
    costs = {}
    for step, paths in files.items():
        rows: list[dict[str, str]] = []
        for path in map(Path, paths):
            if path.is_file():
                with path.open(newline="", encoding="utf-8") as file:
                    rows += csv.DictReader(file, delimiter="\t")
        if rows:
            columns = (
                np.array([_number(row[name]) for row in rows]) for name in ("s", "cpu_time", "max_rss")
            )
            costs[step] = Cost(*columns)
    return costs


def cost_section(files: Mapping[str, Sequence[str | Path]]) -> Section:
    """Show time and memory; arguments as of `read_costs`."""
    costs = read_costs(files)
    lead = "Time and memory of the jobs behind this report, measured when they ran."
    if not costs:
        return Section(
            "cost", "Cost", lead, [Words("There are no benchmark files under results/benchmarks.")]
        )
    parts: list[Part] = []
    missing = [step for step in files if step not in costs]
    if missing:
        parts.append(Words(f"Without benchmark files: {', '.join(missing)}."))
    lines = [
        [
            step,
            f"{len(cost.seconds):,}",
            duration(np.nansum(cost.seconds)),
            duration(_most(cost.seconds)),
            duration(np.nansum(cost.cpu_seconds)),
            number(_most(cost.megabytes), 0, DASH),
        ]
        for step, cost in costs.items()
    ]
    total = [
        np.nansum([np.nansum(getattr(c, name)) for c in costs.values()])
        for name in ("seconds", "cpu_seconds")
    ]
    peak = _most(np.concatenate([cost.megabytes for cost in costs.values()]))
    n_jobs = sum(len(cost.seconds) for cost in costs.values())
    lines.append(["all", f"{n_jobs:,}", duration(total[0]), DASH, duration(total[1]), number(peak, 0, DASH)])
    header = ["step", "jobs", "time of all jobs", "longest job", "CPU time", "peak memory (MB)"]
    note = "Jobs run in parallel, so a run takes less time than the sum of its jobs."
    parts.append(
        picture(
            "Time by step",
            f"Bars: time of all jobs of {len(costs)} steps.",
            "Total time of the jobs of each step, on a logarithmic scale.",
            (9, 0.25 * len(costs) + 0.8),
            lambda figure: _bars(figure, costs),
        )
    )
    parts.append(Table("Time and memory by step", [Grid(header, lines)], [note]))
    return Section("cost", "Cost", lead, parts)


def duration(seconds: float) -> str:
    """Return a duration as ``0.4 s``, ``12 s``, ``3 min 20 s`` or ``2 h 05 min``; a dash where it is unknown."""
    if not np.isfinite(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"


def _number(text: str) -> float:
    """Return a cell of a benchmark file; Snakemake writes ``-`` or ``NA`` for jobs too short to be measured."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _most(values: np.ndarray) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else float("nan")


def _bars(figure: Figure, costs: Mapping[str, Cost]) -> None:
    axes = figure.subplots()
    seconds = [np.nansum(cost.seconds) for cost in costs.values()]
    axes.barh(range(len(costs)), np.maximum(seconds, 0.1), color=BLUE, height=0.65)
    for row, value in enumerate(seconds):
        axes.text(max(value, 0.1) * 1.08, row, duration(value), va="center", fontsize=8)
    log_scale(axes)
    axes.set_xlim(0.1, max([*seconds, 1]) * 4)
    axes.set_yticks(range(len(costs)), list(costs))
    axes.invert_yaxis()
    axes.grid(True, axis="x")
    axes.set_xlabel("seconds")
