"""Tables 1 to 3: systems on validation, mean and deviation over seeds, beside the paper's figures.

The organisers quote the best of several seeds; ours are mean and standard deviation, with the number of clips that
each metric rests on. The paper's figures stand in columns of their own, marked as the paper's.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exvo.files import write_text
from exvo.metrics import Scores, s_mtl
from exvo.report import paper
from exvo.report.paper import AsPrinted, Figures

METRICS = ("uar", "mae", "ccc", "s_mtl")
COUNTS = ("n_country", "n_age", "n_emotion")
PLACES = {"uar": 3, "mae": 2, "ccc": 3, "s_mtl": 3}
DASH = "\N{EN DASH}"
ALWAYS_NOTED = (
    "UAR of the country (higher is better), MAE of the age in years (lower), CCC of emotion, mean over "
    "emotions (higher), S_MTL the harmonic mean of UAR, 1/MAE and CCC, computed for each seed (higher).",
    "Ours: mean ± standard deviation over seeds (n - 1; none for one seed), each seed at its best validation "
    "epoch. Clips: validation clips with a label of country / age / emotion.",
)


@dataclass(frozen=True)
class TableSpec:
    """What is particular to one of the tables.

    Attributes
    ----------
    title : str
    row_header : str
        What a row is.
    figures : mapping of str to AsPrinted or Figures
        The paper's, by row; their order is the table's.
    note : str
        What to know of the paper's figures.
    """

    title: str
    row_header: str
    figures: Mapping[str, AsPrinted | Figures]
    note: str


TABLES = {
    "table1": TableSpec(
        "Table 1. The organisers' network on ComParE 2016 functionals, by stage, on validation",
        "stage",
        paper.TABLE1,
        "Paper: its figures for H-VB, as printed. Its header says Country, Age, Emotion, but the first two rows "
        "read as CCC, UAR, MAE; which of the first two is CCC and which UAR cannot be settled from the paper.",
    ),
    "table2": TableSpec(
        "Table 2. One task at a time against all three, on validation",
        "tasks",
        paper.TABLE2,
        "Paper: HuBERT on H-VB, as printed; its joint CCC disagrees with its Table 3.",
    ),
    "table3": TableSpec(
        "Table 3. Encoders and choices of training, on validation",
        "system",
        paper.TABLE3,
        "Paper: its figures for H-VB, as printed.",
    ),
}


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes
    ----------
    name : str
    n_seeds : int
    mean, deviation : dict of str to float
        By metric, ``uar``, ``mae``, ``ccc`` and ``s_mtl``. A mean is NaN if a seed lacks the metric, a
        deviation also if there is one seed.
    n : dict of str to int
        Clips that ``n_country``, ``n_age`` and ``n_emotion`` count.
    """

    name: str
    n_seeds: int
    mean: dict[str, float]
    deviation: dict[str, float]
    n: dict[str, int]


def table_rows(spec: TableSpec, scores: Mapping[str, Sequence[Scores]]) -> list[TableRow]:
    """Summarise validation scores over seeds, rows in the paper's order, others after them.

    Parameters
    ----------
    spec : TableSpec
    scores : mapping of str to sequence of Scores
        By row, one per seed; only the rows that were run.

    Raises
    ------
    ValueError
        If a row has no seeds, or its seeds were scored on different numbers of clips.
    """
    order = [name for name in spec.figures if name in scores] + [n for n in scores if n not in spec.figures]
    rows = []
    for name in order:
        seeds = scores[name]
        if not seeds:
            raise ValueError(f"{spec.title}: {spec.row_header} {name!r} has no seeds")
        counts = {tuple(getattr(seed, count) for count in COUNTS) for seed in seeds}
        if len(counts) > 1:
            raise ValueError(
                f"{spec.title}: the seeds of {spec.row_header} {name!r} were scored on different clips: {counts}"
            )
        values = np.array([[s.uar, s.mae, s.ccc, s_mtl(s.ccc, s.uar, s.mae)] for s in seeds])
        deviation = values.std(axis=0, ddof=1) if len(seeds) > 1 else np.full(len(METRICS), np.nan)
        rows.append(
            TableRow(
                name=name,
                n_seeds=len(seeds),
                mean=dict(zip(METRICS, values.mean(axis=0).tolist(), strict=True)),
                deviation=dict(zip(METRICS, deviation.tolist(), strict=True)),
                n=dict(zip(COUNTS, counts.pop(), strict=True)),
            )
        )
    return rows


