"""One task of a fusion: combine the systems by a rule, and say how well on speakers that the rule did not see.

What a rule learns on Val (weights, or a trained combiner), it learns twice: on all of Val, for Test; and with each
fold of speakers left out in turn, to predict that fold. The predictions of the folds together are *out-of-fold*: their
score is not raised by what the rule remembers of its own clips, so all rules can be compared on equal terms. A rule
that learns nothing needs no folds.

Of age, what learns on Val may also lean on the Train prior, a constant: where no system can tell ages, the constant is
better than all of them, and an average of systems that add up to one cannot become it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from exvo.corpus.labels import EMOTIONS, Labels
from exvo.evaluation.metrics import labelled, mae, mean_ccc, predicted_class, uar
from exvo.evaluation.speakers import speaker_folds, speaker_index
from exvo.fusion.config import CrossFit, FusionConfig
from exvo.fusion.objectives import values_of_weights
from exvo.fusion.stacking import LogisticStack, RidgeStack, prior_record
from exvo.fusion.weights import search_weights

METRICS = {"emotion": "ccc", "age": "mae", "country": "uar"}
# A fit that chooses its penalty while it is judged goes without two folds, and must still know every country.
MIN_COUNTRY_FOLDS = 3


class Combiner(Protocol):
    """What a rule learned: fuses the predictions of any clips, and says in ``record`` what it is."""

    record: dict[str, Any]
    shares: np.ndarray

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """Combine predictions [shape=(n_systems, n, ...)]."""
        ...


@dataclass(frozen=True)
class Weights:
    """A weighted average; ``shares`` are the weights of the systems, ``constant`` is what the Train prior adds."""

    shares: np.ndarray
    record: dict[str, Any]
    constant: float = 0.0

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """Average predictions [shape=(n_systems, n, ...)]; a system of weight 0 leaves no trace."""
        used = self.shares > 0
        return np.tensordot(self.shares[used], stack[used], axes=1) + self.constant


@dataclass
class FusedTask:
    """One task of a fusion.

    Attributes
    ----------
    val, out_of_fold, test : np.ndarray [shape=(n,) or (n, n_columns)]
        ``val`` by what was learned on all of Val; ``out_of_fold`` on the other speakers' folds.
    record : dict
        ``chosen_by``, ``weights`` or ``shares`` per system that does the task, ``train_prior`` (its ``weight`` and
        ``years``) where the rule might lean on it, and more by rule; JSON types. Weights and that of the prior sum to
        one.
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
        A constant that what is learned may lean on; of age only.
    """
    notes: list[str] = []
    learn = _learner(config, task, val, labels, cross, notes, prior)
    if isinstance(learn, Weights):
        fused = learn(val)
        return FusedTask(fused, fused, learn(test), _record(learn, names), notes)
    fit, rows, folds = learn
    everything = range(cross.folds)
    whole = fit(everything)
    fused = whole(val)
    out_of_fold = fused.copy()  # clips without a label were seen by no fit
    for fold in everything:
        held_out = rows[folds == fold]
        out_of_fold[held_out] = fit([other for other in everything if other != fold])(val[:, held_out])
    record = _record(whole, names) | {"folds": cross.folds}
    if record["chosen_by"] == "undefined":
        notes.append(f"{task}: the labels on Val do not vary, so its metric is undefined: equal weights")
    elif record["chosen_by"] == "steps":
        notes.append(
            f"{task}: the grid of weights has more than {config.max_candidates} points; found by steps "
            f"of {config.step} from equal weights, which may end short of the best"
        )
    return FusedTask(fused, out_of_fold, whole(test), record, notes)


def _record(learned: Combiner, names: Sequence[str]) -> dict[str, Any]:
    key = "weights" if isinstance(learned, Weights) else "shares"
    values = {name: round(float(value), 12) for name, value in zip(names, learned.shares, strict=True)}
    chosen_by = learned.record.get("chosen_by", "stacking")
    return {**learned.record, "chosen_by": chosen_by, key: values}


def _learner(
    config: FusionConfig,
    task: str,
    val: np.ndarray,
    labels: Labels,
    cross: CrossFit,
    notes: list[str],
    prior: float | None,
) -> Weights | tuple[Callable[[Sequence[int]], Combiner], np.ndarray, np.ndarray]:
    """Return weights where there is nothing to learn; else how to learn on folds, the clips and their folds."""
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
        notes.append(f"{task}: no labels on Val to learn from, so equal weights")
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
    alone = [
        column
        for column, target in enumerate(seen.emotion.T)
        if len(np.unique(index[~np.isnan(target)])) < cross.folds
    ]
    if alone:
        names = ", ".join(EMOTIONS[column] for column in alone)
        notes.append(
            f"emotion: labels of fewer than {cross.folds} speakers, so systems are averaged: {names}"
        )
    return RidgeStack(stack, seen.emotion, folds, alone).fit, rows, folds


def task_folds(task: str, seen: Labels, cross: CrossFit) -> np.ndarray | None:
    """Part the clips that have a label of a task into folds of speakers; None where there are too few.

    Parameters
    ----------
    task : {"emotion", "age", "country"}
        Of country, the folds get about as many clips of each.
    seen : Labels
    cross : CrossFit
    """
    index, _ = speaker_index(seen.speaker)
    if len(np.unique(index)) < cross.folds:
        return None
    return speaker_folds(index, cross.folds, cross.seed, seen.country if task == "country" else None)


def task_value(task: str, labels: Labels, answers: np.ndarray) -> float:
    """Return the metric of a task, higher is better: mean CCC, UAR or minus MAE; -inf where it is undefined."""
    if task == "emotion":
        value = mean_ccc(labels.emotion, answers)[1]
    elif task == "country":
        value = uar(labels.country, predicted_class(answers))
    else:
        value = -mae(labels.age, answers)
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
    """Return a search of weights on the labelled clips of some folds; the prior is one more candidate."""
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
    """Say why a combiner cannot learn countries; None where it can.

    Nested cross-validation leaves two folds out. A country that is in them alone is unknown to the fit that judges
    it: none of its clips could be told, whatever the systems say.
    """
    present = np.unique(seen.country)
    if len(present) < 2:
        return "no speaker of a second country to learn from"
    few = [k for k in present if len(np.unique(folds[seen.country == k])) < MIN_COUNTRY_FOLDS]
    if not few:
        return None
    names = ", ".join(seen.countries[k].name for k in few)
    return f"speakers in fewer than {MIN_COUNTRY_FOLDS} folds, too few to learn from: {names}"
