"""Trained combiners of systems, one per task, fitted on Val: what the paper names as future work.

Emotion and age: ridge regression on the systems' predictions, standardised. An emotion may read the systems'
predictions of itself alone (``own``) or of all ten (``joint``). Ridge predicts too narrowly for CCC, which for a given
correlation is highest where predictions vary as much as labels do (Lin 1989), so emotions are stretched to the variance
of the labels, and then limited to [0, 1].

Ridge minimises squared errors and age is scored by absolute ones, so an age may also be drawn towards the Train prior,
Train's median, by a weight that is chosen with the penalty, by MAE on the same held-out folds.

Country: multinomial logistic regression on the systems' log-probabilities, countries weighted equally, as UAR does.

How strongly to regularise, and which inputs to read, is chosen by the task's metric on folds that the fit did not
see. Where a fit is itself judged on held-out folds, that choice is made inside the others: nested cross-validation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from exvo.evaluation.metrics import mae, mean_ccc, predicted_class, uar
from exvo.fusion.weights import TIE

# Penalties, strongest first: of standardised inputs, relative to the mean squared error.
RIDGE_GRID = (10.0, 1.0, 0.1, 0.01, 0.001)
# Of the Train prior, in an age; 0 first, so that it comes in only where it helps.
PRIOR_GRID = tuple(i / 10 for i in range(11))
# Relative to the mean log-loss.
LOGISTIC_GRID = (1.0, 0.1, 0.01)
# Lower probabilities are raised to it before the logarithm.
MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class LinearCombiner:
    """A fitted combiner of emotion or age.

    Attributes
    ----------
    coefficients : np.ndarray [shape=(n_inputs, n_columns)]
        Of the inputs, systems slowest.
    intercept : np.ndarray [shape=(n_columns,)]
    limits : (float, float)
        Predictions are limited to them.
    shares : np.ndarray [shape=(n_systems,)]
        Part of each system in the sum of the absolute standardised coefficients; they sum to one, less the weight of
        the Train prior.
    record : dict
        What was chosen, as JSON types.
    """

    coefficients: np.ndarray
    intercept: np.ndarray
    limits: tuple[float, float]
    shares: np.ndarray
    record: dict[str, Any]

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """Combine predictions [shape=(n_systems, n, n_columns) or (n_systems, n)] of any clips."""
        fused = _inputs(stack) @ self.coefficients + self.intercept
        return np.clip(fused, *self.limits).reshape(stack.shape[1:])


class RidgeStack:
    """Ridge regressions of emotion or age, for any choice of the folds.

    Sums of squares and products are taken once per fold; a fit adds those of its folds.

    Parameters
    ----------
    stack : np.ndarray [shape=(n_systems, n) or (n_systems, n, n_columns)]
    target : np.ndarray [shape=(n,) or (n, n_columns)]
        NaN where it is not known.
    folds : np.ndarray [shape=(n,), int]
    left_alone : sequence of int
        Columns with too few labels to learn from: the systems are averaged.
    prior : float, optional
        Of age: the constant that it may be drawn towards.
    """

    def __init__(
        self,
        stack: np.ndarray,
        target: np.ndarray,
        folds: np.ndarray,
        left_alone: Sequence[int] = (),
        prior: float | None = None,
    ) -> None:
        self._prior = prior
        self._n_systems, self._folds = len(stack), folds
        self._is_emotion = stack.ndim == 3
        self._inputs = _inputs(stack)
        self._target = target.reshape(len(folds), -1)
        self._left_alone = set(left_alone)
        self._centre = self._inputs.mean(axis=0)
        by_fold = [folds == fold for fold in range(folds.max() + 1)]
        n_columns = self._target.shape[1]
        self._sums = np.array([[self._sum(column, rows) for rows in by_fold] for column in range(n_columns)])
        known = ~np.isnan(self._target)
        self._low = np.array([np.where(known, self._target, np.inf)[rows].min(axis=0) for rows in by_fold])
        self._high = np.array([np.where(known, self._target, -np.inf)[rows].max(axis=0) for rows in by_fold])

    def fit(self, use: Sequence[int]) -> LinearCombiner:
        """Fit on some folds; penalty, inputs and weight of the prior are chosen by leaving each of them out in turn."""
        use = list(use)
        inside = np.isin(self._folds, use)
        best, best_value = ("own", 0, 0.0), -np.inf
        for which in ("own", "joint") if self._is_emotion else ("own",):
            held_out = np.full((len(RIDGE_GRID), *self._target.shape), np.nan)
            for fold in use:
                rows = self._folds == fold
                coefficients, intercept, _ = self._solve(which, [other for other in use if other != fold])
                fused = self._inputs[rows] @ coefficients + intercept[:, None]
                held_out[:, rows] = np.clip(fused, *self._limits())
            for place, answers in enumerate(held_out[:, inside]):
                for weight, drawn in self._towards_prior(answers):
                    value = self._value(self._target[inside], drawn)
                    if value > best_value + TIE:
                        best, best_value = (which, place, weight), value
        which, place, weight = best
        coefficients, intercept, shares = (part[place] for part in self._solve(which, use))
        record = {"model": "ridge", "penalty": RIDGE_GRID[place]}
        record |= {"inputs": which} if self._is_emotion else {}
        if self._prior is None:
            return LinearCombiner(coefficients, intercept, self._limits(), shares, record)
        rest = 1 - weight
        return LinearCombiner(
            rest * coefficients,
            rest * intercept + weight * self._prior,
            self._limits(),
            rest * shares,
            record | prior_record(weight, self._prior),
        )

    def _towards_prior(self, answers: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Give every weight that the prior may have, and the answers drawn towards it."""
        if self._prior is None:
            yield 0.0, answers
            return
        for weight in PRIOR_GRID:
            yield weight, (1 - weight) * answers + weight * self._prior

    def _limits(self) -> tuple[float, float]:
        return (0.0, 1.0) if self._is_emotion else (0.0, np.inf)

    def _value(self, target: np.ndarray, fused: np.ndarray) -> float:
        value = mean_ccc(target, fused)[1] if self._is_emotion else -mae(target[:, 0], fused[:, 0])
        return value if np.isfinite(value) else -np.inf

    def _sum(self, column: int, rows: np.ndarray) -> np.ndarray:
        """Return the products of (1, inputs, target) with themselves, over labelled clips [shape=(m + 2, m + 2)]."""
        rows = rows & ~np.isnan(self._target[:, column])
        z = np.column_stack(
            [np.ones(rows.sum()), self._inputs[rows] - self._centre, self._target[rows, column]]
        )
        return z.T @ z

    def _solve(self, which: str, use: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fit every penalty of the grid.

        Returns
        -------
        coefficients : np.ndarray [shape=(n_penalties, n_inputs, n_columns)]
        intercept : np.ndarray [shape=(n_penalties, n_columns)]
        shares : np.ndarray [shape=(n_penalties, n_systems)]
        """
        n_inputs, n_columns = self._inputs.shape[1], self._target.shape[1]
        columns = np.arange(n_columns)[:, None]
        own = columns + np.arange(0, n_inputs, n_columns)
        read = own if which == "own" else np.tile(np.arange(n_inputs), (n_columns, 1))
        # An emotion of which these folds know nothing, or nothing but one value, is left to the average.
        learned = self._low[use].min(axis=0) < self._high[use].max(axis=0)
        learned[list(self._left_alone)] = False

        total = self._sums[:, use].sum(axis=1)
        n = np.where(learned, total[:, 0, 0], 1)
        mean = total[:, 0, 1:] / n[:, None]
        covariance = total[:, 1:, 1:] / n[:, None, None] - mean[:, :, None] * mean[:, None, :]
        deviation = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0))
        scale = np.where(deviation > 1e-12, deviation, np.inf)  # what does not vary gets no weight
        standard = covariance / scale[:, :, None] / scale[:, None, :]
        inputs = standard[columns[:, :, None], read[:, :, None], read[:, None, :]]
        along = np.where(learned[:, None], standard[columns, read, -1] * deviation[:, -1:], 0)
        penalty = np.array(RIDGE_GRID)[:, None, None, None] * np.eye(read.shape[1])
        slope = np.linalg.solve(inputs + penalty, along[:, :, None])[..., 0]
        if self._is_emotion:
            variance = np.einsum("pci,cij,pcj->pc", slope, inputs, slope)
            stretch = np.divide(
                deviation[:, -1], np.sqrt(variance), out=np.zeros_like(variance), where=variance > 1e-24
            )
            slope = slope * stretch[:, :, None]

        coefficients = np.zeros((len(RIDGE_GRID), n_inputs, n_columns))
        coefficients[:, read, columns] = np.where(learned[:, None], slope / scale[columns, read], 0)
        offset = np.einsum("pic,ci->pc", coefficients, mean[:, :-1] + self._centre)
        intercept = np.where(learned, mean[:, -1] - offset, 0)
        coefficients[:, own[~learned], columns[~learned]] = 1 / self._n_systems
        weight = np.zeros_like(coefficients)
        weight[:, read, columns] = np.abs(slope) / np.maximum(
            np.abs(slope).sum(axis=2, keepdims=True), 1e-300
        )
        weight[:, own[~learned], columns[~learned]] = 1 / self._n_systems
        shares = weight.reshape(len(RIDGE_GRID), self._n_systems, -1).sum(axis=2)
        return coefficients, intercept, shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)


@dataclass(frozen=True)
class LogisticCombiner:
    """A fitted combiner of country; attributes as of `LinearCombiner`."""

    coefficients: np.ndarray
    intercept: np.ndarray
    shares: np.ndarray
    record: dict[str, Any]

    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """Combine probabilities [shape=(n_systems, n, n_countries)] of any clips."""
        logits = _inputs(_log(stack)) @ self.coefficients + self.intercept
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


class LogisticStack:
    """Logistic regressions of country, for any choice of the folds.

    Parameters
    ----------
    stack : np.ndarray [shape=(n_systems, n, n_countries)]
    target : np.ndarray [shape=(n,), int]
        Known for every clip: at least two countries, each of which is in any union of all folds but two.
    folds : np.ndarray [shape=(n,), int]
    """

    def __init__(self, stack: np.ndarray, target: np.ndarray, folds: np.ndarray) -> None:
        self._n_systems, self._n_countries = stack.shape[0], stack.shape[2]
        self._inputs, self._target, self._folds = _inputs(_log(stack)), target, folds

    def fit(self, use: Sequence[int]) -> LogisticCombiner:
        """Fit on some folds; the penalty is chosen among them by leaving each out in turn."""
        use = list(use)
        inside = np.isin(self._folds, use)
        best, best_value = LOGISTIC_GRID[0], -np.inf
        for penalty in LOGISTIC_GRID:
            chosen = np.full(len(self._target), -1)
            for fold in use:
                coefficients, intercept = self._solve(penalty, inside & (self._folds != fold))
                rows = self._folds == fold
                chosen[rows] = predicted_class(self._inputs[rows] @ coefficients + intercept)
            value = uar(self._target[inside], chosen[inside])
            if value > best_value + TIE:
                best, best_value = penalty, value
        coefficients, intercept = self._solve(best, inside)
        finite = coefficients[:, np.isfinite(intercept)]
        weight = (np.abs(finite) * self._inputs[inside].std(axis=0)[:, None]).sum(axis=1)
        shares = weight.reshape(self._n_systems, -1).sum(axis=1)
        shares = shares / shares.sum() if shares.sum() > 0 else np.full(self._n_systems, 1 / self._n_systems)
        return LogisticCombiner(
            coefficients, intercept, shares, {"model": "logistic regression", "penalty": best}
        )

    def _solve(self, penalty: float, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients and intercepts; a country that is not among the clips gets no chance."""
        # Newton's method: a few steps where quasi-Newton needs hundreds on so few, so alike inputs.
        model = LogisticRegression(
            C=1 / (penalty * rows.sum()), class_weight="balanced", solver="newton-cholesky", max_iter=100
        )
        model.fit(self._inputs[rows], self._target[rows])
        coefficients = np.zeros((self._inputs.shape[1], self._n_countries))
        intercept = np.full(self._n_countries, -np.inf)
        # Of two countries scikit-learn keeps the odds of the second against the first only.
        two = len(model.classes_) == 2
        found = np.vstack([0 * model.coef_, model.coef_]) if two else model.coef_
        coefficients[:, model.classes_] = found.T
        intercept[model.classes_] = [0, model.intercept_[0]] if two else model.intercept_
        return coefficients, intercept


def prior_record(weight: float, years: float) -> dict[str, Any]:
    """Say how far an age leans on the Train prior, as JSON types."""
    return {"train_prior": {"weight": round(float(weight), 12), "years": float(years)}}


def _inputs(stack: np.ndarray) -> np.ndarray:
    """Return one row a clip: the columns of the first system, then those of the second..."""
    stack = stack[:, :, None] if stack.ndim == 2 else stack
    return stack.transpose(1, 0, 2).reshape(stack.shape[1], -1)


def _log(stack: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(stack, MIN_PROBABILITY))
