"""The layout of Tables 1 to 4: cells and notes."""

from collections.abc import Sequence

import numpy as np

from exvo.evaluation.bootstrap import METRICS, SpeakerBootstrap
from exvo.evaluation.intervals import MIN_SPEAKERS
from exvo.report.tables.paper import AsPrinted, Figures, paper_figures
from exvo.report.tables.sheet import DASH, Grid, Sheet, estimate, number, signed
from exvo.report.tables.systems_table import COUNTS, TableRow, TableSpec

PLACES = {"uar": 3, "mae": 2, "ccc": 3, "s_mtl": 3}
BLIND = "blind"
METRICS_NOTE = (
    "UAR of the country (higher is better), MAE of the age in years (lower is better), CCC of emotion, averaged over "
    "emotions (higher is better). S_MTL is the harmonic mean of UAR, 1/MAE and CCC, computed for each seed (higher is "
    "better)."
)
SEEDS_NOTE = (
    "Fusions, and rows marked 'seeds averaged', average the seeds of each system before scoring. Their SD is that of "
    "the same fusion made from one seed of each system at a time; for a feature fusion, of its own seeds."
)
OUT_OF_FOLD_NOTE = (
    "Late-fusion weights are fitted on the validation set, so scores of fusions on validation are out-of-fold: each "
    "speaker is predicted with weights fitted on the other speakers."
)


def systems_sheet(
    spec: TableSpec, rows: Sequence[TableRow], notes: Sequence[str] = (), reference: str | None = None
) -> Sheet:
    """Lay out a table.

    Parameters
    ----------
    spec : TableSpec
    rows : sequence of TableRow
    notes : sequence of str
        Lines under the table.
    reference : str, optional
        As given to `table_rows`.
    """
    grids = [_grid(spec, rows)]
    compared = [row for row in rows if row.differences]
    if compared:
        grids.append(
            Grid(
                [spec.row_header, "UAR", "MAE", "CCC", "S_MTL"],
                [
                    [row.name, *(signed(row.differences[metric], PLACES[metric]) for metric in METRICS)]
                    for row in compared
                ],
                f"Difference from {reference}, on the same speakers",
                folded=True,
            )
        )
    blind = any(row.blind for row in rows)
    gaps = [] if blind else [*_undefined(rows), *_missing(rows, spec.split)]
    return Sheet(
        spec.title,
        grids,
        [METRICS_NOTE, spec.note, *gaps, *notes],
        _csv_columns(spec),
        [_csv_row(spec, row) for row in rows],
    )


def interval_notes(source: SpeakerBootstrap, split: str) -> list[str]:
    """Describe the cells, how intervals were computed, and where they may be too narrow.

    Parameters
    ----------
    source : SpeakerBootstrap
        Of the scored clips.
    split : str
        The scored split, in words.
    """
    config = source.config
    lines = [
        f"Cells: mean over seeds [{config.confidence:.0%} confidence interval] ± SD over seeds (n - 1; none for one "
        "seed). Clips and speakers: those with a label of country / age / emotion, one number where all are equal.",
        f"Intervals and p-values: percentile bootstrap over speakers, {config.resamples:,} resamples (seed "
        f"{config.seed}), widened for small numbers of speakers, none below {MIN_SPEAKERS} speakers. All seeds and "
        "systems use the same resamples. UAR and CCC are means over the countries and emotions in a resample.",
    ]
    few = source.few_speakers()
    if few:
        names = ", ".join(f"{name} ({n})" for name, n in few.items())
        lines.append(
            f"Countries of {split} with fewer than {MIN_SPEAKERS} speakers: {names}. Intervals and p-values of UAR and "
            "S_MTL may be too narrow, because no resample has other speakers of these countries."
        )
    if source.n_unnamed:
        lines.append(
            f"{source.n_unnamed:,} of {source.n_clips:,} labelled {split} clips have no speaker, and each counts as a "
            "speaker of its own. Intervals are too narrow if these clips are from few speakers."
        )
    return lines


def _paper_cells(figures: AsPrinted | Figures | None, kind: type) -> dict[str, str]:
    """Return the paper's columns of a row, empty where it has none; ``kind`` decides the columns."""
    if kind is AsPrinted:
        names = [*(f"paper_as_printed_{i + 1}" for i in range(3)), "paper_s_mtl"]
    else:
        names = [f"paper_{metric}" for metric in METRICS]
    if figures is None:
        return dict.fromkeys(names, "")
    if isinstance(figures, AsPrinted):
        values: list[float | None] = [*figures.values, figures.s_mtl]
    else:
        values = [getattr(figures, metric) for metric in METRICS]
    return {n: "" if value is None else str(value) for n, value in zip(names, values, strict=True)}


def _kind(spec: TableSpec) -> type:
    return type(next(iter(spec.figures.values())))


