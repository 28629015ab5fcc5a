"""The prior of the training set: constant predictions, for clips without audio and as a baseline for systems."""

import math
from collections.abc import Sequence

import numpy as np

from exvo.corpus.labels import EMOTIONS, TASKS, Labels


def priors(labels: Labels, tasks: Sequence[str]) -> dict[str, float | list[float]]:
    """Return a constant prediction for each task.

    For age it is the median, because no other constant has a smaller mean absolute error.

    Parameters
    ----------
    labels : Labels
        Labels of Train.
    tasks : sequence of str

    Returns
    -------
    dict
        ``emotion``: list of 10 means, 0 for an emotion without labels; ``age``: the median, in years; ``country``:
        list of relative frequencies. NaN for a task that is not in ``tasks``; each task in it must have a label.
    """
    result: dict[str, float | list[float]] = {
        "emotion": [math.nan] * len(EMOTIONS),
        "age": math.nan,
        "country": [math.nan] * len(labels.countries),
    }
    for task in TASKS:
        if task not in tasks:
            continue
        if task == "emotion":
            n_labels = np.maximum((~np.isnan(labels.emotion)).sum(axis=0), 1)
            result[task] = (np.nansum(labels.emotion, axis=0) / n_labels).tolist()
        elif task == "age":
            result[task] = float(np.nanmedian(labels.age))
        else:
            counts = np.bincount(labels.country[labels.country >= 0], minlength=len(labels.countries))
            result[task] = (counts / counts.sum()).tolist()
    return result
