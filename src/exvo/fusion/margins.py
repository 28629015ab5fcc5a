"""By how much the submission is ahead of what it should be ahead of, on the same resamples of speakers.

These are the reference, which is the first row of Table 1 (the organisers' network on the first stage that the corpus
allows), and the single system that did best on Val. Which ones they are is fixed before Test is read.

A fusion averages the seeds of its systems, which makes their answers better before anything is fused. So the reference
stands there twice: seed by seed, as the tables quote it, and with its seeds averaged as a fusion would.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exvo.evaluation.bootstrap import METRICS, Draws, difference, relative
from exvo.evaluation.intervals import Difference
from exvo.fusion.selection import difference_json


@dataclass(frozen=True)
class Margin:
    """The submission minus another.

    Attributes
    ----------
    over : str
        Its name, for readers.
    differences : dict of str to Difference
        By metric.
    percent : Difference
        Of S_MTL, relative to the other's.
    """

    over: str
    differences: Mapping[str, Difference]
    percent: Difference


def margins(submitted: Draws, others: Mapping[str, Draws]) -> list[Margin]:
    """Compare the submission with others, by name, measured on the same resamples."""
    return [
        Margin(
            name,
            {metric: difference(submitted, other, metric) for metric in METRICS},
            relative(submitted, other, "s_mtl"),
        )
        for name, other in others.items()
    ]


def margins_json(found: Sequence[Margin]) -> list[dict[str, Any]]:
    """Return margins as JSON types; None where there is none."""
    return [
        {
            "over": margin.over,
            "differences": {name: difference_json(value) for name, value in margin.differences.items()},
            "s_mtl_percent": difference_json(margin.percent),
        }
        for margin in found
    ]
