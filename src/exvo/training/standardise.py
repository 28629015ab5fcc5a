"""Utterance-level features to zero mean and unit variance, by moments of Train; a bounded extra memory."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK_ROWS = 128  # 7 MB of float64 at 6,373 features


@dataclass(frozen=True)
class Standardisation:
    """Moments of every feature on Train.

    Attributes
    ----------
    mean, scale : np.ndarray [shape=(n_features,), float32]
        The scale is the standard deviation (all-n), 1 where a feature does not vary.
    constant : np.ndarray [shape=(n_features,), bool]
        Features that take one value on all of Train.
    max_sd : float
        Standardised values are limited to +-this. A feature that hardly varies on Train can lie a million
        deviations off on another clip, and one such value would decide the whole output.
    """

    mean: np.ndarray
    scale: np.ndarray
    constant: np.ndarray
    max_sd: float

    @classmethod
    def fit(cls, features: np.ndarray, max_sd: float) -> "Standardisation":
        """Return the moments of some features: two passes, in float64.

        Parameters
        ----------
        features : np.ndarray [shape=(n_clips, n_features)]
        max_sd : float

        Raises
        ------
        ValueError
            If a value is NaN or infinite, or there are no clips.
        """
        if len(features) == 0:
            raise ValueError("features: no clips to standardise on; is the Train split empty?")
        total, squares = np.zeros((2, features.shape[1]))
        for _, chunk in _chunks(features):
            total += chunk.sum(axis=0, dtype=np.float64)
        mean = total / len(features)
        for _, chunk in _chunks(features):
            off = chunk - mean
            squares += np.einsum("ij,ij->j", off, off)
        scale = np.sqrt(squares / len(features)).astype(np.float32)
        # Equal float32 values add up exactly in float64, so a constant deviates by exactly 0; deviations
        # below the normal numbers of float32 are too small to divide by.
        constant = scale < np.finfo(np.float32).tiny
        return cls(mean.astype(np.float32), np.where(constant, np.float32(1), scale), constant, max_sd)

    def apply(self, features: np.ndarray, *, overwrite: bool = False) -> np.ndarray:
        """Return standardised features.

        Parameters
        ----------
        features : np.ndarray [shape=(n_clips, n_features)]
        overwrite : bool
            Write into ``features`` if it is a writeable, C-ordered float32 array: saves a copy.

        Returns
        -------
        np.ndarray [shape=(n_clips, n_features), float32, C order]

        Raises
        ------
        ValueError
            If a value is NaN or infinite, or the number of features is another.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(
                f"features: shape {features.shape}, but the model was fitted on {len(self.mean)} features"
            )
        in_place = overwrite and features.dtype == np.float32
        in_place = in_place and features.flags.c_contiguous and features.flags.writeable
        out = features if in_place else np.empty(features.shape, np.float32)
        with np.errstate(over="ignore"):  # what overflows is limited in the next line
            for rows, chunk in _chunks(features):
                values = np.subtract(chunk, self.mean, out=out[rows])
                values /= self.scale
                np.clip(values, -self.max_sd, self.max_sd, out=values)
        return out


def names_digest(names: Sequence[str]) -> str:
    """Return a SHA-256 of feature names in their order: a model must meet the features it was fitted on."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _chunks(features: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the rows of features in parts, as float32; all of them finite."""
    for start in range(0, len(features), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        chunk = np.asarray(features[rows], dtype=np.float32)
        finite = np.isfinite(chunk)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                f"features: {chunk[row, column]} in row {start + row}, column {column} "
                f"({int((~finite).sum())} such values in rows {start} to {start + len(chunk) - 1}): "
                "give every clip defined features, or leave the clip out of training"
            )
        yield rows, chunk
