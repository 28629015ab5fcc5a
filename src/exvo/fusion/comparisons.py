"""Comparisons of the submission with the reference and with the best single system, on the same resamples of speakers.

The reference is the first row of Table 1: the organisers' network on the first stage that the corpus allows. Both
systems are fixed before Test is read.

A fusion averages the seeds of its systems, which by itself improves the predictions. The submission is therefore
compared with the reference twice: with its seeds scored one by one, as in the tables, and with its seeds averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from exvo.corpus.labels import Labels
from exvo.evaluation.bootstrap import METRICS, Draws, SpeakerBootstrap, difference, relative
from exvo.evaluation.intervals import Difference
from exvo.evaluation.predictions import align
from exvo.fusion.fuse import Run, mean_of_seeds
from exvo.fusion.selection import Candidate, difference_json, finite, interval_json, ranked

AVERAGED = ", seeds averaged"


@dataclass(frozen=True)
class Reference:
    """The system that the submission is compared with first: its name in tables, and its name in the config."""

    name: str
    system: str


@dataclass(frozen=True)
class Comparison:
    """The submission minus another system.

    Attributes
    ----------
    name : str
        Of the other system, as in the tables.
    other : Draws
        Its scores.
    differences : dict of str to Difference
        By metric.
    percent : Difference
        Of S_MTL, in percent of the other system's.
    """

    name: str
    other: Draws
    differences: Mapping[str, Difference]
    percent: Difference


class ComparedSystems:
    """The submission and the systems that it is compared with.

    Parameters
    ----------
    submitted : Candidate
    candidates : sequence of Candidate
        Among them at least one single system.
    reference : Reference, optional
        None where Table 1 has no row.
    runs : mapping of str to sequence of Run
        The seeds of every system.
    row_names : mapping of str to str
        Row in Table 4 by system; a system without a row is called by its name in the config.
    val_labels : Labels
    test_clip_ids : np.ndarray [shape=(n,), str]

    Attributes
    ----------
    best_single : Candidate
        The single system with the best score on Val, its seeds averaged.
    row_names : dict of str to str
        As given, after that of the reference.
    """

    def __init__(
        self,
        submitted: Candidate,
        candidates: Sequence[Candidate],
        reference: Reference | None,
        runs: Mapping[str, Sequence[Run]],
        row_names: Mapping[str, str],
        val_labels: Labels,
        test_clip_ids: Sequence[str] | np.ndarray,
    ) -> None:
        self.submitted, self.reference, self.runs = submitted, reference, runs
        self.row_names = {} if reference is None else {reference.system: reference.name}
        self.row_names = self.row_names | {k: row for k, row in row_names.items() if k not in self.row_names}
        self.best_single = next(c for c in ranked(candidates) if c.kind == "system")
        single = self.best_single.fusion
        self._seeds: dict[str, Sequence[Run]] = {}
        if reference is not None:
            seeds = runs[reference.system]
            self._seeds[reference.name] = seeds
            if len(seeds) > 1:
                mean = mean_of_seeds(reference.system, seeds, val_labels, test_clip_ids)
                self._seeds[f"{reference.name}{AVERAGED}"] = [mean]
        if self.best_single is not submitted and (
            reference is None or self.best_single.name != reference.system
        ):
            self._seeds[self.name_of(self.best_single)] = [Run(single.out_of_fold, single.test)]

    def name_of(self, candidate: Candidate) -> str:
        """Return the name of a candidate in the tables; a single system with several seeds is marked as averaged."""
        if candidate.kind == "fusion":
            return candidate.name
        averaged = AVERAGED if len(self.runs[candidate.name]) > 1 else ""
        return self.row_names.get(candidate.name, candidate.name) + averaged

    def draws(
        self, split: Literal["val", "test"], labels: Labels, source: SpeakerBootstrap
    ) -> dict[str, Draws]:
        """Score the systems that the submission is compared with.

        Parameters
        ----------
        split : {"val", "test"}
        labels : Labels
            Of clips of the split.
        source : SpeakerBootstrap
            Of these labels.

        Returns
        -------
        dict of str to Draws
            By name in the tables, the reference first.
        """
        return {
            name: source.draws([align(getattr(run, split), labels.clip_id) for run in seeds])
            for name, seeds in self._seeds.items()
        }


def compare(submitted: Draws, others: Mapping[str, Draws]) -> list[Comparison]:
    """Compare the submission with other systems, by name, on the same resamples."""
    return [
        Comparison(
            name,
            other,
            {metric: difference(submitted, other, metric) for metric in METRICS},
            relative(submitted, other, "s_mtl"),
        )
        for name, other in others.items()
    ]


def comparisons_json(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return comparisons as JSON types; None stands for an undefined number."""
    return [
        {
            "name": one.name,
            "scores": {metric: finite(one.other.value(metric)) for metric in METRICS},
            "intervals": {metric: interval_json(one.other.interval(metric)) for metric in METRICS},
            "differences": {metric: difference_json(value) for metric, value in one.differences.items()},
            "s_mtl_percent": difference_json(one.percent),
        }
        for one in comparisons
    ]
