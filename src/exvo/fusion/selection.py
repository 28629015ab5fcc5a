"""Selection of the submission: candidates are compared on Val by their out-of-fold predictions.

Candidates are the fusions of the config and each single system (its seeds averaged). They are compared on the same
resamples of speakers.

The best candidate has the highest S_MTL. Where S_MTL is not defined for all (a task without labels, a system of one
task, a CCC below zero), candidates are ranked by the number of tasks with a positive term, then by the harmonic mean of
these terms. With all three terms that mean is S_MTL. Ties go to the first: fusions in the order of the config, then
systems.

The maximum over many candidates is biased: its validation score is slightly too high, and p-values against it are
slightly too low. The bias grows with the number of candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from exvo.corpus.labels import Labels
from exvo.evaluation.bootstrap import METRICS, Draws, SpeakerBootstrap, difference
from exvo.evaluation.intervals import Difference, Interval
from exvo.evaluation.metrics import Scores, score
from exvo.evaluation.predictions import align
from exvo.evaluation.seeds import sd_over_seeds
from exvo.fusion.fuse import CrossFit, Fusion, FusionConfig, Run, fuse

Kind = Literal["fusion", "system"]


@dataclass(frozen=True)
class Candidate:
    """A fusion or a single system, on Val.

    Attributes
    ----------
    name : str
    kind : {"fusion", "system"}
    fusion : Fusion
    scores : Scores
        Of the out-of-fold predictions.
    draws : Draws
        Of the same.
    seeds : sequence of Fusion
        The same fusion made from one seed of each system at a time; the SD over seeds is computed from these. Empty
        where a system has one seed.
    """

    name: str
    kind: Kind
    fusion: Fusion
    scores: Scores
    draws: Draws
    seeds: Sequence[Fusion] = ()

    def sd_over_seeds(
        self, labels: Labels, split: Literal["out_of_fold", "test"] = "out_of_fold"
    ) -> dict[str, float]:
        """Return the SD over seeds of every metric, as `exvo.evaluation.seeds.sd_over_seeds`.

        Parameters
        ----------
        labels : Labels
            Of clips of the split; of Test, those with labels.
        split : {"out_of_fold", "test"}
        """
        return sd_over_seeds(
            [score(labels, align(getattr(seed, split), labels.clip_id)) for seed in self.seeds]
        )


def find_candidates(
    fusions: Sequence[FusionConfig],
    runs: Mapping[str, Sequence[Run]],
    labels: Labels,
    test_clip_ids: Sequence[str] | np.ndarray,
    cross: CrossFit,
    source: SpeakerBootstrap,
    age_prior: float | None = None,
) -> list[Candidate]:
    """Compute the fusions and the single systems in them, and score all on Val.

    Parameters
    ----------
    fusions : sequence of FusionConfig
        At least one.
    runs : mapping of str to sequence of Run
        The seeds of every system that a fusion names, and of every feature fusion.
    labels : Labels
        Of the Val clips.
    test_clip_ids : sequence of str
    cross : CrossFit
    source : SpeakerBootstrap
        Of the Val labels.
    age_prior : float, optional
        As of `exvo.fusion.fuse.fuse`.
    """
    systems = dict.fromkeys(name for config in fusions for name in config.systems)
    single = [FusionConfig(name, (name,), rule="average") for name in systems]

    def candidate(config: FusionConfig, kind: Kind) -> Candidate:
        fusion = fuse(config, runs, labels, test_clip_ids, cross, age_prior)
        scores, draws = score(labels, fusion.out_of_fold), source.draws([fusion.out_of_fold])
        seeds = [fuse(config, one, labels, test_clip_ids, cross, age_prior) for one in _by_seed(config, runs)]
        return Candidate(config.name, kind, fusion, scores, draws, seeds)

    return [candidate(config, "fusion") for config in fusions] + [
        candidate(config, "system") for config in single
    ]


def _by_seed(config: FusionConfig, runs: Mapping[str, Sequence[Run]]) -> list[dict[str, Sequence[Run]]]:
    """Return the runs of one seed at a time: the first of every system, then the second; empty for a single seed."""
    names = [*config.systems, *([config.name] if config.rule == "feature_fusion" else [])]
    n_seeds = min(len(runs.get(name, ())) for name in names)
    return [{name: runs[name][i : i + 1] for name in names} for i in range(n_seeds if n_seeds > 1 else 0)]


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates, the best first, by the rule of this module."""
    return sorted(candidates, key=lambda candidate: _rank(candidate.scores), reverse=True)


def _rank(scores: Scores) -> tuple[int, float]:
    """Return the number of tasks with a positive term, and the harmonic mean of these terms."""
    inverse = [1 / value for value in (scores.ccc, scores.uar) if value > 0]
    inverse += [scores.mae] if scores.mae >= 0 else []
    if not inverse:
        return 0, 0.0
    return len(inverse), len(inverse) / sum(inverse) if sum(inverse) > 0 else np.inf


def describe(
    candidates: Sequence[Candidate], submitted: Candidate, asked_for: str | None, labels: Labels
) -> dict[str, Any]:
    """Describe which candidate was submitted and why, and how it compares with the others; JSON types only.

    Parameters
    ----------
    candidates : sequence of Candidate
    submitted : Candidate
    asked_for : str or None
        The name in the config; None for the best candidate.
    labels : Labels
        Of the Val clips.

    Returns
    -------
    dict
        ``asked_for``, ``submitted``, ``runner_up`` (the best of the others), ``candidates`` (best first: name, kind,
        rule, systems, out-of-fold Val scores, intervals, SD over seeds), ``differences`` (submitted minus each
        other candidate: value, low, high and p per metric).
    """
    order = ranked(candidates)
    others = [candidate for candidate in order if candidate is not submitted]
    return {
        "asked_for": asked_for or "best",
        "submitted": submitted.name,
        "runner_up": others[0].name if others else None,
        "candidates": [
            {
                "name": candidate.name,
                "kind": candidate.kind,
                "rule": candidate.fusion.description["rule"] if candidate.kind == "fusion" else None,
                "systems": list(candidate.fusion.description["systems"]),
                "out_of_fold_val": candidate.scores.to_json(),
                "intervals": {metric: interval_json(candidate.draws.interval(metric)) for metric in METRICS},
                "sd": sd_json(candidate.sd_over_seeds(labels)),
            }
            for candidate in order
        ],
        "differences": {
            other.name: {
                metric: difference_json(difference(submitted.draws, other.draws, metric))
                for metric in METRICS
            }
            for other in others
        },
    }


def interval_json(interval: Interval) -> dict[str, Any]:
    """Return an interval as JSON types; None stands for a missing limit."""
    return {
        "low": finite(interval.low),
        "high": finite(interval.high),
        "n_speakers": interval.n_speakers,
        "n_undefined": interval.n_undefined,
    }


def difference_json(found: Difference) -> dict[str, float | None]:
    """Return a difference as JSON types; None stands for an undefined number."""
    return {name: finite(getattr(found, name)) for name in ("value", "low", "high", "p")}


def sd_json(sd: Mapping[str, float]) -> dict[str, float | None]:
    """Return the SD over seeds of each metric as JSON types; None where there is none."""
    return {metric: finite(sd.get(metric, np.nan)) for metric in METRICS}


def finite(value: float) -> float | None:
    """Return a number as a JSON type; None where it is not finite."""
    return float(value) if np.isfinite(value) else None