def _csv_columns(spec: TableSpec) -> list[str]:
    parts = ("mean", "sd", "low", "high", "diff", "diff_low", "diff_high", "p")
    measured = [f"{metric}_{part}" for metric in METRICS for part in parts]
    speakers = [f"speakers_{count[2:]}" for count in COUNTS]
    return [spec.row_header, "n_seeds", *measured, *COUNTS, *speakers, *_paper_cells(None, _kind(spec))]


def _csv_row(spec: TableSpec, row: TableRow) -> dict[str, str]:
    cells = {spec.row_header: row.name, "n_seeds": str(row.n_seeds)}
    for name in METRICS:
        cells[f"{name}_mean"] = BLIND if row.blind else number(row.mean[name], 4, "")
        cells[f"{name}_sd"] = number(row.sd[name], 4, "")
        if name in row.intervals and np.isfinite(row.mean[name]):
            cells[f"{name}_low"] = number(row.intervals[name].low, 4, "")
            cells[f"{name}_high"] = number(row.intervals[name].high, 4, "")
        if name in row.differences:
            found = row.differences[name]
            named = {"diff": found.value, "diff_low": found.low, "diff_high": found.high, "p": found.p}
            cells |= {f"{name}_{part}": number(value, 4, "") for part, value in named.items()}
    cells |= {name: str(row.n[name]) for name in COUNTS}
    cells |= {f"speakers_{name[2:]}": str(row.n_speakers[name]) for name in COUNTS}
    return cells | _paper_cells(paper_figures(row.name, spec.figures), _kind(spec))


def _grid(spec: TableSpec, rows: Sequence[TableRow]) -> Grid:
    header = [spec.row_header, "UAR", "MAE", "CCC", "S_MTL", "seeds", "clips", "speakers"]
    if _kind(spec) is AsPrinted:
        header += ["paper, as printed", "paper, S_MTL"]
    else:
        header += [f"paper, {name}" for name in ("UAR", "MAE", "CCC", "S_MTL")]
    lines = []
    for row in rows:
        if row.blind:
            cells = [row.name, *[BLIND] * len(METRICS), DASH, DASH, DASH]
        else:
            cells = [row.name] + [
                estimate(row.mean[m], PLACES[m], row.intervals[m], row.sd[m]) for m in METRICS
            ]
            cells += [str(row.n_seeds)]
            cells += [" / ".join(f"{count[name]:,}" for name in COUNTS) for count in (row.n, row.n_speakers)]
        lines.append(cells + _paper_text(spec, paper_figures(row.name, spec.figures)))
    return Grid(header, lines)


def _paper_text(spec: TableSpec, figures: AsPrinted | Figures | None) -> list[str]:
    if isinstance(figures, AsPrinted):
        first, second, third = figures.values
        return [f"{first:.3f}, {second:.3f}, {third:.2f}", f"{figures.s_mtl:.3f}"]
    if figures is None:
        return [DASH] * (2 if _kind(spec) is AsPrinted else 4)
    values = {name: getattr(figures, name) for name in METRICS}
    return [DASH if value is None else f"{value:.{PLACES[name]}f}" for name, value in values.items()]


def _undefined(rows: Sequence[TableRow]) -> list[str]:
    """Return notes on the resamples in which a metric is undefined."""
    lines = []
    for metric, why in (
        ("uar", "no labels; left out"),
        ("mae", "no labels; left out"),
        ("ccc", "no varying labels; left out"),
        ("s_mtl", "a term is not positive: counted as lower than any value; or no labels: left out"),
    ):
        gaps = [
            f"{row.name} {row.intervals[metric].n_undefined:,}"
            for row in rows
            if np.isfinite(row.mean[metric]) and row.intervals[metric].n_undefined
        ]
        if gaps:
            lines.append(f"Resamples in which {metric.upper()} is undefined ({why}): {', '.join(gaps)}.")
    return lines


def _missing(rows: Sequence[TableRow], split: str) -> list[str]:
    """Return notes on missing numbers, one for all rows with the same reason."""
    gaps: dict[str, list[str]] = {}
    labels = {"uar": ("country", "n_country"), "mae": ("age", "n_age"), "ccc": ("emotion", "n_emotion")}
    for row in rows:
        for name, (task, count) in labels.items():
            if np.isnan(row.mean[name]):
                why = (
                    f"no {split} clip has a label and a prediction"
                    if row.n[count] == 0
                    else "undefined for at least one seed"
                )
                gaps.setdefault(f"{name.upper()} is missing ({task}: {why})", []).append(row.name)
        if np.isnan(row.mean["s_mtl"]):
            why = "S_MTL is missing (a term of at least one seed is missing or not positive)"
            gaps.setdefault(why, []).append(row.name)
    return [f"{gap}: {', '.join(names)}." for gap, names in gaps.items()]
