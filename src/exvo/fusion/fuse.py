"""Late fusion of systems, task by task, fitted on Val.

The seeds of a system are averaged first. Then each task is fused separately: the emotion intensities, ages or country
probabilities of the systems that do the task are combined. The inputs are predictions, Val labels and the Train prior
of age; Test labels are never read here.

Rules
-----
weighted
    A weighted average; the weights of each task maximise its metric on Val (mean CCC, UAR, MAE). For age, the Train
    prior may get weight too (the paper weights systems only), so a corpus on which age cannot be predicted is scored
    no worse than the prior.
stacked
    A combiner per task: ridge regression for emotion and age, logistic regression for country. Age is shrunk towards
    the Train prior by a weight chosen on Val (`exvo.fusion.stacking`).
per_task
    For each task, the rule of ``average``, ``weighted`` and ``stacked`` with the best out-of-fold score. For the
    out-of-fold predictions of a fold, the rule is chosen by the scores on the other folds. The fits behind these
    scores included the fold, so the selection is not fully nested and slightly optimistic.
average
    Equal weights in every task.
paper
    Equal weights for country and age, emotion from one system: the rule of the paper's Table 4. Like ``average``, it
    does not use the prior.
feature_fusion
    A network trained on Train on the embeddings or features of the systems (`exvo.networks.fusion_network`). Its
    predictions are read like those of a system, and nothing is fitted on Val here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exvo.corpus.labels import TASKS, Labels
from exvo.evaluation.metrics import labelled, score
from exvo.evaluation.predictions import Predictions, align
from exvo.fusion.combine import METRICS, FusedTask, combine_task, task_folds, task_value
from exvo.fusion.config import CrossFit, FusionConfig, Rule

__all__ = ["CrossFit", "Fusion", "FusionConfig", "Run", "fuse", "mean_of_seeds"]

_FIVE_FOLDS = CrossFit()
# For the rule `per_task`, the simplest first.
CHOICE: tuple[Rule, ...] = ("average", "weighted", "stacked")


@dataclass(frozen=True)
class Run:
    """One trained seed of a system: its predictions for Val and for Test."""

    val: Predictions
    test: Predictions


@dataclass(frozen=True)
class Fusion:
    """Fused predictions, and a description of the fusion.

    Attributes
    ----------
    val, out_of_fold, test : Predictions
        In the order of the Val labels and of the Test clips. ``val`` by a fit on all of Val; ``out_of_fold``
        predicts each speaker by a fit on the other speakers.
    description : dict
        JSON types only: ``name``, ``rule``, ``step``, ``feature_fusion`` (inputs, training and number of seeds of a
        feature fusion), ``tasks`` (per task: metric, weights or shares per system, ``train_prior`` for age, how
        they were chosen, Val score, out-of-fold Val score, clips and speakers with labels), ``systems`` (per
        system: seeds, Val scores), ``val`` and ``out_of_fold_val`` (scores of the fusion), ``notes``.
    """

    val: Predictions
    out_of_fold: Predictions
    test: Predictions
    description: dict[str, Any]


def fuse(
    config: FusionConfig,
    runs: Mapping[str, Sequence[Run]],
    val_labels: Labels,
    test_clip_ids: Sequence[str] | np.ndarray,
    cross: CrossFit = _FIVE_FOLDS,
    age_prior: float | None = None,
) -> Fusion:
    """Combine systems.

    Parameters
    ----------
    config : FusionConfig
    runs : mapping of str to sequence of Run
        The seeds of every system that the config names, and of the fusion itself where its rule is ``feature_fusion``.
    val_labels : Labels
        Of the Val clips.
    test_clip_ids : sequence of str
        Test clips, in the order wanted.
    cross : CrossFit
        The folds of Val for out-of-fold predictions.
    age_prior : float, optional
        The Train prior of age, in years, for the rules ``weighted``, ``stacked`` and ``per_task``.

    Raises
    ------
    ValueError
        If a system has no runs, lacks a clip, predicts a task for some of the clips only, or predicts other
        countries than those of the corpus.
    """
    systems = {}
    for name in config.systems:
        if not runs.get(name):
            raise ValueError(f"fusion {config.name!r}: no runs of system {name!r}")
        systems[name] = mean_of_seeds(name, runs[name], val_labels, test_clip_ids)
    tasks: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    if config.rule == "feature_fusion":
        if not runs.get(config.name):
            raise ValueError(f"fusion {config.name!r}: no runs of its feature fusion")
        model = mean_of_seeds(config.name, runs[config.name], val_labels, test_clip_ids)
        parts = {task: _predicted_task(task, model) for task in TASKS}
    else:
        parts = {task: _fuse_task(config, task, systems, val_labels, cross, age_prior) for task in TASKS}
    for part in parts.values():
        notes += part.notes
    fused = {
        split: Predictions(
            clip_id=next(iter(systems.values())).val.clip_id
            if split != "test"
            else np.asarray(test_clip_ids),
            country_codes=next(iter(systems.values())).val.country_codes,
            **{task: getattr(part, split) for task, part in parts.items()},
        )
        for split in ("val", "out_of_fold", "test")
    }
    val_scores, out_of_fold = (score(val_labels, fused[split]).to_json() for split in ("val", "out_of_fold"))
    for task, part in parts.items():
        known = labelled(val_labels, task)
        tasks[task] = {
            "metric": METRICS[task],
            **part.record,
            "val_score": val_scores[METRICS[task]],
            "out_of_fold_val_score": out_of_fold[METRICS[task]],
            "n_clips": int(known.sum()),
            "n_speakers": len(set(val_labels.speaker[known].tolist()) - {""}),
        }
    description = {
        "name": config.name,
        "rule": config.rule,
        "step": config.step if config.rule == "weighted" else None,
        "feature_fusion": {
            "inputs": config.inputs,
            "training": dict(config.training),
            "n_seeds": len(runs[config.name]),
        }
        if config.rule == "feature_fusion"
        else None,
        "tasks": tasks,
        "val": val_scores,
        "out_of_fold_val": out_of_fold,
        "systems": {
            name: {"n_seeds": len(runs[name]), "val": score(val_labels, systems[name].val).to_json()}
            for name in config.systems
        },
        "n_val_clips": len(val_labels),
        "n_test_clips": len(test_clip_ids),
        "notes": notes,
    }
    return Fusion(fused["val"], fused["out_of_fold"], fused["test"], description)


def mean_of_seeds(
    name: str, seeds: Sequence[Run], val_labels: Labels, test_clip_ids: Sequence[str] | np.ndarray
) -> Run:
    """Average the seeds of a system, with the clips in the order of the labels and of the Test clips.

    Raises
    ------
    ValueError
        As `fuse`.
    """
    codes = tuple(country.code for country in val_labels.countries)
    val = _mean(name, [align(run.val, val_labels.clip_id) for run in seeds], codes)
    test = _mean(name, [align(run.test, test_clip_ids) for run in seeds], codes)
    for task in TASKS:
        if len(val) and len(test) and _does(val, task) != _does(test, task):
            raise ValueError(f"system {name!r} predicts {task} for one of Val and Test only")
    return Run(val, test)


def _mean(name: str, seeds: list[Predictions], codes: tuple[int, ...]) -> Predictions:
    """Average aligned seeds, and check that each task is done for all clips or for none."""
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


def _predicted_task(task: str, model: Run) -> FusedTask:
    """Return the predictions of a feature fusion; nothing is fitted on Val, so no folds are needed."""
    val, test = getattr(model.val, task), getattr(model.test, task)
    if _does(model.val if len(model.val) else model.test, task):
        return FusedTask(val, val, test, {"chosen_by": "training on Train"})
    note = f"{task}: the feature fusion does not predict it: no system does, or Train has no labels"
    return FusedTask(val, val, test, {"chosen_by": "none"}, [note])


def _fuse_task(
    config: FusionConfig,
    task: str,
    systems: Mapping[str, Run],
    labels: Labels,
    cross: CrossFit,
    age_prior: float | None,
) -> FusedTask:
    """Combine the systems that do a task; NaN where no system does it."""
    # A corpus may have no Val clips: the tasks of a system are then read from Test.
    shown = {name: run.val if len(run.val) else run.test for name, run in systems.items()}
    doing = [name for name in config.systems if _does(shown[name], task)]
    first = next(iter(systems.values()))
    if not doing:
        if first.val.country_codes or task != "country":
            note = f"{task}: no system of this fusion predicts it, so the fusion does not"
        else:
            note = "country: the corpus has no country labels, so none is predicted"
        val, test = (np.full_like(getattr(p, task), np.nan) for p in (first.val, first.test))
        record = {"chosen_by": "none", "weights": dict.fromkeys(config.systems, 0.0)}
        return FusedTask(val, val, test, record, [note])
    if config.rule == "paper" and task == "emotion":
        source = config.emotion_from or config.systems[0]
        if source not in doing:
            raise ValueError(
                f"fusion {config.name!r}: emotion_from names {source!r}, which predicts no emotion"
            )
        doing.sort(key=lambda name: name != source)
    val, test = (
        np.stack([getattr(getattr(systems[n], split), task) for n in doing]) for split in ("val", "test")
    )
    combine = _best_rule if config.rule == "per_task" else combine_task
    part = combine(config, task, doing, val, test, labels, cross, age_prior if task == "age" else None)
    key = "weights" if "weights" in part.record else "shares"
    part.record[key] = {name: part.record[key].get(name, 0.0) for name in config.systems}
    if len(doing) < len(systems):
        names = ", ".join(name for name in config.systems if name not in doing)
        part.notes.insert(0, f"{task}: weight 0 for systems that do not predict it: {names}")
    return part


def _best_rule(
    config: FusionConfig,
    task: str,
    names: Sequence[str],
    val: np.ndarray,
    test: np.ndarray,
    labels: Labels,
    cross: CrossFit,
    prior: float | None,
) -> FusedTask:
    """Combine a task by the rule with the best out-of-fold score; arguments as of `combine_task`."""
    parts = {
        rule: combine_task(replace(config, rule=rule), task, names, val, test, labels, cross, prior)
        for rule in CHOICE
    }
    rows = np.flatnonzero(labelled(labels, task))
    seen = labels.take(rows)
    folds = task_folds(task, seen, cross)

    def best(use: np.ndarray) -> Rule:
        values = {
            rule: task_value(task, seen.take(use), part.out_of_fold[rows[use]])
            for rule, part in parts.items()
        }
        return max(values, key=lambda rule: round(values[rule], 9))  # ties go to the first, simplest rule

    if folds is None:
        chosen = CHOICE[0]
        out_of_fold = parts[chosen].out_of_fold
    else:
        chosen = best(np.ones(len(rows), dtype=bool))
        out_of_fold = parts[chosen].out_of_fold.copy()
        for fold in range(cross.folds):
            held_out = rows[folds == fold]
            out_of_fold[held_out] = parts[best(folds != fold)].out_of_fold[held_out]
    part = parts[chosen]
    record = {"rule": chosen, **part.record}
    return FusedTask(part.val, out_of_fold, part.test, record, parts["stacked"].notes)


def _does(predictions: Predictions, task: str) -> bool:
    return bool(np.isfinite(getattr(predictions, task)).any())
