"""The task metrics of many weighted averages of the same predictions at once.

A search of weights asks for the metric of a thousand averages. CCC is a ratio of quadratic forms in the weights, so
means and covariances of the systems are enough, whatever the number of clips. MAE and UAR need the clips; they are
one matrix product per block of clips.
"""

from collections.abc import Callable

import numpy as np

from exvo.corpus.labels import Labels

Values = Callable[[np.ndarray], np.ndarray]
# Clips per product: with a thousand candidates the block stays in the cache.
_BLOCK = 512


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
        off = target[known] - target[known].mean()
        answers = stack[:, known, column] - target[known].mean()
        mean = answers.mean(axis=1)
        answers = answers - mean[:, None]
        n = known.sum()
        moments.append((mean, answers @ answers.T / n, answers @ off / n, off @ off / n))

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
    # By how much the true country is ahead of each other one; of equals the first is chosen, so it must be
    # strictly ahead of those before it.
    countries = np.unique(labels.country)
    ahead = {}
    for true in countries:
        answers = stack[:, labels.country == true]
        ahead[true] = [
            (answers[:, :, true] - answers[:, :, other], other < true)
            for other in range(stack.shape[2])
            if other != true
        ]

    def values(weights: np.ndarray) -> np.ndarray:
        recall = []
        for true in countries:
            n, n_right = (labels.country == true).sum(), np.zeros(len(weights))
            for start in range(0, n, _BLOCK):
                right = np.ones((len(weights), min(_BLOCK, n - start)), dtype=bool)
                for margins, strictly in ahead[true]:
                    margin = weights @ margins[:, start : start + _BLOCK]
                    right &= margin > 0 if strictly else margin >= 0
                n_right += right.sum(axis=1)
            recall.append(n_right / n)
        return np.mean(recall, axis=0)

    return values
