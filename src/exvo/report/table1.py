"""Table 1: the organisers' network on ComParE 2016 per stage, on validation, beside the paper's figures.

Ours are the mean and the standard deviation over seeds (the organisers quote the best of several seeds), with
the number of clips each metric rests on. The paper's stand in columns of their own, marked as the paper's.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exvo.files import write_text
from exvo.metrics import Scores, s_mtl
from exvo.report.paper import TABLE1

METRICS = ("uar", "mae", "ccc", "s_mtl")
COUNTS = ("n_country", "n_age", "n_emotion")
CSV_COLUMNS = (
    *("stage", "n_seeds"),
    *(f"{metric}_{part}" for metric in METRICS for part in ("mean", "sd")),
    *COUNTS,
    *("paper_as_printed_1", "paper_as_printed_2", "paper_as_printed_3", "paper_s_mtl"),
)
PLACES = {"uar": 3, "mae": 2, "ccc": 3, "s_mtl": 3}
DASH = "\N{EN DASH}"
TITLE = "Table 1. The organisers' network on ComParE 2016 functionals, by stage, on validation"
ALWAYS_NOTED = (
    "UAR of the country (higher is better), MAE of the age in years (lower), CCC of emotion, mean over "
    "emotions (higher), S_MTL the harmonic mean of UAR, 1/MAE and CCC, computed for each seed (higher).",
    "Ours: mean ± standard deviation over seeds (n - 1; none for one seed), each seed at its best validation "
    "epoch. Clips: validation clips with a label of country / age / emotion.",
    "Paper: its figures for H-VB, as printed. Its header says Country, Age, Emotion, but the first two rows "
    "read as CCC, UAR, MAE; which of the first two is CCC and which UAR cannot be settled from the paper.",
)


@dataclass(frozen=True)
class Table1Row:
    """One stage of Table 1.

    Attributes
    ----------
    stage : str
    n_seeds : int
    mean, deviation : dict of str to float
        By metric, ``uar``, ``mae``, ``ccc`` and ``s_mtl``. A mean is NaN if a seed lacks the metric, a
        deviation also if there is one seed.
    n : dict of str to int
        Clips that ``n_country``, ``n_age`` and ``n_emotion`` count.
    """

    stage: str
    n_seeds: int
    mean: dict[str, float]
    deviation: dict[str, float]
    n: dict[str, int]


def table1_rows(scores: Mapping[str, Sequence[Scores]]) -> list[Table1Row]:
    """Summarise validation scores over seeds, stages in the paper's order, others after them.

    Parameters
    ----------
    scores : mapping of str to sequence of Scores
        By stage, one per seed; only the stages that were run.

    Raises
    ------
    ValueError
        If a stage has no seeds, or its seeds were scored on different numbers of clips.
    """
    order = [stage for stage in TABLE1 if stage in scores] + [
        stage for stage in scores if stage not in TABLE1
    ]
    rows = []
    for stage in order:
        seeds = scores[stage]
        if not seeds:
            raise ValueError(f"Table 1: stage {stage!r} has no seeds")
        counts = {tuple(getattr(seed, name) for name in COUNTS) for seed in seeds}
        if len(counts) > 1:
            raise ValueError(
                f"Table 1: the seeds of stage {stage!r} were scored on different clips: {counts}"
            )
        values = np.array([[s.uar, s.mae, s.ccc, s_mtl(s.ccc, s.uar, s.mae)] for s in seeds])
        deviation = values.std(axis=0, ddof=1) if len(seeds) > 1 else np.full(len(METRICS), np.nan)
        rows.append(
            Table1Row(
                stage=stage,
                n_seeds=len(seeds),
                mean=dict(zip(METRICS, values.mean(axis=0).tolist(), strict=True)),
                deviation=dict(zip(METRICS, deviation.tolist(), strict=True)),
                n=dict(zip(COUNTS, counts.pop(), strict=True)),
            )
        )
    return rows


def write_table1(
    rows: Sequence[Table1Row], csv_path: Path | str, md_path: Path | str, notes: Sequence[str] = ()
) -> None:
    """Write Table 1 as CSV (a missing number is empty) and as Markdown (a missing number is a dash).

    Parameters
    ----------
    rows : sequence of Table1Row
    csv_path, md_path : Path or str
    notes : sequence of str
        Lines under the Markdown table: which stages were left out and why, which tasks lack labels.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(row) for row in rows)
    write_text(csv_path, table.getvalue())
    lines = [f"{TITLE}.", "", *_markdown(rows), ""]
    lines += [f"- {note}" for note in (*ALWAYS_NOTED, *_missing(rows), *notes)]
    write_text(md_path, "\n".join(lines) + "\n")


def _csv_row(row: Table1Row) -> dict[str, str]:
    cells = {"stage": row.stage, "n_seeds": str(row.n_seeds)}
    for name in METRICS:
        cells[f"{name}_mean"] = _number(row.mean[name], 4, "")
        cells[f"{name}_sd"] = _number(row.deviation[name], 4, "")
    cells |= {name: str(row.n[name]) for name in COUNTS}
    paper = TABLE1.get(row.stage)
    for i in range(3):
        cells[f"paper_as_printed_{i + 1}"] = str(paper.values[i]) if paper else ""
    return cells | {"paper_s_mtl": str(paper.s_mtl) if paper else ""}


def _markdown(rows: Sequence[Table1Row]) -> list[str]:
    header = ["stage", "UAR", "MAE", "CCC", "S_MTL", "seeds", "clips", "paper, as printed", "paper, S_MTL"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for row in rows:
        cells = [row.stage]
        for name in METRICS:
            mean, deviation = (_number(v[name], PLACES[name], DASH) for v in (row.mean, row.deviation))
            cells.append(mean if deviation == DASH else f"{mean} ± {deviation}")
        cells += [str(row.n_seeds), " / ".join(f"{row.n[name]:,}" for name in COUNTS)]
        paper = TABLE1.get(row.stage)
        if paper:
            first, second, third = paper.values
            cells += [f"{first:.3f}, {second:.3f}, {third:.2f}", f"{paper.s_mtl:.3f}"]
        else:
            cells += [DASH, DASH]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _missing(rows: Sequence[Table1Row]) -> list[str]:
    """Say why a number is missing, stages with the same gaps together."""
    gaps: dict[str, list[str]] = {}
    labels = {"uar": ("country", "n_country"), "mae": ("age", "n_age"), "ccc": ("emotion", "n_emotion")}
    for row in rows:
        for name, (task, count) in labels.items():
            if np.isnan(row.mean[name]):
                why = (
                    "no validation clip has a label and a prediction"
                    if row.n[count] == 0
                    else "undefined for at least one seed"
                )
                gaps.setdefault(f"{name.upper()} is missing ({task}: {why})", []).append(row.stage)
        if np.isnan(row.mean["s_mtl"]):
            why = "S_MTL is missing (a term of at least one seed is missing or not positive)"
            gaps.setdefault(why, []).append(row.stage)
    return [f"{gap}: {', '.join(stages)}." for gap, stages in gaps.items()]


def _number(value: float, places: int, missing: str) -> str:
    return f"{value:.{places}f}" if np.isfinite(value) else missing