def write_table(
    spec: TableSpec,
    rows: Sequence[TableRow],
    csv_path: Path | str,
    md_path: Path | str,
    notes: Sequence[str] = (),
) -> None:
    """Write a table as CSV (a missing number is empty) and as Markdown (a missing number is a dash).

    Parameters
    ----------
    spec : TableSpec
    rows : sequence of TableRow
    csv_path, md_path : Path or str
    notes : sequence of str
        Lines under the Markdown table: what was left out and why.
    """
    records = [_csv_row(spec, row) for row in rows]
    table = io.StringIO()
    writer = csv.DictWriter(table, _csv_columns(spec), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text(csv_path, table.getvalue())
    lines = [f"{spec.title}.", "", *_markdown(spec, rows), ""]
    lines += [f"- {note}" for note in (*ALWAYS_NOTED, spec.note, *_missing(rows), *notes)]
    write_text(md_path, "\n".join(lines) + "\n")


def _paper_cells(figures: AsPrinted | Figures | None, kind: type) -> dict[str, str]:
    """Return the paper's columns of a row, empty where it has none; ``kind`` says which columns there are."""
    if kind is AsPrinted:
        values = figures.values if figures else ("", "", "")
        cells = {f"paper_as_printed_{i + 1}": value for i, value in enumerate(values)}
        cells["paper_s_mtl"] = figures.s_mtl if figures else ""
    else:
        cells = {f"paper_{metric}": getattr(figures, metric) if figures else "" for metric in METRICS}
    return {name: "" if value is None else str(value) for name, value in cells.items()}


def _kind(spec: TableSpec) -> type:
    return type(next(iter(spec.figures.values())))


def _csv_columns(spec: TableSpec) -> list[str]:
    measured = [f"{metric}_{part}" for metric in METRICS for part in ("mean", "sd")]
    return [spec.row_header, "n_seeds", *measured, *COUNTS, *_paper_cells(None, _kind(spec))]


def _csv_row(spec: TableSpec, row: TableRow) -> dict[str, str]:
    cells = {spec.row_header: row.name, "n_seeds": str(row.n_seeds)}
    for name in METRICS:
        cells[f"{name}_mean"] = _number(row.mean[name], 4, "")
        cells[f"{name}_sd"] = _number(row.deviation[name], 4, "")
    cells |= {name: str(row.n[name]) for name in COUNTS}
    return cells | _paper_cells(spec.figures.get(row.name), _kind(spec))


def _markdown(spec: TableSpec, rows: Sequence[TableRow]) -> list[str]:
    header = [spec.row_header, "UAR", "MAE", "CCC", "S_MTL", "seeds", "clips"]
    if _kind(spec) is AsPrinted:
        header += ["paper, as printed", "paper, S_MTL"]
    else:
        header += [f"paper, {name}" for name in ("UAR", "MAE", "CCC", "S_MTL")]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for row in rows:
        # What a config calls its rows must not end a cell of Markdown.
        cells = [row.name.replace("|", "/")]
        for name in METRICS:
            mean, deviation = (_number(v[name], PLACES[name], DASH) for v in (row.mean, row.deviation))
            cells.append(mean if deviation == DASH else f"{mean} ± {deviation}")
        cells += [str(row.n_seeds), " / ".join(f"{row.n[name]:,}" for name in COUNTS)]
        lines.append("| " + " | ".join(cells + _paper_markdown(spec, spec.figures.get(row.name))) + " |")
    return lines


def _paper_markdown(spec: TableSpec, figures: AsPrinted | Figures | None) -> list[str]:
    if isinstance(figures, AsPrinted):
        first, second, third = figures.values
        return [f"{first:.3f}, {second:.3f}, {third:.2f}", f"{figures.s_mtl:.3f}"]
    if figures is None:
        return [DASH] * (2 if _kind(spec) is AsPrinted else 4)
    values = {name: getattr(figures, name) for name in METRICS}
    return [DASH if value is None else f"{value:.{PLACES[name]}f}" for name, value in values.items()]


def _missing(rows: Sequence[TableRow]) -> list[str]:
    """Say why a number is missing, rows with the same gaps together."""
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
                gaps.setdefault(f"{name.upper()} is missing ({task}: {why})", []).append(row.name)
        if np.isnan(row.mean["s_mtl"]):
            why = "S_MTL is missing (a term of at least one seed is missing or not positive)"
            gaps.setdefault(why, []).append(row.name)
    return [f"{gap}: {', '.join(names)}." for gap, names in gaps.items()]


def _number(value: float, places: int, missing: str) -> str:
    return f"{value:.{places}f}" if np.isfinite(value) else missing
