"""Confidence intervals and paired differences of the metrics, by a bootstrap over speakers.

Clips of one speaker are correlated, so a resample draws speakers with replacement, each with all clips (the cluster
bootstrap: Davison and Hinkley 1997, section 3.8). Resampling clips gives intervals that are too narrow; a test
measures by how much.

Every metric is a function of sums over clips: counts, sums, squares and products for CCC, correct predictions per
country for UAR, absolute errors for MAE. A resample is therefore a vector of speaker counts times the sums of each
speaker, and all resamples of all seeds are one matrix product.

For several seeds, the metric is computed for each seed in each resample, then averaged over seeds on the same
speakers. The interval covers the variation over speakers; the SD over seeds is reported separately.

In a resample, as on all clips, UAR is averaged over the countries present, and CCC over the emotions with varying
labels.

The interval is the percentile interval, widened for small numbers of speakers (Hesterberg 2015, section 3.3, "expanded
percentile"). With n speakers its quantiles are ``Phi(sqrt(n / (n - 1)) t_(n-1, alpha/2))`` and its complement, which
gives the interval of a mean the width of Student's. The interval of UAR may be too narrow where a country has very few
speakers, because no resample has others; the tables name such countries. The two-sided p-value of a difference is the
level at which its interval reaches zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from exvo.corpus.labels import EMOTIONS, TASKS, Labels
from exvo.evaluation.intervals import MIN_SPEAKERS, Difference, Interval, limits, p_value
from exvo.evaluation.metrics import CccForm, labelled, predicted_class, varying
from exvo.evaluation.predictions import Predictions
from exvo.evaluation.speakers import speaker_index
from exvo.util.settings import Bounds, Natural

METRICS = ("uar", "mae", "ccc", "s_mtl")
TASK_OF = {"uar": "country", "mae": "age", "ccc": "emotion"}


@dataclass(frozen=True)
class BootstrapConfig:
    """How intervals are computed.

    Attributes
    ----------
    resamples : int
        Number of bootstrap resamples of the speakers.
    confidence : float
        Confidence level of the intervals.
    seed : int
        Seed of the resamples; all systems are compared on the same ones.
    """

    resamples: Annotated[int, Bounds(at_least=100)] = 1000
    confidence: Annotated[float, Bounds(above=0.5, below=1)] = 0.95
    seed: Natural = 0


@dataclass(frozen=True)
class Draws:
    """Metrics of one system, averaged over its seeds, on all clips and on every resample.

    Attributes
    ----------
    values : dict of str to np.ndarray [shape=(1 + resamples,)]
        By metric: ``uar``, ``mae``, ``ccc``, ``s_mtl`` and each emotion's CCC by its name. The first value is that
        of all clips. NaN without labels or predictions; -inf for an S_MTL with a term that is not positive.
    n_speakers : dict of str to int
        By metric: speakers with a label of its task, or of the emotion; for ``s_mtl`` the minimum over tasks.
    source : SpeakerBootstrap
        The source of the resamples.
    """

    values: Mapping[str, np.ndarray]
    n_speakers: Mapping[str, int]
    source: "SpeakerBootstrap" = field(repr=False, compare=False)

    def value(self, metric: str) -> float:
        """Return the metric on all clips, NaN where it is undefined."""
        value = self.values[metric][0]
        return float(value) if np.isfinite(value) else float("nan")

    def interval(self, metric: str) -> Interval:
        """Return the confidence interval of a metric."""
        n_speakers, drawn = self.n_speakers[metric], self.values[metric][1:]
        known = np.sort(drawn[~np.isnan(drawn)])
        n_undefined = int((~np.isfinite(drawn)).sum())
        if n_speakers < MIN_SPEAKERS or np.isnan(self.value(metric)) or not len(known):
            return Interval(np.nan, np.nan, n_speakers, n_undefined)
        low, high = limits(known, n_speakers, self.source.config.confidence)
        return Interval(low, high, n_speakers, n_undefined)


class SpeakerBootstrap:
    """The resamples of one set of labelled clips, on which any number of systems can be scored.

    Parameters
    ----------
    labels : Labels
        Clips without any label are ignored; a clip without a speaker counts as a speaker of its own.
    config : BootstrapConfig
    form : {"standard", "organisers"}
        Of CCC, as in `exvo.evaluation.metrics.ccc`, without its rounding.

    Attributes
    ----------
    n_clips, n_speakers, n_unnamed : int
        Labelled clips, their speakers (unnamed ones included), and clips without a speaker.
    n_speakers_of : dict of str to int
        Speakers with a label, by task.
    n_speakers_of_emotion, n_speakers_of_country : dict of str to int
        Speakers with a label of each emotion, and speakers of each country with any, by name.

    Examples
    --------
    The ages of 40 clips by 8 speakers, predicted by two systems. The second has twice the errors of the first, so
    its MAE is higher by the MAE of the first, with the same interval.

    >>> import numpy as np
    >>> from exvo.corpus.labels import Country, Labels
    >>> from exvo.evaluation.predictions import Predictions
    >>> random = np.random.default_rng(0)
    >>> ids = np.array([f"{i:05d}" for i in range(40)])
    >>> speakers, unknown = np.repeat(list("ABCDEFGH"), 5), np.full((40, 10), np.nan)
    >>> age, errors = random.uniform(20, 60, 40), random.normal(0, 4, 40)
    >>> labels = Labels(ids, np.full(40, "Val"), speakers, age, np.full(40, -1), unknown, (Country(1, "A"),))
    >>> first, second = (
    ...     Predictions(ids, age + factor * errors, np.full((40, 1), np.nan), unknown, (1,))
    ...     for factor in (1, 2)
    ... )
    >>> bootstrap = SpeakerBootstrap(labels, BootstrapConfig(resamples=1000, seed=0))
    >>> draws = [bootstrap.draws([predictions]) for predictions in (first, second)]
    >>> interval = draws[0].interval("mae")
    >>> [round(x, 2) for x in (draws[0].value("mae"), interval.low, interval.high)]
    [3.82, 3.03, 4.66]
    >>> change = difference(draws[1], draws[0], "mae")
    >>> [round(x, 2) for x in (change.value, change.low, change.high)]
    [3.82, 3.03, 4.66]
    """

    def __init__(self, labels: Labels, config: BootstrapConfig, form: CccForm = "standard") -> None:
        self.config, self.form = config, form
        self._clip_id = labels.clip_id
        known = {task: labelled(labels, task) for task in TASKS}
        rows = np.flatnonzero(np.any(list(known.values()), axis=0))
        index, self.n_unnamed = speaker_index(labels.speaker[rows])
        order = np.argsort(index, kind="stable")
        self._rows, index = rows[order], index[order]
        self._starts = np.flatnonzero(np.diff(index, prepend=-1))
        self.n_clips, self.n_speakers = len(rows), len(self._starts)
        self.n_speakers_of = {task: len(np.unique(index[known[task][self._rows]])) for task in TASKS}
        self._labels = labels.take(self._rows)
        self.n_speakers_of_emotion = {
            name: len(np.unique(index[~np.isnan(column)]))
            for name, column in zip(EMOTIONS, self._labels.emotion.T, strict=True)
        }
        self.n_speakers_of_country = {
            country.name: len(np.unique(index[self._labels.country == i]))
            for i, country in enumerate(labels.countries)
            if (self._labels.country == i).any()
        }
        self._weights = _draw(self.n_speakers, config)
        self._sum_labels()

    def _sum_labels(self) -> None:
        """Compute the sums that depend on the labels only, for every resample."""
        emotion, country = self._labels.emotion, self._labels.country
        self._emotion_known = ~np.isnan(emotion)
        n = np.maximum(self._emotion_known.sum(axis=0), 1)
        # CCC is invariant to a common shift of labels and predictions; centred squares lose no digits.
        self._centre = np.where(self._emotion_known, emotion, 0).sum(axis=0) / n
        self._target = np.where(self._emotion_known, emotion - self._centre, 0)
        self._is_country = country[:, None] == np.arange(len(self._labels.countries))
        self._age_known = ~np.isnan(self._labels.age)
        sums = self._totals([self._emotion_known, self._target, self._target**2])
        self._n, self._sum_t, self._sum_tt = (sums[:, i : i + 10] for i in (0, 10, 20))
        self._n_country = self._totals([self._is_country])
        self._n_age = self._totals([self._age_known[:, None]])[:, 0]
        self._varies = self._labels_that_vary()

    def _labels_that_vary(self) -> np.ndarray:
        """Return which emotions have two different labels in each resample, without rounding."""
        emotion = self._labels.emotion
        low = self._of_speakers(np.minimum, np.where(self._emotion_known, emotion, np.inf))
        high = self._of_speakers(np.maximum, np.where(self._emotion_known, emotion, -np.inf))
        drawn = self._weights > 0
        varies = self._weights @ (low < high).astype(float) > 0
        # Where the labels of no single speaker vary, those of different speakers may still differ.
        for resample, column in zip(*np.nonzero(~varies), strict=True):
            ends = low[drawn[resample], column]
            ends = ends[np.isfinite(ends)]
            varies[resample, column] = len(ends) > 0 and ends.min() < ends.max()
        return varies

    def draws(self, seeds: Sequence[Predictions]) -> Draws:
        """Score a system on all clips and on every resample.

        Parameters
        ----------
        seeds : sequence of Predictions
            One per seed, at least one; of the clips of the labels, in their order.

        Raises
        ------
        ValueError
            If there is no seed, or the clips are not those of the labels in their order.
        """
        if not seeds:
            raise ValueError("bootstrap: no predictions")
        columns: list[np.ndarray] = []
        constant: list[np.ndarray] = []
        for seed in seeds:
            if not np.array_equal(seed.clip_id, self._clip_id):
                raise ValueError(
                    "bootstrap: labels and predictions have different clips or another order: align them first"
                )
            columns += self._columns_of(seed)
            constant.append(~varying(np.where(self._emotion_known, seed.emotion[self._rows], np.nan)))
        width = 30 + self._is_country.shape[1] + 1
        totals = self._totals(columns)
        parts = [
            self._metrics(totals[:, i * width : (i + 1) * width], constant[i]) for i in range(len(seeds))
        ]
        values = {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}
        n_speakers = {name: self.n_speakers_of[task] for name, task in TASK_OF.items()}
        n_speakers |= self.n_speakers_of_emotion
        return Draws(values, n_speakers | {"s_mtl": min(self.n_speakers_of.values())}, self)

    def few_speakers(self) -> dict[str, int]:
        """Return the countries with too few speakers for reliable intervals, and their numbers of speakers."""
        return {name: n for name, n in self.n_speakers_of_country.items() if n < MIN_SPEAKERS}

    def _columns_of(self, seed: Predictions) -> list[np.ndarray]:
        """Return the summands of one seed: p, p^2 and t p per emotion, correct predictions per country, age errors."""
        emotion = np.where(self._emotion_known, seed.emotion[self._rows] - self._centre, 0)
        chosen = predicted_class(seed.country[self._rows])
        correct = np.where(chosen < 0, np.nan, chosen == self._labels.country)
        # A label without a prediction makes the metric undefined in every resample.
        correct = np.where(self._is_country, correct[:, None], 0)
        error = np.where(self._age_known, np.abs(seed.age[self._rows] - self._labels.age), 0)
        return [emotion, emotion**2, emotion * self._target, correct, error[:, None]]

    def _metrics(self, totals: np.ndarray, constant: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the metrics of one seed from its sums; ``constant`` marks emotions with a constant prediction."""
        with np.errstate(divide="ignore", invalid="ignore"):
            n, n_variance = self._n, self._n - (self.form == "organisers")
            mean_t, mean_p = self._sum_t / n, totals[:, :10] / n
            spread = self._sum_tt - n * mean_t**2 + totals[:, 10:20] - n * mean_p**2
            covariance = np.where(constant, 0.0, totals[:, 20:30] / n - mean_t * mean_p)
            ccc = 2 * covariance / (spread / n_variance + (mean_t - mean_p) ** 2)
            mean_ccc = np.where(self._varies, ccc, 0).sum(axis=1) / self._varies.sum(axis=1)
            present = self._n_country > 0
            recall = totals[:, 30:-1] / self._n_country
            uar = np.where(present, recall, 0).sum(axis=1) / present.sum(axis=1)
            mae = totals[:, -1] / self._n_age
            s_mtl = np.where((mean_ccc > 0) & (uar > 0), 3 / (1 / mean_ccc + 1 / uar + mae), -np.inf)
        s_mtl[np.isnan(mean_ccc) | np.isnan(uar) | np.isnan(mae)] = np.nan
        ccc = np.where(self._varies, ccc, np.nan)
        return {
            "uar": uar,
            "mae": mae,
            "ccc": mean_ccc,
            "s_mtl": s_mtl,
            **{name: ccc[:, i] for i, name in enumerate(EMOTIONS)},
        }

    def _of_speakers(self, reduce: np.ufunc, columns: np.ndarray) -> np.ndarray:
        """Reduce columns over the clips of each speaker."""
        if not self.n_speakers:
            return np.zeros((0, columns.shape[1]))
        return reduce.reduceat(columns, self._starts, axis=0)

    def _totals(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Sum columns over the clips of every resample."""
        return self._weights @ np.hstack([self._of_speakers(np.add, c.astype(float)) for c in columns])


def difference(first: Draws, second: Draws, metric: str) -> Difference:
    """Return the first system's metric minus the second's, on the same speakers.

    Raises
    ------
    ValueError
        If the two were not scored by the same `SpeakerBootstrap`.
    """
    _check_source(first, second)
    with np.errstate(invalid="ignore"):  # -inf minus -inf: both are undefined, so the resample is left out
        drawn = first.values[metric][1:] - second.values[metric][1:]
    return _compared(first, metric, first.value(metric) - second.value(metric), drawn)


def relative(first: Draws, second: Draws, metric: str) -> Difference:
    """Return the difference of a positive metric in percent of the second system's value.

    Raises
    ------
    ValueError
        As `difference`.
    """
    _check_source(first, second)
    a, b = first.values[metric][1:], second.values[metric][1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.where(np.isfinite(a) & np.isfinite(b), 100 * (a / b - 1), a - b)
        value = 100 * (np.float64(first.value(metric)) / second.value(metric) - 1)
    return _compared(first, metric, value, drawn)


def _check_source(first: Draws, second: Draws) -> None:
    if first.source is not second.source:
        raise ValueError("difference: the two systems were not scored on the same resamples")


def _compared(first: Draws, metric: str, value: float, drawn: np.ndarray) -> Difference:
    """Return a difference with its interval and p-value."""
    known = np.sort(drawn[~np.isnan(drawn)])
    n_speakers = first.n_speakers[metric]
    if np.isnan(value) or n_speakers < MIN_SPEAKERS or not len(known):
        return Difference(float(value), np.nan, np.nan, np.nan)
    low, high = limits(known, n_speakers, first.source.config.confidence)
    return Difference(float(value), low, high, p_value(known, n_speakers))


def _draw(n_speakers: int, config: BootstrapConfig) -> np.ndarray:
    """Return the counts of each speaker in each resample [shape=(1 + resamples, n_speakers)]; ones in the first."""
    random = np.random.default_rng(config.seed)
    weights = np.ones((1 + config.resamples, n_speakers))
    for row in weights[1:] if n_speakers else ():
        row[:] = np.bincount(random.integers(n_speakers, size=n_speakers), minlength=n_speakers)
    return weights
