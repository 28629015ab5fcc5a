"""Intervals and p-values of the draws of a bootstrap: percentile intervals, widened for few speakers."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

# With fewer there are too few different resamples to speak of a 95 % interval (five speakers have 126).
MIN_SPEAKERS = 5


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes
    ----------
    low, high : float
        NaN where the metric is not defined, or with fewer than `MIN_SPEAKERS` speakers; a ``low`` of -inf: it was not
        defined (S_MTL with a term that is not positive) in so many resamples that there is no lower limit.
    n_speakers : int
        That the metric rests on.
    n_undefined : int
        Resamples without a value: those without labels are left out, those in which a term of S_MTL is not
        positive count as lower than any value.
    """

    low: float
    high: float
    n_speakers: int
    n_undefined: int


@dataclass(frozen=True)
class Difference:
    """A difference of two systems, the first minus the second, on the same speakers.

    Attributes
    ----------
    value : float
    low, high : float
        Confidence interval, NaN or infinite as in `Interval`.
    p : float
        Two-sided, for no difference; NaN where there is no interval. Not below 2 / (resamples + 1) or so.
    """

    value: float
    low: float
    high: float
    p: float


def limits(known: np.ndarray, n_speakers: int, confidence: float) -> tuple[float, float]:
    """Return the expanded percentile interval of sorted draws, without interpolation: a draw may be infinite."""
    tail = norm.cdf(np.sqrt(n_speakers / (n_speakers - 1)) * t.ppf((1 - confidence) / 2, n_speakers - 1))
    place = max(int(np.floor(tail * (len(known) + 1))) - 1, 0)
    return float(known[place]), float(known[len(known) - 1 - place])


def p_value(known: np.ndarray, n_speakers: int) -> float:
    """Twice the smaller tail beyond zero, taken back through the widening for few speakers."""
    below, above = (known <= 0).sum(), (known >= 0).sum()
    tail = min((min(below, above) + 1) / (len(known) + 1), 0.5)
    return float(2 * t.cdf(np.sqrt((n_speakers - 1) / n_speakers) * norm.ppf(tail), n_speakers - 1))
