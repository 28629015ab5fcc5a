"""The metrics of the ExVo 2022 Multitask track: CCC, UAR, MAE and S_MTL.

Training selects epochs by the same functions that scoring reports. NumPy only.

An unknown label (NaN, or -1 for a country) is masked. A missing *prediction* for a clip with a known label makes the
metric NaN, so a system is never scored on a subset of the clips.

Sources: Lin 1989 (CCC); Baird et al. 2022, "The ICML 2022 Expressive Vocalizations Workshop and Competition"
(the task metrics and S_MTL).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

CccForm = Literal["standard", "organisers"]


class TaskValues(Protocol):
    """Age, country and emotion of ``n`` clips, such as ``Labels`` and ``Predictions``."""

    @property
    def clip_id(self) -> np.ndarray:
        """Clip ids [shape=(n,), str]."""

    @property
    def age(self) -> np.ndarray:
        """Ages in years [shape=(n,)]."""

    @property
    def country(self) -> np.ndarray:
        """Class indices [shape=(n,)], or probabilities [shape=(n, n_countries)]."""

    @property
    def emotion(self) -> np.ndarray:
        """Intensities [shape=(n, 10)]."""


@dataclass(frozen=True)
class Scores:
    """The metrics of one set of predictions, and the number of clips of each.

    An undefined metric is NaN: no labels, no predictions, or constant labels (CCC).

    Attributes
    ----------
    ccc : float
        Mean over the emotions with a CCC.
    ccc_per_emotion : tuple of float
        In the order of the emotion columns; NaN for an emotion without labels, or with constant labels.
    uar : float
        In [0, 1].
    mae : float
        In years.
    s_mtl : float
    n_emotion, n_country, n_age : int
        Clips with a label (for emotion: of at least one emotion); 0 for a task without predictions.
    predicted : tuple of str
        The tasks with a prediction for at least one clip; a single-task system leaves the others NaN.
    """

    ccc: float
    ccc_per_emotion: tuple[float, ...]
    uar: float
    mae: float
    s_mtl: float
    n_emotion: int
    n_country: int
    n_age: int
    predicted: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON types, a missing number as None."""
        record = asdict(self) | {"predicted": list(self.predicted)}
        record["ccc_per_emotion"] = [_none_if_nan(value) for value in self.ccc_per_emotion]
        return record | {name: _none_if_nan(record[name]) for name in ("ccc", "uar", "mae", "s_mtl")}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Scores":
        """Return the scores that `to_json` wrote; None becomes NaN."""
        numbers = {name: _nan_if_none(record[name]) for name in ("ccc", "uar", "mae", "s_mtl")}
        per_emotion = tuple(_nan_if_none(value) for value in record["ccc_per_emotion"])
        return cls(
            **{**record, **numbers, "ccc_per_emotion": per_emotion, "predicted": tuple(record["predicted"])}
        )


def ccc(target: np.ndarray, prediction: np.ndarray, *, form: CccForm = "standard") -> float:
    """Concordance correlation coefficient, ``2 cov / (var_t + var_p + (mean_t - mean_p)^2)``.

    Parameters
    ----------
    target, prediction : np.ndarray [shape=(n,)]
        A NaN target is masked; a NaN prediction of a known target makes the result NaN.
    form : {"standard", "organisers"}
        ``standard`` divides variances and covariance by n (Lin 1989). ``organisers`` reproduces the script of
        the challenge: variances over n - 1, covariance over n, rounded to 4 places.

    Returns
    -------
    float
        In [-1, 1]. A constant prediction of a varying target gives 0. NaN for fewer than two labels, or a constant
        target (for which the formula gives 0 or 0/0).

    Examples
    --------
    A prediction that is right but for an offset of 0.1, the mean as a constant, and a label that is not known.

    >>> round(ccc([0.1, 0.3, 0.5], [0.2, 0.4, 0.6]), 3)
    0.842
    >>> ccc([0.1, 0.3, 0.5], [0.3, 0.3, 0.3])
    0.0
    >>> ccc([0.1, float("nan"), 0.5], [0.1, 0.9, 0.5])
    1.0
    """
    target, prediction = np.asarray(target, float), np.asarray(prediction, float)
    if target.ndim != 1 or target.shape != prediction.shape:
        raise ValueError(f"ccc: two arrays of the same length, got {target.shape} and {prediction.shape}")
    return float(_ccc_of_columns(target[:, None], prediction[:, None], form)[0])


