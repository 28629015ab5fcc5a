"""The variation of scores over training seeds."""

from collections.abc import Sequence

import numpy as np

from exvo.corpus.labels import EMOTIONS
from exvo.evaluation.metrics import Scores, s_mtl


def values(scores: Scores) -> dict[str, float]:
    """Return ``uar``, ``mae``, ``ccc``, ``s_mtl`` (computed from these) and each emotion's CCC by its name."""
    found = {"uar": scores.uar, "mae": scores.mae, "ccc": scores.ccc}
    found["s_mtl"] = s_mtl(scores.ccc, scores.uar, scores.mae)
    return found | dict(zip(EMOTIONS, scores.ccc_per_emotion, strict=True))


def sd_over_seeds(seeds: Sequence[Scores]) -> dict[str, float]:
    """Return the SD over seeds (n - 1) of every metric of `values`.

    NaN for fewer than two seeds, and where a seed lacks the metric.
    """
    found = [values(seed) for seed in seeds]
    names = found[0] if found else ()
    if len(found) < 2:
        return dict.fromkeys(names, float("nan"))
    return {name: float(np.std([one[name] for one in found], ddof=1)) for name in names}
