"""One task of a fusion: combine the systems by a rule, and predict each speaker with a rule fitted on the others.

Late-fusion weights and combiners are fitted on the validation set, so out-of-fold scores are reported: each speaker is
predicted with weights fitted on the other speakers. A rule is therefore fitted on all of Val, for Test, and once more
without each fold of speakers, to predict that fold. Rules without parameters need no folds.

A rule fitted on Val may also give weight to the Train prior of age, a constant. Where no system predicts age better
than a constant, the constant has the lowest error, and no weighted average of the systems equals it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from exvo.corpus.labels import EMOTIONS, Labels
from exvo.evaluation.metrics import labelled, mae, mean_ccc, predicted_class, uar
from exvo.evaluation.speakers import speaker_folds, speaker_index
from exvo.fusion.config import CrossFit, FusionConfig
from exvo.fusion.stacking import LogisticStack, RidgeStack, prior_record
from exvo.fusion.weights import search_weights, values_of_weights

METRICS = {"emotion": "ccc", "age": "mae", "country": "uar"}
# Nested cross-validation leaves two folds out, and the fit must still have clips of every country.
MIN_COUNTRY_FOLDS = 3


class Combiner(Protocol):
    """A fitted rule: combines the predictions of any clips; ``record`` describes it in JSON types."""

    @property
    def record(self) -> dict[str, Any]:
        """What was chosen, as JSON types."""

    @property
    def shares(self) -> np.ndarray:
        """Weights or shares of the systems [shape=(n_systems,)]."""

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """Combine predictions [shape=(n_systems, n, ...)]."""
        ...


@dataclass(frozen=True)
class Weights:
    """A weighted average: ``shares`` are the weights of the systems, ``constant`` is added for the Train prior."""

    shares: np.ndarray
    record: dict[str, Any]
    constant: float = 0.0

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """Average predictions [shape=(n_systems, n, ...)]; systems of weight 0 are not read."""
        used = self.shares > 0
        return np.tensordot(self.shares[used], stack[used], axes=1) + self.constant


@dataclass
class FusedTask:
    """One task of a fusion.

    Attributes
    ----------
    val, out_of_fold, test : np.ndarray [shape=(n,) or (n, n_columns)]
        ``val`` by a fit on all of Val, ``out_of_fold`` by a fit on the other folds of speakers.
    record : dict
        JSON types: ``chosen_by``, ``weights`` or ``shares`` per system that does the task, and more by rule.
        ``train_prior`` (its ``weight`` and ``years``) where the rule may use it. All weights sum to one.
    notes : list of str
    """

    val: np.ndarray
    out_of_fold: np.ndarray
    test: np.ndarray
    record: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def combine_task(
    config: FusionConfig,
    task: str,
    names: Sequence[str],
    val: np.ndarray,
    test: np.ndarray,
    labels: Labels,
    cross: CrossFit,
    prior: float | None = None,
) -> FusedTask:
    """Combine the systems that do a task.

    Parameters
    ----------
    config : FusionConfig
    task : {"emotion", "age", "country"}
    names : sequence of str
        Of the systems that do the task, at least one.
    val, test : np.ndarray [shape=(n_systems, n) or (n_systems, n, n_columns)]
        Their predictions.
    labels : Labels
        Of the Val clips.
    cross : CrossFit
    prior : float, optional
        A constant that a fitted rule may give weight to; for age only.
    """
    notes: list[str] = []
    rule = _rule(config, task, val, labels, cross, notes, prior)
    if isinstance(rule, Weights):
        fused = rule(val)
        return FusedTask(fused, fused, rule(test), _record(rule, names), notes)
    fit, rows, folds = rule
    all_folds = range(cross.folds)
    combiner = fit(all_folds)
    fused = combiner(val)
    out_of_fold = fused.copy()  # clips without a label are in no fit
    for fold in all_folds:
        held_out = rows[folds == fold]
        out_of_fold[held_out] = fit([other for other in all_folds if other != fold])(val[:, held_out])
    record = _record(combiner, names) | {"folds": cross.folds}
    if record["chosen_by"] == "undefined":
        notes.append(f"{task}: the labels on Val do not vary, so its metric is undefined: equal weights")
    elif record["chosen_by"] == "steps":
        notes.append(
            f"{task}: the grid of weights has more than {config.max_candidates} points, so weights were found by "
            f"steps of {config.step} from equal weights, which may end in a local optimum"
        )
    return FusedTask(fused, out_of_fold, combiner(test), record, notes)


def _record(combiner: Combiner, names: Sequence[str]) -> dict[str, Any]:
    key = "weights" if isinstance(combiner, Weights) else "shares"
    values = {name: round(float(value), 12) for name, value in zip(names, combiner.shares, strict=True)}
    chosen_by = combiner.record.get("chosen_by", "stacking")
    return {**combiner.record, "chosen_by": chosen_by, key: values}


def _rule(
    config: FusionConfig,
    task: str,
    val: np.ndarray,
    labels: Labels,
    cross: CrossFit,
    notes: list[str],
    prior: float | None,
) -> Weights | tuple[Callable[[Sequence[int]], Combiner], np.ndarray, np.ndarray]:
    """Return fixed weights where nothing is fitted; else the fit on a choice of folds, its clips and their folds."""
    n = len(val)
    if config.rule == "paper" and task == "emotion":
        chosen = np.zeros(n)
        chosen[0] = 1.0  # the caller puts the system that gives emotion first
        return Weights(chosen, {"chosen_by": "rule"})
    if config.rule in ("average", "paper"):
        return _equal(n, "rule")
    if config.rule == "weighted" and n == 1 and prior is None:
        return _equal(n, "only system")
    rows = np.flatnonzero(labelled(labels, task))
    if not len(rows):
        notes.append(f"{task}: no labels on Val, so equal weights")
        return _equal(n, "no labels")
    seen = labels.take(rows)
    folds = task_folds(task, seen, cross)
    if folds is None:
        n_speakers = len(np.unique(speaker_index(seen.speaker)[0]))
        notes.append(
            f"{task}: {n_speakers} speakers with labels on Val are too few for {cross.folds} folds, so equal weights"
        )
        return _equal(n, "too few speakers")
    stack = val[:, rows]
    if config.rule == "weighted":
        return _weight_fit(config, task, seen, stack, folds, prior), rows, folds
    if task == "country":
        why = _countries_too_few(seen, folds)
        if why:
            notes.append(f"country: {why}, so equal weights")
            return _equal(n, "too few speakers")
        return LogisticStack(stack, seen.country, folds).fit, rows, folds
    if task == "age":
        return RidgeStack(stack, seen.age, folds, prior=prior).fit, rows, folds
    index, _ = speaker_index(seen.speaker)
    averaged = [
        column
        for column, target in enumerate(seen.emotion.T)
        if len(np.unique(index[~np.isnan(target)])) < cross.folds
    ]
    if averaged:
        names = ", ".join(EMOTIONS[column] for column in averaged)
        notes.append(
            f"emotion: labels of fewer than {cross.folds} speakers, so systems are averaged: {names}"
        )
    return RidgeStack(stack, seen.emotion, folds, averaged).fit, rows, folds


def task_folds(task: str, seen: Labels, cross: CrossFit) -> np.ndarray | None:
    """Split the clips that have a label of a task into folds of speakers; None where there are too few speakers.

    Parameters
    ----------
    task : {"emotion", "age", "country"}
        For country, the folds are stratified by country.
    seen : Labels
    cross : CrossFit
    """
    index, _ = speaker_index(seen.speaker)
    if len(np.unique(index)) < cross.folds:
        return None
    return speaker_folds(index, cross.folds, cross.seed, seen.country if task == "country" else None)


def task_value(task: str, labels: Labels, predicted: np.ndarray) -> float:
    """Return the metric of a task, higher is better: mean CCC, UAR or minus MAE; -inf where it is undefined."""
    if task == "emotion":
        value = mean_ccc(labels.emotion, predicted)[1]
    elif task == "country":
        value = uar(labels.country, predicted_class(predicted))
    else:
        value = -mae(labels.age, predicted)
    return value if np.isfinite(value) else float("-inf")


def _equal(n: int, chosen_by: str) -> Weights:
    return Weights(np.full(n, 1 / n), {"chosen_by": chosen_by})


def _weight_fit(
    config: FusionConfig,
    task: str,
    seen: Labels,
    stack: np.ndarray,
    folds: np.ndarray,
    prior: float | None,
) -> Callable[[Sequence[int]], Weights]:
    """Return a search for weights on the labelled clips of some folds; the prior is one more entry."""
    n = len(stack)
    if prior is not None:
        stack = np.concatenate([stack, np.full_like(stack[:1], prior)])

    def fit(use: Sequence[int]) -> Weights:
        inside = np.isin(folds, list(use))
        search = search_weights(
            values_of_weights(task, seen.take(inside), stack[:, inside]),
            len(stack),
            step=config.step,
            max_candidates=config.max_candidates,
        )
        how = search.how if np.isfinite(search.value) else "undefined"
        record: dict[str, Any] = {"chosen_by": how, "n_candidates": search.n_candidates}
        if prior is None:
            return Weights(search.weights, record)
        weight = float(search.weights[n])
        return Weights(search.weights[:n], record | prior_record(weight, prior), weight * prior)

    return fit


def _countries_too_few(seen: Labels, folds: np.ndarray) -> str | None:
    """Return why a combiner of countries cannot be fitted; None where it can.

    Nested cross-validation leaves two folds out. Where a country occurs in these two only, the fit has no clip of it,
    and all of its held-out clips would be classified wrongly.
    """
    present = np.unique(seen.country)
    if len(present) < 2:
        return "no speaker of a second country"
    few = [k for k in present if len(np.unique(folds[seen.country == k])) < MIN_COUNTRY_FOLDS]
    if not few:
        return None
    names = ", ".join(seen.countries[k].name for k in few)
    return f"countries with speakers in fewer than {MIN_COUNTRY_FOLDS} folds, too few for a fit: {names}"