def mean_ccc(
    target: np.ndarray, prediction: np.ndarray, form: CccForm = "standard"
) -> tuple[np.ndarray, float]:
    """CCC of each emotion, and their mean.

    Parameters
    ----------
    target, prediction : np.ndarray [shape=(n, n_emotions)]
    form : {"standard", "organisers"}
        As in `ccc`.

    Returns
    -------
    per_emotion : np.ndarray [shape=(n_emotions,)]
    mean : float
        Over the emotions with varying labels. This depends on the labels only, so all systems are averaged over the
        same emotions. NaN if there is none, or if a prediction of one of them is missing.
    """
    target, prediction = np.asarray(target, float), np.asarray(prediction, float)
    if target.ndim != 2 or target.shape != prediction.shape:
        raise ValueError(f"mean_ccc: two (n, n_emotions) arrays, got {target.shape} and {prediction.shape}")
    per_emotion = _ccc_of_columns(target, prediction, form)
    counted = varying(target)
    return per_emotion, float(per_emotion[counted].mean()) if counted.any() else float("nan")


def uar(target: np.ndarray, predicted_class: np.ndarray) -> float:
    """Unweighted average recall: the mean recall over the classes present in the target.

    Parameters
    ----------
    target, predicted_class : np.ndarray [shape=(n,), int]
        Class indices. A target of -1 is masked; a prediction of -1 for a known target makes the result NaN.

    Returns
    -------
    float
        In [0, 1]; NaN without labels.

    Examples
    --------
    Three clips of class 0, two of them recognised, and one of class 1: the mean of 2/3 and 1.

    >>> round(uar([0, 0, 0, 1], [0, 0, 1, 1]), 3)
    0.833
    """
    target, predicted_class = np.asarray(target), np.asarray(predicted_class)
    if target.shape != predicted_class.shape:
        raise ValueError(f"uar: two arrays of the same length, got {target.shape}, {predicted_class.shape}")
    known = target >= 0
    if not known.any() or (predicted_class[known] < 0).any():
        return float("nan")
    n_clips = np.bincount(target[known])
    n_right = np.bincount(target[known & (target == predicted_class)], minlength=len(n_clips))
    return float((n_right[n_clips > 0] / n_clips[n_clips > 0]).mean())


def mae(target: np.ndarray, prediction: np.ndarray) -> float:
    """Mean absolute error, in the unit of the target (years).

    Parameters
    ----------
    target, prediction : np.ndarray [shape=(n,)]
        A NaN target is masked; a NaN prediction of a known target makes the result NaN.
    """
    target, prediction = np.asarray(target, float), np.asarray(prediction, float)
    if target.shape != prediction.shape:
        raise ValueError(f"mae: two arrays of the same length, got {target.shape} and {prediction.shape}")
    known = ~np.isnan(target)
    return float(np.abs(target[known] - prediction[known]).mean()) if known.any() else float("nan")


def s_mtl(ccc: float, uar: float, mae: float) -> float:
    """Harmonic mean of CCC, UAR and 1/MAE: ``3 / (1/CCC + 1/UAR + MAE)``.

    Returns
    -------
    float
        NaN if CCC or UAR is not positive or any term is missing. An MAE of exactly 0 takes the limit: its
        term leaves the sum.

    Examples
    --------
    >>> round(s_mtl(ccc=0.4, uar=0.5, mae=4.0), 3)
    0.353
    >>> s_mtl(ccc=-0.1, uar=0.5, mae=4.0)
    nan
    """
    if not (ccc > 0 and uar > 0 and 0 <= mae < np.inf):
        return float("nan")
    return float(3 / (1 / ccc + 1 / uar + mae))


def predicted_class(probability: np.ndarray) -> np.ndarray:
    """Index of the most probable class, the first of equals; -1 where there are no probabilities.

    Parameters
    ----------
    probability : np.ndarray [shape=(n, n_classes)]
    """
    probability = np.asarray(probability, float)
    if probability.shape[1] == 0:
        return np.full(len(probability), -1)
    return np.where(np.isnan(probability).any(axis=1), -1, probability.argmax(axis=1))


