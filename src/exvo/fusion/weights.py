"""Search of weights that are not negative and sum to one, for the best value of a function.

A grid over the simplex where it is small enough; else steps that move weight from one entry to another, or give all of
it to one, as long as that helps. Ties go to the weights nearest to equal, so the same values always give the same
weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np

# Two values closer than this are a tie: below it lies rounding, not a better fusion.
TIE = 1e-9


@dataclass(frozen=True)
class WeightSearch:
    """What a search found.

    Attributes
    ----------
    weights : np.ndarray [shape=(n,)]
    value : float
        -inf if the function was that for all candidates; the weights are then equal.
    how : {"grid", "steps"}
        ``steps`` ends where no single move helps, which may be short of the best.
    n_candidates : int
    """

    weights: np.ndarray
    value: float
    how: Literal["grid", "steps"]
    n_candidates: int


def search_weights(
    values_of: Callable[[np.ndarray], np.ndarray], n: int, *, step: float, max_candidates: int
) -> WeightSearch:
    """Search the weights with the highest value.

    Parameters
    ----------
    values_of : callable
        From weights [shape=(n_candidates, n)] to a number for each [shape=(n_candidates,)], higher is better, -inf
        where it is undefined.
    n : int [scalar > 0]
    step : float
        A whole part of 1. Exactly equal weights are a candidate too, on the grid or not.
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


def _grid(n: int, n_steps: int) -> np.ndarray:
    """All weights that are whole multiples of a step: ``n - 1`` bars among ``n_steps`` stars."""
    bars = np.array(list(combinations(range(n_steps + n - 1), n - 1)), dtype=np.int64).reshape(-1, n - 1)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, n_steps + n - 1)))
    return (np.diff(edges, axis=1) - 1) / n_steps


def _moves(weights: np.ndarray, step: float) -> np.ndarray:
    """All weights that differ by up to one step moved from one entry to another."""
    moves = []
    for giver in np.flatnonzero(weights > 0):
        for taker in np.delete(np.arange(len(weights)), giver):
            moved = weights.copy()
            # All that is left of less than a step, so that a weight can reach 0 exactly.
            amount = weights[giver] if weights[giver] < step + TIE else step
            moved[giver] -= amount
            moved[taker] += amount
            moves.append(moved)
    return np.array(moves).reshape(-1, len(weights))


def _from_equal(candidates: np.ndarray) -> np.ndarray:
    """Order weights by their distance from equal, then by more weight for the entries that come first."""
    distance = (candidates**2).sum(axis=1).round(12)
    return candidates[np.lexsort((*(-candidates.T[::-1]), distance))]
