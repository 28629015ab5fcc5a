"""What the submission is compared with: the reference, and the best single system. Fixed on Val, measured anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from exvo.corpus.labels import Labels
from exvo.evaluation.bootstrap import Draws, SpeakerBootstrap
from exvo.evaluation.predictions import align
from exvo.fusion.fuse import Run, mean_of_seeds
from exvo.fusion.selection import Candidate, ranked

AVERAGED = ", seeds averaged"


@dataclass(frozen=True)
class Reference:
    """The system to be ahead of: its name for readers, and as the config has it."""

    name: str
    system: str


class Rivals:
    """The submission and those that it is compared with.

    Parameters
    ----------
    submitted : Candidate
    candidates : sequence of Candidate
        Among them at least one single system.
    reference : Reference, optional
        None where Table 1 has no row.
    runs : mapping of str to sequence of Run
        The seeds of every system.
    val_labels : Labels
    test_clip_ids : np.ndarray

    Attributes
    ----------
    best_single : Candidate
        The single system that does best on Val, its seeds averaged.
    """

    def __init__(
        self,
        submitted: Candidate,
        candidates: Sequence[Candidate],
        reference: Reference | None,
        runs: Mapping[str, Sequence[Run]],
        val_labels: Labels,
        test_clip_ids: Sequence[str] | np.ndarray,
    ) -> None:
        self.submitted, self.reference, self.runs = submitted, reference, runs
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
        """Return what readers see of a candidate: of a single system, whether its seeds were averaged."""
        averaged = candidate.kind == "system" and len(self.runs[candidate.name]) > 1
        return f"{candidate.name}{AVERAGED}" if averaged else candidate.name

    def draws(
        self, split: Literal["val", "test"], labels: Labels, source: SpeakerBootstrap
    ) -> dict[str, Draws]:
        """Measure those that the submission is compared with.

        Parameters
        ----------
        split : {"val", "test"}
        labels : Labels
            Of clips of the split.
        source : SpeakerBootstrap
            Of these labels.
        """
        return {
            name: source.draws([align(getattr(run, split), labels.clip_id) for run in seeds])
            for name, seeds in self._seeds.items()
        }
