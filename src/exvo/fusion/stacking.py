"""Stacking: a combiner of systems per task, fitted on Val (the paper names this as future work).

Emotion and age use ridge regression on the standardised predictions of the systems. An emotion may read the systems'
predictions of that emotion only (``own``) or of all ten (``joint``). For a given correlation, CCC is highest where
predictions and labels have the same variance (Lin 1989), but ridge predictions have less. Emotions are therefore
rescaled to the variance of the labels, then clipped to [0, 1].

Ridge minimises squared errors, and age is scored by absolute errors. An age may therefore be shrunk towards the Train
prior, the median of Train. The weight of the prior is chosen with the penalty, by MAE on the same held-out folds.

Country uses multinomial logistic regression on the systems' log-probabilities, with equal weight for each country, as
in UAR.

The penalty and the inputs are chosen by the task's metric on folds that the fit did not see. Out-of-fold predictions
make this choice within the other folds: nested cross-validation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exvo.evaluation.metrics import mae, mean_ccc, predicted_class, uar
from exvo.fusion.weights import TIE

# Penalties, strongest first: of standardised inputs, relative to the mean squared error.
RIDGE_GRID = (10.0, 1.0, 0.1, 0.01, 0.001)
# Weights of the Train prior in an age; 0 first, so that the prior enters only where it improves the MAE.
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
        Predictions are clipped to them.
    shares : np.ndarray [shape=(n_systems,)]
        Share of each system in the sum of the absolute standardised coefficients. The shares and the weight of the
        Train prior sum to one.
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

    Parameters
    ----------
    stack : np.ndarray [shape=(n_systems, n) or (n_systems, n, n_columns)]
    target : np.ndarray [shape=(n,) or (n, n_columns)]
        NaN where it is not known.
    folds : np.ndarray [shape=(n,), int]
    averaged : sequence of int
        Columns with too few labels for a fit: the systems are averaged.
    prior : float, optional
        For age: the constant that predictions may be shrunk towards, in years.
    """

    def __init__(
        self,
        stack: np.ndarray,
        target: np.ndarray,
        folds: np.ndarray,
        averaged: Sequence[int] = (),
        prior: float | None = None,
    ) -> None:
        self._prior = prior
        self._n_systems, self._folds = len(stack), folds
        self._is_emotion = stack.ndim == 3
        self._inputs = _inputs(stack)
        self._target = target.reshape(len(folds), -1)
        self._averaged = set(averaged)

    def fit(self, use: Sequence[int]) -> LinearCombiner:
        """Fit on some folds.

        Penalty, inputs and weight of the prior are chosen by leaving each of these folds out in turn.
        """
        use = list(use)
        inside = np.isin(self._folds, use)
        best, best_value = ("own", 0, 0.0), -np.inf
        for which in ("own", "joint") if self._is_emotion else ("own",):
            held_out = np.full((len(RIDGE_GRID), *self._target.shape), np.nan)
            for fold in use:
                rows = self._folds == fold
                coefficients, intercept, _ = self._solve(which, inside & ~rows)
                fused = self._inputs[rows] @ coefficients + intercept[:, None]
                held_out[:, rows] = np.clip(fused, *self._limits())
            for place, predicted in enumerate(held_out[:, inside]):
                for weight, shrunk in self._towards_prior(predicted):
                    value = self._value(self._target[inside], shrunk)
                    if value > best_value + TIE:
                        best, best_value = (which, place, weight), value
        which, place, weight = best
        coefficients, intercept, shares = (part[place] for part in self._solve(which, inside))
        record: dict[str, Any] = {"model": "ridge", "penalty": RIDGE_GRID[place]}
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

    def _towards_prior(self, predicted: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Yield every weight that the prior may have, with the predictions shrunk by it."""
        if self._prior is None:
            yield 0.0, predicted
            return
        for weight in PRIOR_GRID:
            yield weight, (1 - weight) * predicted + weight * self._prior

    def _limits(self) -> tuple[float, float]:
        return (0.0, 1.0) if self._is_emotion else (0.0, np.inf)

    def _value(self, target: np.ndarray, fused: np.ndarray) -> float:
        value = mean_ccc(target, fused)[1] if self._is_emotion else -mae(target[:, 0], fused[:, 0])
        return value if np.isfinite(value) else -np.inf

    def _solve(self, which: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fit every penalty of the grid on some clips.

        Parameters
        ----------
        which : {"own", "joint"}
        rows : np.ndarray [shape=(n,), bool]

        Returns
        -------
        coefficients : np.ndarray [shape=(n_penalties, n_inputs, n_columns)]
        intercept : np.ndarray [shape=(n_penalties, n_columns)]
        shares : np.ndarray [shape=(n_penalties, n_systems)]
        """
        n_inputs, n_columns = self._inputs.shape[1], self._target.shape[1]
        coefficients = np.zeros((len(RIDGE_GRID), n_inputs, n_columns))
        intercept, importance = np.zeros((len(RIDGE_GRID), n_columns)), np.zeros_like(coefficients)
        for columns, clips in self._groups(which, rows):
            own = np.arange(columns[0], n_inputs, n_columns)
            if clips is None:
                coefficients[:, own, columns[0]] = importance[:, own, columns[0]] = 1 / self._n_systems
                continue
            read = own[:, None] if which == "own" else np.arange(n_inputs)[:, None]
            target = self._target[clips][:, columns]
            slope, mean, scale = self._ridge(self._inputs[np.ix_(clips, read[:, 0])], target)
            found = slope / scale[:, None]
            coefficients[:, read, columns] = found
            intercept[:, columns] = target.mean(axis=0) - np.einsum("i,pic->pc", mean, found)
            total = np.abs(slope).sum(axis=1, keepdims=True)
            importance[:, read, columns] = np.abs(slope) / np.maximum(total, 1e-300)
        shares = importance.reshape(len(RIDGE_GRID), self._n_systems, -1).sum(axis=2)
        return coefficients, intercept, shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)

    def _groups(self, which: str, rows: np.ndarray) -> Iterator[tuple[list[int], np.ndarray | None]]:
        """Yield the columns that are fitted together, and their labelled clips; None where systems are averaged.

        Joint columns with labels of the same clips read the same inputs, so one fit serves them all.
        """
        known = rows[:, None] & ~np.isnan(self._target)
        groups: dict[int | bytes, list[int]] = {}
        for column, target in enumerate(self._target.T):
            values = target[known[:, column]]
            if column in self._averaged or not len(values) or np.ptp(values) == 0:
                yield [column], None
            else:
                key = column if which == "own" else known[:, column].tobytes()
                groups.setdefault(key, []).append(column)
        for columns in groups.values():
            yield columns, np.flatnonzero(known[:, columns[0]])

    def _ridge(self, inputs: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fit every column of the target with every penalty.

        Returns
        -------
        slope : np.ndarray [shape=(n_penalties, n_read, n_columns)]
            Of the standardised inputs.
        mean, scale : np.ndarray [shape=(n_read,)]
            Of the inputs.
        """
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler

        scaler, n_columns = StandardScaler(), target.shape[1]
        standard = scaler.fit_transform(inputs)
        # Ridge takes one penalty per target, so the target is repeated: all share one matrix of products.
        model = Ridge(alpha=len(target) * np.repeat(RIDGE_GRID, n_columns))
        slope = model.fit(standard, np.tile(target, len(RIDGE_GRID))).coef_
        if self._is_emotion:
            sd = (standard @ slope.T).std(axis=0)
            stretch = np.tile(target.std(axis=0), len(RIDGE_GRID))
            slope = slope * np.divide(stretch, sd, out=np.zeros_like(sd), where=sd > 1e-12)[:, None]
        slope = slope.reshape(len(RIDGE_GRID), n_columns, -1).transpose(0, 2, 1)
        return slope, scaler.mean_, scaler.scale_


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
        """Return coefficients and intercepts; a country that is not among the clips gets probability 0."""
        from sklearn.linear_model import LogisticRegression

        # Newton's method: a few steps, where quasi-Newton needs hundreds on few and highly correlated inputs.
        model = LogisticRegression(
            C=1 / (penalty * rows.sum()), class_weight="balanced", solver="newton-cholesky", max_iter=100
        )
        model.fit(self._inputs[rows], self._target[rows])
        coefficients = np.zeros((self._inputs.shape[1], self._n_countries))
        intercept = np.full(self._n_countries, -np.inf)
        # For two countries scikit-learn keeps only the log-odds of the second.
        two = len(model.classes_) == 2
        found = np.vstack([0 * model.coef_, model.coef_]) if two else model.coef_
        coefficients[:, model.classes_] = found.T
        intercept[model.classes_] = [0, model.intercept_[0]] if two else model.intercept_
        return coefficients, intercept


def prior_record(weight: float, years: float) -> dict[str, Any]:
    """Return the weight and the value of the Train prior in an age, as JSON types."""
    return {"train_prior": {"weight": round(float(weight), 12), "years": float(years)}}


def _inputs(stack: np.ndarray) -> np.ndarray:
    """Return one row per clip: the columns of the first system, then those of the second, and so on."""
    stack = stack[:, :, None] if stack.ndim == 2 else stack
    return stack.transpose(1, 0, 2).reshape(stack.shape[1], -1)


def _log(stack: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(stack, MIN_PROBABILITY))
