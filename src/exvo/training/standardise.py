"""Mean and SD of features over the training set, in two passes and float64. Memory holds one chunk of rows."""

from collections.abc import Iterator

import numpy as np

_CHUNK_ROWS = 128  # 7 MB of float64 at 6,373 features


def standard_moments(features: np.ndarray, rows: np.ndarray | None = None) -> dict[str, list[float]]:
    """Return the mean and SD of features over rows.

    Parameters
    ----------
    features : np.ndarray [shape=(n_clips, n_features)]
        Finite; can be a memory map.
    rows : np.ndarray [shape=(n,), int] or None
        None for all rows.

    Returns
    -------
    dict
        ``mean`` and ``std`` (population SD), lists of n_features float32 numbers. The SD of a constant feature is 0.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    rows = np.arange(len(features)) if rows is None else rows
    if not len(rows):
        raise ValueError("features: no clips to standardise on; does any clip of Train have audio?")
    total, squares = np.zeros((2, features.shape[1]))
    for chunk in _chunks(features, rows):
        total += chunk.sum(axis=0, dtype=np.float64)
    mean = total / len(rows)
    for chunk in _chunks(features, rows):
        off = chunk - mean
        squares += np.einsum("ij,ij->j", off, off)
    std = np.sqrt(squares / len(rows)).astype(np.float32)
    # Equal float32 values add up exactly in float64, so a constant has an SD of exactly 0. An SD below the normal
    # numbers of float32 is too small to divide by.
    std[std < np.finfo(np.float32).tiny] = 0.0
    return {"mean": mean.astype(np.float32).tolist(), "std": std.tolist()}


def _chunks(features: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _CHUNK_ROWS):
        yield np.asarray(features[rows[start : start + _CHUNK_ROWS]], dtype=np.float32)
