"""Search for the weights of a weighted average: not negative, summing to one, with the best value of a task's metric.

A grid over the simplex is searched in full where it is small enough. Otherwise steps move weight from one entry to
another, or give all of it to one, while the metric improves. Ties go to the weights nearest to equal, so the same
values always give the same weights.

A search evaluates the metric for about a thousand averages. CCC is a ratio of quadratic forms in the weights, so means
and covariances of the systems are enough, whatever the number of clips. MAE and UAR need the clips: one matrix product
per block of clips.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np

from exvo.corpus.labels import Labels

Values = Callable[[np.ndarray], np.ndarray]
# Two values closer than this are a tie: the difference may be rounding.
TIE = 1e-9
# Clips per matrix product: with a thousand candidates the block stays in the cache.
_BLOCK = 512


@dataclass(frozen=True)
class WeightSearch:
    """The result of a search.

    Attributes
    ----------
    weights : np.ndarray [shape=(n,)]
    value : float
        -inf if the function was -inf for all candidates; the weights are then equal.
    how : {"grid", "steps"}
        ``steps`` ends where no single move improves the value, which may be a local optimum.
    n_candidates : int
    """

    weights: np.ndarray
    value: float
    how: Literal["grid", "steps"]
    n_candidates: int


def search_weights(values_of: Values, n: int, *, step: float, max_candidates: int) -> WeightSearch:
    """Search the weights with the highest value.

    Parameters
    ----------
    values_of : callable
        From weights [shape=(n_candidates, n)] to a number for each [shape=(n_candidates,)], higher is better, -inf
        where it is undefined.
    n : int [scalar > 0]
    step : float
        An integer fraction of 1. Exactly equal weights are a candidate too, on the grid or not.
    max_candidates : int
        The largest grid to search in full. A grid has ``comb(1/step + n - 1, n - 1)`` points: at a step of
        0.1, 11 for two entries, 1001 for five, 92,378 for ten.
    """
    n_steps = round(1 / step)
    on_grid = comb(n_steps + n - 1, n - 1) <= max_candidates
    best = np.full(n, 1 / n)
    best_value, n_candidates = float(values_of(best[None])[0]), 1
    while True:
        before = best_value
        # Steps from equal weights need not reach the corners: each entry by itself is tried too.
        near = _grid(n, n_steps) if on_grid else np.vstack([_moves(best, step), np.eye(n)])
        candidates = _from_equal(near)
        for weights, value in zip(candidates, values_of(candidates).tolist(), strict=True):
            if value > best_value + TIE:
                best, best_value = weights, value
        n_candidates += len(candidates)
        # Every round of steps raises the value or is the last, so this ends.
        if on_grid or best_value == before:
            return WeightSearch(best, best_value, "grid" if on_grid else "steps", n_candidates)


def values_of_weights(task: str, labels: Labels, stack: np.ndarray) -> Values:
    """Return a function from weights to the metric of the average, higher is better.

    Parameters
    ----------
    task : {"emotion", "age", "country"}
    labels : Labels
        Of clips that have a label of the task.
    stack : np.ndarray [shape=(n_systems, n) or (n_systems, n, n_columns)]
        Ages, probabilities of the countries, or emotions.

    Returns
    -------
    callable
        From weights that sum to one [shape=(n_candidates, n_systems)] to mean CCC, UAR or minus MAE
        [shape=(n_candidates,)], -inf where it is undefined.
    """
    values = {"emotion": _mean_ccc, "age": _minus_mae, "country": _uar}[task](labels, stack)

    def defined(weights: np.ndarray) -> np.ndarray:
        found = values(weights)
        return np.where(np.isfinite(found), found, -np.inf)

    return defined


def _mean_ccc(labels: Labels, stack: np.ndarray) -> Values:
    """Mean CCC over the emotions whose labels vary, from moments."""
    moments = []
    for column, target in enumerate(labels.emotion.T):
        known = ~np.isnan(target)
        if not known.any() or target[known].min() == target[known].max():
            continue
        # Relative to the mean of the labels, so that squares lose no digits.
        off_target = target[known] - target[known].mean()
        predicted = stack[:, known, column] - target[known].mean()
        mean = predicted.mean(axis=1)
        off = predicted - mean[:, None]
        n = known.sum()
        moments.append((mean, off @ off.T / n, off @ off_target / n, off_target @ off_target / n))

    def values(weights: np.ndarray) -> np.ndarray:
        if not moments:
            return np.full(len(weights), -np.inf)
        ccc = []
        for mean, covariance, with_target, variance in moments:
            spread = variance + ((weights @ covariance) * weights).sum(axis=1) + (weights @ mean) ** 2
            ccc.append(2 * (weights @ with_target) / spread)
        return np.mean(ccc, axis=0)

    return values


def _minus_mae(labels: Labels, stack: np.ndarray) -> Values:
    """Minus the mean absolute error."""
    # Weights sum to one, so the error of the average is the average of the errors.
    errors = stack - labels.age

    def values(weights: np.ndarray) -> np.ndarray:
        total = np.zeros(len(weights))
        for start in range(0, errors.shape[1], _BLOCK):
            total += np.abs(weights @ errors[:, start : start + _BLOCK]).sum(axis=1)
        return -total / errors.shape[1]

    return values


def _uar(labels: Labels, stack: np.ndarray) -> Values:
    """Mean recall over the countries present."""
    # The probability of the true country minus that of each other one. Of equal probabilities the first country is
    # chosen, so the difference from a country with a lower index must be above zero.
    countries = np.unique(labels.country)
    differences = {}
    for true in countries:
        predicted = stack[:, labels.country == true]
        differences[true] = [
            (predicted[:, :, true] - predicted[:, :, other], other < true)
            for other in range(stack.shape[2])
            if other != true
        ]

    def values(weights: np.ndarray) -> np.ndarray:
        recall = []
        for true in countries:
            n, n_right = (labels.country == true).sum(), np.zeros(len(weights))
            for start in range(0, n, _BLOCK):
                right = np.ones((len(weights), min(_BLOCK, n - start)), dtype=bool)
                for of_system, strictly in differences[true]:
                    found = weights @ of_system[:, start : start + _BLOCK]
                    right &= found > 0 if strictly else found >= 0
                n_right += right.sum(axis=1)
            recall.append(n_right / n)
        return np.mean(recall, axis=0)

    return values


def _grid(n: int, n_steps: int) -> np.ndarray:
    """All weights that are integer multiples of a step: ``n - 1`` bars among ``n_steps`` stars."""
    bars = np.array(list(combinations(range(n_steps + n - 1), n - 1)), dtype=np.int64).reshape(-1, n - 1)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, n_steps + n - 1)))
    return (np.diff(edges, axis=1) - 1) / n_steps


def _moves(weights: np.ndarray, step: float) -> np.ndarray:
    """All weights that differ by at most one step moved from one entry to another."""
    moves = []
    for giver in np.flatnonzero(weights > 0):
        for taker in np.delete(np.arange(len(weights)), giver):
            moved = weights.copy()
            # The complete rest where less than a step is left, so that a weight can reach 0 exactly.
            amount = weights[giver] if weights[giver] < step + TIE else step
            moved[giver] -= amount
            moved[taker] += amount
            moves.append(moved)
    return np.array(moves).reshape(-1, len(weights))


def _from_equal(candidates: np.ndarray) -> np.ndarray:
    """Order weights by their distance from equal, then by more weight for the first entries."""
    distance = (candidates**2).sum(axis=1).round(12)
    return candidates[np.lexsort((*(-candidates.T[::-1]), distance))]
