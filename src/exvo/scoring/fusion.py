"""Fusion of systems: one weighted average per task, its weights chosen on Val.

The seeds of a system are averaged first. Then, for each task by itself, the predictions of the systems that
do the task are averaged with non-negative weights that sum to one: emotion intensities, ages, and the
probabilities of the countries. Fusion sees predictions and Val labels, and nothing else; Test labels never
come here.

Rules
-----
weighted
    Weights of each task chosen on Val by the task's own metric (mean CCC, UAR, MAE).
average
    Equal weights in every task.
paper
    Equal weights for country and age, emotion from one system alone: the rule of the paper's Table 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from exvo.corpus.labels import TASKS, Labels
from exvo.metrics import labelled, mae, mean_ccc, predicted_class, score, uar
from exvo.predictions import Predictions, align
from exvo.scoring.weights import search_weights

Rule = Literal["weighted", "average", "paper"]
METRICS = {"emotion": "ccc", "age": "mae", "country": "uar"}


@dataclass(frozen=True)
class FusionConfig:
    """How to combine systems.

    Attributes
    ----------
    name : str
    systems : tuple of str
        At least one; their order decides nothing but ties and the order of the report.
    rule : {"weighted", "average", "paper"}
        See the module's docstring.
    step : float
        ``weighted``: the grid of weights, a whole part of 1 (0.1 gives weights 0, 0.1, ..., 1).
    emotion_from : str, optional
        ``paper``: the system that gives emotion; by default the first.
    max_candidates : int
        ``weighted``: a grid with more points than this is not searched in full; the weights are then found by
        steps that move weight from one system to another as long as that helps.

    Raises
    ------
    ValueError
        If a value cannot be used: the message names the key.
    """

    name: str
    systems: tuple[str, ...]
    rule: Rule = "weighted"
    step: float = 0.1
    emotion_from: str | None = None
    max_candidates: int = 1001

    def __post_init__(self) -> None:
        where = f"fusion {self.name!r}"
        if not self.systems or len(set(self.systems)) < len(self.systems):
            raise ValueError(f"{where}: systems must name at least one system, and each once")
        if self.rule not in get_args(Rule):
            raise ValueError(f"{where}: rule must be one of {', '.join(get_args(Rule))}, not {self.rule!r}")
        if not 0 < self.step <= 1 or abs(round(1 / self.step) * self.step - 1) > 1e-9:
            raise ValueError(
                f"{where}: step must divide 1 into whole parts (0.1, 0.05, 0.25), not {self.step}"
            )
        if self.emotion_from is not None and self.emotion_from not in self.systems:
            raise ValueError(
                f"{where}: emotion_from names {self.emotion_from!r}, which is not in its systems"
            )


@dataclass(frozen=True)
class Run:
    """One trained seed of a system: its predictions for Val and for Test."""

    val: Predictions
    test: Predictions


@dataclass(frozen=True)
class Fusion:
    """Fused predictions and what was combined and how.

    Attributes
    ----------
    val, test : Predictions
        In the order of the Val labels and of the Test clips.
    description : dict
        JSON types only: ``name``, ``rule``, ``step``, ``tasks`` (per task: metric, weights per system, how
        they were chosen, Val score, clips and speakers with labels), ``systems`` (per system: seeds, Val
        scores), ``val`` (scores of the fusion), ``notes``.
    """

    val: Predictions
    test: Predictions
    description: dict[str, Any]


def fuse(
    config: FusionConfig,
    runs: Mapping[str, Sequence[Run]],
    val_labels: Labels,
    test_clip_ids: Sequence[str] | np.ndarray,
) -> Fusion:
    """Combine systems.

    Parameters
    ----------
    config : FusionConfig
    runs : mapping of str to sequence of Run
        The seeds of every system that the config names.
    val_labels : Labels
        Of the Val clips.
    test_clip_ids : sequence of str
        Test clips, in the order wanted.

    Raises
    ------
    ValueError
        If a system has no runs, lacks a clip, does a task for a part of the clips only, or has other
        countries than the corpus.
    """
    codes = tuple(country.code for country in val_labels.countries)
    val: dict[str, Predictions] = {}
    test: dict[str, Predictions] = {}
    for name in config.systems:
        if not runs.get(name):
            raise ValueError(f"fusion {config.name!r}: no runs of system {name!r}")
        val[name] = _mean_of_seeds(name, [align(run.val, val_labels.clip_id) for run in runs[name]], codes)
        test[name] = _mean_of_seeds(name, [align(run.test, test_clip_ids) for run in runs[name]], codes)
        for task in TASKS:
            both = len(val[name]) and len(test[name])
            if both and _does(val[name], task) != _does(test[name], task):
                raise ValueError(f"system {name!r} predicts {task} for one of Val and Test only")

    tasks: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    # A corpus may have no Val clips: what a system does then shows on Test.
    shown = val if len(val_labels) else test
    for task in TASKS:
        doing = [i for i, system in enumerate(shown.values()) if _does(system, task)]
        tasks[task], task_notes = _weigh(config, task, doing, val, val_labels)
        notes += task_notes
    weights = {task: tasks[task]["weights"] for task in TASKS}
    fused_val = _combine(list(val.values()), weights)
    fused_test = _combine(list(test.values()), weights)

    val_scores = score(val_labels, fused_val).to_json()
    for task, record in tasks.items():
        known = labelled(val_labels, task)
        record["val_score"] = val_scores[METRICS[task]]
        record["n_clips"] = int(known.sum())
        record["n_speakers"] = len(set(val_labels.speaker[known].tolist()) - {""})
        record["weights"] = dict(zip(config.systems, record["weights"], strict=True))
    description = {
        "name": config.name,
        "rule": config.rule,
        "step": config.step if config.rule == "weighted" else None,
        "tasks": tasks,
        "val": val_scores,
        "systems": {
            name: {"n_seeds": len(runs[name]), "val": score(val_labels, val[name]).to_json()}
            for name in config.systems
        },
        "n_val_clips": len(val_labels),
        "n_test_clips": len(test_clip_ids),
        "notes": notes,
    }
    return Fusion(fused_val, fused_test, description)


def _mean_of_seeds(name: str, seeds: list[Predictions], codes: tuple[int, ...]) -> Predictions:
    """Average the aligned seeds of a system, and check that each task is done for all clips or for none."""
    for predictions in seeds:
        if predictions.country_codes != codes:
            raise ValueError(
                f"system {name!r} predicts the countries {predictions.country_codes}, the corpus has "
                f"{codes}: train it again on this corpus"
            )
        for task in TASKS:
            values = getattr(predictions, task)
            there = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
            if there.any() and not there.all():
                raise ValueError(
                    f"system {name!r} has no {task} for {(~there).sum()} of {len(there)} clips, "
                    f"first {predictions.clip_id[~there][0]!r}"
                )
    mean = {task: np.mean([getattr(seed, task) for seed in seeds], axis=0) for task in TASKS}
    return Predictions(clip_id=seeds[0].clip_id, country_codes=codes, **mean)


def _weigh(
    config: FusionConfig, task: str, doing: list[int], val: dict[str, Predictions], labels: Labels
) -> tuple[dict[str, Any], list[str]]:
    """Return the weights of a task, one per system of the config, how they were chosen, and notes.

    ``doing`` are the places of the systems that do the task.
    """
    notes = []
    record = {"metric": METRICS[task], "weights": [0.0] * len(val), "chosen_by": "none", "n_candidates": 0}
    if not doing:
        if val[config.systems[0]].country_codes or task != "country":
            notes.append(f"{task}: no system of this fusion predicts it, so the fusion does not either")
        else:
            notes.append("country: the corpus has no country labels, so none is predicted")
        return record, notes
    if len(doing) < len(val):
        names = [name for i, name in enumerate(val) if i not in doing]
        notes.append(f"{task}: weight 0 for systems that do not predict it: {', '.join(names)}")

    equal = np.full(len(doing), 1 / len(doing))
    if config.rule == "paper" and task == "emotion":
        source = config.emotion_from or config.systems[0]
        if config.systems.index(source) not in doing:
            raise ValueError(
                f"fusion {config.name!r}: emotion_from names {source!r}, which predicts no emotion"
            )
        chosen, record["chosen_by"] = np.array([float(config.systems[i] == source) for i in doing]), "rule"
    elif config.rule != "weighted" or len(doing) == 1:
        chosen, record["chosen_by"] = equal, "rule" if config.rule != "weighted" else "only system"
    elif not labelled(labels, task).any():
        chosen, record["chosen_by"] = equal, "no labels"
        notes.append(f"{task}: no labels on Val to choose weights by, so equal weights")
    else:
        known = labelled(labels, task)
        stack = np.stack([getattr(val[config.systems[i]], task)[known] for i in doing])
        search = search_weights(
            partial(_value, task, labels.take(known), stack=stack),
            len(doing),
            step=config.step,
            max_candidates=config.max_candidates,
        )
        chosen, record["chosen_by"], record["n_candidates"] = search.weights, search.how, search.n_candidates
        if search.value == float("-inf"):
            record["chosen_by"] = "undefined"
            notes.append(f"{task}: the labels on Val do not vary, so its metric is undefined: equal weights")
        elif record["chosen_by"] == "steps":
            notes.append(
                f"{task}: the grid of weights has more than {config.max_candidates} points; found by steps "
                f"of {config.step} from equal weights, which may end short of the best"
            )
    for i, weight in zip(doing, chosen, strict=True):
        record["weights"][i] = round(float(weight), 12)
    return record, notes


def _does(predictions: Predictions, task: str) -> bool:
    return bool(np.isfinite(getattr(predictions, task)).any())


def _value(task: str, labels: Labels, weights: np.ndarray, stack: np.ndarray) -> float:
    """Val metric of a weighted average, higher is better; -inf if it is undefined."""
    fused, target = np.tensordot(weights, stack, axes=1), getattr(labels, task)
    if task == "emotion":
        value = mean_ccc(target, fused)[1]
    else:
        value = uar(target, predicted_class(fused)) if task == "country" else -mae(target, fused)
    return value if np.isfinite(value) else float("-inf")


def _combine(systems: list[Predictions], weights: Mapping[str, list[float]]) -> Predictions:
    """Average aligned systems; a task in which every weight is 0 is left NaN."""
    fused = {}
    for task in TASKS:
        terms = [w * getattr(s, task) for w, s in zip(weights[task], systems, strict=True) if w > 0]
        fused[task] = np.sum(terms, axis=0) if terms else np.full_like(getattr(systems[0], task), np.nan)
    return Predictions(clip_id=systems[0].clip_id, country_codes=systems[0].country_codes, **fused)
