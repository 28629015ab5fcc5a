"""Which labels a training can use, and the outputs of a network as arrays.

A task without labels in Train has no head, and its predictions are NaN. An emotion without labels in Train is 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exvo.corpus.labels import EMOTIONS, Labels
from exvo.evaluation.metrics import labelled


def any_labelled(labels: Labels, tasks: Sequence[str]) -> np.ndarray:
    """Return which clips have a label of at least one of the tasks [shape=(n,), bool]."""
    return np.logical_or.reduce([labelled(labels, task) for task in tasks])


def without_labels(labels: Labels, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks without labels, and the emotions without labels if ``emotion`` has any."""
    names = [task for task in tasks if not labelled(labels, task).any()]
    if "emotion" in tasks and "emotion" not in names:
        no_label = np.isnan(labels.emotion).all(axis=0)
        names += [name for name, missing in zip(EMOTIONS, no_label, strict=True) if missing]
    return tuple(names)


def task_arrays(
    outputs: Mapping[str, Tensor], n_clips: int, n_countries: int, untrained: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the outputs of a network as arrays of emotion, age and country probabilities.

    Parameters
    ----------
    outputs : mapping of task to Tensor
        ``emotion`` (n, 10) in [0, 1]; ``age`` (n,) or (n, 1), in years; ``country`` (n, n_countries), logits.
    n_clips, n_countries : int
    untrained : sequence of str
        As `without_labels` returns it.

    Returns
    -------
    emotion : np.ndarray [shape=(n, 10), float64]
    age : np.ndarray [shape=(n,), float64]
    country : np.ndarray [shape=(n, n_countries), float64]
        NaN for a task without outputs.
    """
    emotion = np.full((n_clips, len(EMOTIONS)), np.nan)
    age = np.full(n_clips, np.nan)
    country = np.full((n_clips, n_countries), np.nan)
    if "emotion" in outputs:
        emotion[:] = outputs["emotion"].cpu().numpy()
        emotion[:, [name in untrained for name in EMOTIONS]] = 0.0
    if "age" in outputs:
        age[:] = outputs["age"].reshape(n_clips).cpu().numpy()
    if "country" in outputs:
        country[:] = torch.softmax(outputs["country"].double(), dim=1).cpu().numpy()
    return emotion, age, country


def map_numbers(value: Any, function: Callable[[float | None], float | None]) -> Any:  # noqa: ANN401 (JSON)
    """Apply a function to every number in a JSON value, in which None represents NaN."""
    if isinstance(value, dict):
        return {name: map_numbers(part, function) for name, part in value.items()}
    return [map_numbers(part, function) for part in value] if isinstance(value, list) else function(value)
