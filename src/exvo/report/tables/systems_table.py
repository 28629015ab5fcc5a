"""Tables 1 to 4: systems on validation or on Test, with intervals, beside the paper's figures.

The organisers quote the best of several seeds; ours are mean and standard deviation, with a confidence interval over
speakers and the number of clips and speakers that each metric rests on. Each row is compared with a row of reference,
on the same resamples of speakers. The paper's figures stand in columns of their own, marked as the paper's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from exvo.evaluation.bootstrap import METRICS, TASK_OF, Draws, difference
from exvo.evaluation.intervals import Difference, Interval
from exvo.evaluation.metrics import Scores
from exvo.evaluation.seeds import sd_over_seeds, values
from exvo.report.tables import paper
from exvo.report.tables.paper import AsPrinted, Figures, paper_row

COUNTS = ("n_country", "n_age", "n_emotion")


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
    split : str
        What was scored, in words.
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
        "Paper: its figures for H-VB, as printed. Its header says Country, Age, Emotion, but the first two rows "
        "read as CCC, UAR, MAE; which of the first two is CCC and which UAR cannot be settled from the paper.",
    ),
    "table2": TableSpec(
        "Table 2. One task at a time against all three, on validation",
        "tasks",
        paper.TABLE2,
        "Paper: HuBERT on H-VB, as printed; its joint CCC disagrees with its Table 3.",
        reference="multitask",
    ),
    "table3": TableSpec(
        "Table 3. Encoders and choices of training, on validation",
        "system",
        paper.TABLE3,
        "Paper: its figures for H-VB, as printed.",
    ),
    "table4": TableSpec(
        "Table 4. Single systems and their fusions, on Test",
        "system",
        paper.TABLE4,
        "Paper: its figures for H-VB, as printed; those of its fusion (HuBERT + STRF) stand beside fusions by its "
        "rule. Fusions, and rows that say so, average the seeds of their systems before they are scored, which helps "
        "by itself: compare a fusion with such a row, not with the mean of seeds scored one by one. Their deviation "
        "is that of the same fusion made of one seed of each system at a time (of a feature fusion, of its own seeds).",
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
        By metric, ``uar``, ``mae``, ``ccc`` and ``s_mtl``. A mean is NaN if a seed lacks the metric, a
        deviation also if there is one seed.
    n, n_speakers : dict of str to int
        Clips that ``n_country``, ``n_age`` and ``n_emotion`` count, and their speakers (a clip without one counts
        as its own).
    intervals : dict of str to Interval
        By metric.
    differences : dict of str to Difference
        By metric, this row minus the row of reference; empty for that row itself.
    blind : bool
        Whether there was nothing to score with.
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
    apart: Mapping[str, tuple[int, Mapping[str, float]]] | None = None,
) -> list[TableRow]:
    """Summarise scores over seeds, rows in the paper's order, others after them.

    Parameters
    ----------
    spec : TableSpec
    scores : mapping of str to sequence of Scores
        By row, one per seed; only the rows that were run.
    draws : mapping of str to Draws
        By row: the same seeds on resampled speakers.
    reference : str, optional
        The row that the others are compared with; None compares nothing.
    apart : mapping of str to (int, mapping of str to float), optional
        Rows that are one answer made of several seeds: how many these are, and the deviation over them by metric.

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
        n_seeds, spread = (apart or {}).get(name, (len(seeds), sd_over_seeds(seeds)))
        found = [values(seed) for seed in seeds]
        compared = reference is not None and name != reference
        rows.append(
            TableRow(
                name=name,
                n_seeds=n_seeds,
                mean={metric: float(np.mean([one[metric] for one in found])) for metric in METRICS},
                sd={metric: spread.get(metric, np.nan) for metric in METRICS},
                n=n,
                n_speakers={
                    f"n_{TASK_OF[m]}": draws[name].n_speakers[m] if n[f"n_{TASK_OF[m]}"] else 0
                    for m in METRICS
                    if m in TASK_OF
                },
                intervals={metric: draws[name].interval(metric) for metric in METRICS},
                differences={m: difference(draws[name], draws[reference], m) for m in METRICS}
                if compared
                else {},
            )
        )
    return rows


def blind_rows(spec: TableSpec, names: Sequence[str]) -> list[TableRow]:
    """Return the rows of a table that cannot be scored."""
    nothing = dict.fromkeys(METRICS, float("nan"))
    zero = dict.fromkeys(COUNTS, 0)
    return [
        TableRow(name, 0, nothing, nothing, zero, zero, {}, blind=True)
        for name in row_order(spec, dict.fromkeys(names))
    ]


def row_order(spec: TableSpec, rows: Mapping[str, object]) -> list[str]:
    """Return the names of rows in the paper's order, others after them."""
    places = {name: place for place, name in enumerate(spec.figures)}
    return sorted(rows, key=lambda row: places.get(paper_row(row, places), len(places)))


def reference_row(spec: TableSpec, rows: Mapping[str, object]) -> str | None:
    """Return the row that the others are compared with: the one that the table names, else the first.

    Fixed before anything is scored: a reference chosen for its score would make p-values too small.
    """
    if spec.reference is not None:
        return spec.reference if spec.reference in rows else None
    return next(iter(row_order(spec, rows)), None)
