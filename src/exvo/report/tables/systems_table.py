"""Tables 1 to 4: scores of systems on validation or on Test, with intervals, beside the results of the paper.

The organisers report the best of several seeds. We report mean and SD over seeds, a confidence interval over speakers,
and the numbers of clips and speakers. Each row is compared with a reference row on the same resamples of speakers. The
paper's results have columns of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from exvo.evaluation.bootstrap import METRICS, TASK_OF, Draws, difference
from exvo.evaluation.intervals import Difference, Interval
from exvo.evaluation.metrics import Scores
from exvo.evaluation.seeds import sd_over_seeds, values
from exvo.report.tables import paper
from exvo.report.tables.paper import AsPrinted, Figures, paper_figures

COUNTS = ("n_country", "n_age", "n_emotion")


@dataclass(frozen=True)
class TableSpec:
    """The specification of one of the tables.

    Attributes
    ----------
    title : str
    row_header : str
        Header of the first column.
    figures : mapping of str to AsPrinted or Figures
        The paper's results by row, in the order of the table.
    note : str
        About the paper's results.
    split : str
        The scored split, in words.
    reference : str or None
        The row that the others are compared with; None takes the first.
    """

    title: str
    row_header: str
    figures: Mapping[str, AsPrinted | Figures]
    note: str
    split: str = "validation"
    reference: str | None = None


TABLES = {
    "table1": TableSpec(
        "Table 1. The organisers' network on ComParE 2016 functionals, by stage, on validation",
        "stage",
        paper.TABLE1,
        "Paper: its results on H-VB, as printed. Its header says Country, Age, Emotion, but the first two rows appear "
        "to be CCC, UAR, MAE. The paper does not show which of the first two values is CCC and which is UAR.",
    ),
    "table2": TableSpec(
        "Table 2. Single-task and multitask training, on validation",
        "tasks",
        paper.TABLE2,
        "Paper: HuBERT on H-VB, as printed. Its multitask CCC disagrees with its Table 3.",
        reference="multitask",
    ),
    "table3": TableSpec(
        "Table 3. Encoders and training choices, on validation",
        "system",
        paper.TABLE3,
        "Paper: its results on H-VB, as printed.",
    ),
    "table4": TableSpec(
        "Table 4. Single systems and fusions, on Test",
        "system",
        paper.TABLE4,
        "Paper: its results on H-VB, as printed; its fusion (HuBERT + STRF) is shown beside our fusion by the same "
        "rule. Averaging seeds improves the scores by itself, so compare a fusion with a row marked 'seeds averaged'.",
        split="Test",
    ),
}


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes
    ----------
    name : str
    n_seeds : int
    mean, sd : dict of str to float
        By metric, ``uar``, ``mae``, ``ccc`` and ``s_mtl``. A mean is NaN if a seed lacks the metric; an SD also if
        there is one seed.
    n, n_speakers : dict of str to int
        Clips that ``n_country``, ``n_age`` and ``n_emotion`` count, and their speakers (a clip without one counts
        as its own).
    intervals : dict of str to Interval
        By metric.
    differences : dict of str to Difference
        By metric, this row minus the reference row; empty for the reference row.
    blind : bool
        Whether there were no labels to score with.
    """

    name: str
    n_seeds: int
    mean: Mapping[str, float]
    sd: Mapping[str, float]
    n: Mapping[str, int]
    n_speakers: Mapping[str, int]
    intervals: Mapping[str, Interval]
    differences: Mapping[str, Difference] = field(default_factory=dict)
    blind: bool = False


def table_rows(
    spec: TableSpec,
    scores: Mapping[str, Sequence[Scores]],
    draws: Mapping[str, Draws],
    reference: str | None = None,
    averaged: Mapping[str, tuple[int, Mapping[str, float]]] | None = None,
) -> list[TableRow]:
    """Summarise scores over seeds: rows in the order of the paper, then the others.

    Parameters
    ----------
    spec : TableSpec
    scores : mapping of str to sequence of Scores
        By row, one per seed; only the rows that were run.
    draws : mapping of str to Draws
        By row: the same seeds on resampled speakers.
    reference : str, optional
        The row that the others are compared with; None for no comparison.
    averaged : mapping of str to (int, mapping of str to float), optional
        For rows whose seeds were averaged before scoring: the number of seeds, and the SD over seeds by metric.

    Raises
    ------
    ValueError
        If a row has no seeds, or its seeds were scored on different numbers of clips.
    """
    rows = []
    for name in row_order(spec, scores):
        seeds = scores[name]
        if not seeds:
            raise ValueError(f"{spec.title}: {spec.row_header} {name!r} has no seeds")
        counts = {tuple(getattr(seed, count) for count in COUNTS) for seed in seeds}
        if len(counts) > 1:
            raise ValueError(
                f"{spec.title}: the seeds of {spec.row_header} {name!r} were scored on different clips: {counts}"
            )
        n = dict(zip(COUNTS, counts.pop(), strict=True))
        n_seeds, sd = (averaged or {}).get(name, (len(seeds), sd_over_seeds(seeds)))
        found = [values(seed) for seed in seeds]
        rows.append(
            TableRow(
                name=name,
                n_seeds=n_seeds,
                mean={metric: float(np.mean([one[metric] for one in found])) for metric in METRICS},
                sd={metric: sd.get(metric, np.nan) for metric in METRICS},
                n=n,
                n_speakers={
                    f"n_{TASK_OF[m]}": draws[name].n_speakers[m] if n[f"n_{TASK_OF[m]}"] else 0
                    for m in METRICS
                    if m in TASK_OF
                },
                intervals={metric: draws[name].interval(metric) for metric in METRICS},
                differences={}
                if reference is None or name == reference
                else {metric: difference(draws[name], draws[reference], metric) for metric in METRICS},
            )
        )
    return rows


def blind_rows(spec: TableSpec, names: Sequence[str]) -> list[TableRow]:
    """Return the rows of a table without labels to score with."""
    nothing = dict.fromkeys(METRICS, float("nan"))
    zero = dict.fromkeys(COUNTS, 0)
    return [
        TableRow(name, 0, nothing, nothing, zero, zero, {}, blind=True)
        for name in row_order(spec, dict.fromkeys(names))
    ]


def row_order(spec: TableSpec, rows: Mapping[str, object]) -> list[str]:
    """Return the names of rows in the order of the paper, then the others."""
    places = {name: place for place, name in enumerate(spec.figures)}

    def place(row: str) -> int:
        found = paper_figures(row, places)
        return len(places) if found is None else found

    return sorted(rows, key=place)


def reference_row(spec: TableSpec, rows: Mapping[str, object]) -> str | None:
    """Return the row that the others are compared with: the one named by the table, else the first.

    It is fixed before scoring: a reference chosen by its score would make p-values too small.
    """
    if spec.reference is not None:
        return spec.reference if spec.reference in rows else None
    return next(iter(row_order(spec, rows)), None)