def score(labels: TaskValues, predictions: TaskValues, *, form: CccForm = "standard") -> Scores:
    """Score predictions against labels of the same clips in the same order.

    Parameters
    ----------
    labels : Labels, or anything with ``clip_id``, ``age``, ``country`` (class indices) and ``emotion``
    predictions : Predictions, or anything with ``clip_id``, ``age``, ``country`` (probabilities, one column
        per class in the order of the class indices) and ``emotion``
    form : {"standard", "organisers"}
        As in `ccc`.

    Raises
    ------
    ValueError
        If the clips of the two are not the same in the same order.
    """
    if not np.array_equal(labels.clip_id, predictions.clip_id):
        raise ValueError(
            "score: labels and predictions have different clips or another order: align them first"
        )
    per_emotion, ccc_mean = mean_ccc(labels.emotion, predictions.emotion, form)
    uar_value = uar(labels.country, predicted_class(predictions.country))
    mae_value = mae(labels.age, predictions.age)
    predicted = tuple(
        task for task in ("emotion", "age", "country") if not np.isnan(getattr(predictions, task)).all()
    )
    return Scores(
        ccc=ccc_mean,
        ccc_per_emotion=tuple(float(value) for value in per_emotion),
        uar=uar_value,
        mae=mae_value,
        s_mtl=s_mtl(ccc_mean, uar_value, mae_value),
        n_emotion=int(labelled(labels, "emotion").sum()) if "emotion" in predicted else 0,
        n_country=int(labelled(labels, "country").sum()) if "country" in predicted else 0,
        n_age=int(labelled(labels, "age").sum()) if "age" in predicted else 0,
        predicted=predicted,
    )


def labelled(labels: TaskValues, task: str) -> np.ndarray:
    """Which clips have a label of a task (for emotion: of at least one emotion) [shape=(n,), bool]."""
    if task == "country":
        return labels.country >= 0
    return ~np.isnan(labels.age) if task == "age" else ~np.isnan(labels.emotion).all(axis=1)


def varying(values: np.ndarray) -> np.ndarray:
    """Return which columns have at least two different values; exact, unlike a test of the variance.

    Parameters
    ----------
    values : np.ndarray [shape=(n, k)]
        NaN where a value is missing.
    """
    known = ~np.isnan(values)
    low = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
    return low < high


def selection_score(scores: Scores, tasks: Iterable[str] | None = None) -> float:
    """Return the score that selects an epoch, higher is better: the harmonic mean of the terms of the tasks.

    With labels of all three tasks this is S_MTL; for a single-task system it is the metric of the task (CCC, UAR or
    1/MAE).

    Parameters
    ----------
    scores : Scores
        On Val.
    tasks : iterable of str, optional
        The tasks of the system; by default those it predicted. A task without labels is left out.

    Returns
    -------
    float
        -inf if a labelled term is missing or not positive, if a task named in ``tasks`` was not predicted
        (its outputs are all NaN: training diverged), or if no task has labels.
    """
    tasks = tuple(scores.predicted if tasks is None else tasks)
    counts = {"emotion": scores.n_emotion, "country": scores.n_country, "age": scores.n_age}
    if not set(tasks) <= set(scores.predicted):
        return float("-inf")
    inverse = []
    for task in (task for task in tasks if counts[task]):
        value = {"emotion": scores.ccc, "country": scores.uar, "age": scores.mae}[task]
        if not (0 <= value < np.inf) or (value == 0 and task != "age"):
            return float("-inf")
        inverse.append(value if task == "age" else 1 / value)
    if not inverse:
        return float("-inf")
    return float(len(inverse) / sum(inverse)) if sum(inverse) > 0 else float("inf")


def _ccc_of_columns(target: np.ndarray, prediction: np.ndarray, form: CccForm) -> np.ndarray:
    """CCC of each column of two (n, k) arrays: moments over the rows whose target is known."""
    if form not in ("standard", "organisers"):
        raise ValueError(f"ccc: form must be 'standard' or 'organisers', not {form!r}")
    known = ~np.isnan(target)
    varies = varying(target)
    n = np.where(varies, known.sum(axis=0), 2)  # 2 keeps the divisions of masked columns quiet
    target, prediction = np.where(known, target, 0.0), np.where(known, prediction, 0.0)
    mean_t, mean_p = target.sum(axis=0) / n, prediction.sum(axis=0) / n
    off_t, off_p = np.where(known, target - mean_t, 0.0), np.where(known, prediction - mean_p, 0.0)
    n_variance = n - 1 if form == "organisers" else n
    spread = ((off_t**2).sum(axis=0) + (off_p**2).sum(axis=0)) / n_variance + (mean_t - mean_p) ** 2
    value = np.full(len(varies), np.nan)
    covariance = np.where(varying(np.where(known, prediction, np.nan)), (off_t * off_p).sum(axis=0) / n, 0.0)
    np.divide(2 * covariance, spread, out=value, where=varies)
    return value.round(4) if form == "organisers" else value


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else value


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else float(value)
