"""The labels of a corpus as arrays, for training and scoring.

Column names and their order are those of the ExVo 2022 Multitask submission.
"""

from dataclasses import dataclass

import numpy as np

EMOTIONS = (
    "Awe",
    "Excitement",
    "Amusement",
    "Awkwardness",
    "Fear",
    "Horror",
    "Distress",
    "Triumph",
    "Sadness",
    "Surprise",
)
TASKS = ("emotion", "age", "country")
SPLITS = ("Train", "Val", "Test")


@dataclass(frozen=True)
class Country:
    """A country of the corpus: its integer code in the submission and its name."""

    code: int
    name: str


@dataclass(frozen=True)
class Labels:
    """Labels of ``n`` clips. An unknown label is NaN (-1 for a country, "" for a speaker).

    Attributes
    ----------
    clip_id : np.ndarray [shape=(n,), str]
    split : np.ndarray [shape=(n,), str]
        ``Train``, ``Val`` or ``Test``.
    speaker : np.ndarray [shape=(n,), str]
    age : np.ndarray [shape=(n,), float64]
        In years.
    country : np.ndarray [shape=(n,), int64]
        Index into ``countries``, not the code.
    emotion : np.ndarray [shape=(n, 10), float64]
        Intensities in [0, 1], in the order of ``EMOTIONS``.
    countries : tuple of Country
        In the order of their codes.
    """

    clip_id: np.ndarray
    split: np.ndarray
    speaker: np.ndarray
    age: np.ndarray
    country: np.ndarray
    emotion: np.ndarray
    countries: tuple[Country, ...]

    def __len__(self) -> int:
        return len(self.clip_id)

    def take(self, rows: np.ndarray) -> "Labels":
        """Return the labels of some rows.

        Parameters
        ----------
        rows : np.ndarray
            Indices or a boolean mask.
        """
        return Labels(
            clip_id=self.clip_id[rows],
            split=self.split[rows],
            speaker=self.speaker[rows],
            age=self.age[rows],
            country=self.country[rows],
            emotion=self.emotion[rows],
            countries=self.countries,
        )
