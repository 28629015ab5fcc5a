"""Confidence intervals and p-values from bootstrap draws: percentile intervals, widened for few speakers."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

# With fewer speakers there are too few different resamples for a 95 % interval (five speakers have 126).
MIN_SPEAKERS = 5


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes
    ----------
    low, high : float
        NaN where the metric is undefined, or with fewer than `MIN_SPEAKERS` speakers. A ``low`` of -inf: the metric
        is undefined (S_MTL with a term that is not positive) in too many resamples for a lower limit.
    n_speakers : int
        With labels of the metric.
    n_undefined : int
        Resamples without a value. Those without labels are left out; those in which a term of S_MTL is not positive
        count as lower than any value.
    """

    low: float
    high: float
    n_speakers: int
    n_undefined: int


@dataclass(frozen=True)
class Difference:
    """A difference between two systems, the first minus the second, on the same speakers.

    Attributes
    ----------
    value : float
    low, high : float
        Confidence interval, NaN or infinite as in `Interval`.
    p : float
        Two-sided, for the hypothesis of no difference; NaN without an interval. Not below about
        2 / (resamples + 1).
    """

    value: float
    low: float
    high: float
    p: float


def limits(known: np.ndarray, n_speakers: int, confidence: float) -> tuple[float, float]:
    """Return the expanded percentile interval of sorted draws, without interpolation, as draws may be infinite."""
    tail = norm.cdf(np.sqrt(n_speakers / (n_speakers - 1)) * t.ppf((1 - confidence) / 2, n_speakers - 1))
    place = max(int(np.floor(tail * (len(known) + 1))) - 1, 0)
    return float(known[place]), float(known[len(known) - 1 - place])


def p_value(known: np.ndarray, n_speakers: int) -> float:
    """Return twice the smaller tail beyond zero, corrected for the widening for few speakers."""
    below, above = (known <= 0).sum(), (known >= 0).sum()
    tail = min((min(below, above) + 1) / (len(known) + 1), 0.5)
    return float(2 * t.cdf(np.sqrt((n_speakers - 1) / n_speakers) * norm.ppf(tail), n_speakers - 1))
