"""Predictions of a system for every clip: the table written by systems and read by fusion and scoring.

Columns: ``clip_id``, ``age`` (years), ``country_<code>`` (one probability per country of the corpus) and the ten
emotions by name. The columns of tasks that a system does not do are NaN.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exvo.corpus.labels import EMOTIONS
from exvo.util.arrow import float_values
from exvo.util.atomic import atomic_path

_COUNTRY_COLUMN = re.compile(r"country_(-?\d+)")


@dataclass(frozen=True)
class Predictions:
    """Predictions for ``n`` clips; NaN for a task that the system does not do.

    Attributes
    ----------
    clip_id : np.ndarray [shape=(n,), str]
        Each once.
    age : np.ndarray [shape=(n,), float64]
        In years.
    country : np.ndarray [shape=(n, n_countries), float64]
        Probabilities, in the order of ``country_codes``.
    emotion : np.ndarray [shape=(n, 10), float64]
        Intensities, in the order of ``EMOTIONS``.
    country_codes : tuple of int
        The corpus's codes, in the order of ``Labels.countries``.

    Raises
    ------
    ValueError
        If a shape is wrong or a clip id is repeated.
    """

    clip_id: np.ndarray
    age: np.ndarray
    country: np.ndarray
    emotion: np.ndarray
    country_codes: tuple[int, ...]

    def __post_init__(self) -> None:
        n = len(self.clip_id)
        shapes = {"age": (n,), "country": (n, len(self.country_codes)), "emotion": (n, len(EMOTIONS))}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"predictions: {name} has shape {getattr(self, name).shape}, expected {shape}"
                )
        if len(np.unique(self.clip_id)) < n:
            raise ValueError("predictions: a clip id occurs more than once")

    def __len__(self) -> int:
        return len(self.clip_id)


def write_predictions(path: Path | str, predictions: Predictions) -> None:
    """Write predictions as Parquet, atomically.

    Parameters
    ----------
    path : Path or str
    predictions : Predictions
    """
    columns = {"clip_id": pa.array(predictions.clip_id.tolist(), pa.string()), "age": predictions.age}
    columns |= {
        f"country_{code}": predictions.country[:, i] for i, code in enumerate(predictions.country_codes)
    }
    columns |= {name: predictions.emotion[:, i] for i, name in enumerate(EMOTIONS)}
    table = pa.table(
        {
            name: values if name == "clip_id" else pa.array(values, pa.float64())
            for name, values in columns.items()
        }
    )
    with atomic_path(path) as unfinished:
        pq.write_table(table, unfinished)


def read_predictions(path: Path | str) -> Predictions:
    """Read predictions written by `write_predictions`.

    Raises
    ------
    ValueError
        If a column is missing: the message names the file and the columns.
    """
    table = pq.read_table(path)
    missing = [name for name in ("clip_id", "age", *EMOTIONS) if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{path}: not a table of predictions, these columns are missing: {', '.join(missing)}"
        )
    codes = tuple(int(match[1]) for name in table.column_names if (match := _COUNTRY_COLUMN.fullmatch(name)))

    def block(names: Sequence[str]) -> np.ndarray:
        columns = [_floats(table[name]) for name in names]
        return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))

    return Predictions(
        clip_id=np.array(table["clip_id"].to_pylist(), dtype=str),
        age=_floats(table["age"]),
        country=block([f"country_{code}" for code in codes]),
        emotion=block(EMOTIONS),
        country_codes=codes,
    )


def align(predictions: Predictions, clip_ids: Sequence[str] | np.ndarray) -> Predictions:
    """Return the predictions of the given clips, in the given order.

    Parameters
    ----------
    predictions : Predictions
        May have more clips than are asked for.
    clip_ids : sequence of str

    Raises
    ------
    ValueError
        If a clip has no prediction: the message names the clips.
    """
    row_of = {clip_id: row for row, clip_id in enumerate(predictions.clip_id.tolist())}
    missing = [str(clip_id) for clip_id in clip_ids if str(clip_id) not in row_of]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(f"predictions: {len(missing)} of {len(clip_ids)} clips have none: {shown}")
    rows = np.array([row_of[str(clip_id)] for clip_id in clip_ids], dtype=np.int64)
    return Predictions(
        clip_id=predictions.clip_id[rows],
        age=predictions.age[rows],
        country=predictions.country[rows],
        emotion=predictions.emotion[rows],
        country_codes=predictions.country_codes,
    )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Concatenate the predictions of several sets of clips.

    Parameters
    ----------
    parts : sequence of Predictions
        At least one; of the same countries, without repeated clips.
    """
    if len({part.country_codes for part in parts}) != 1:
        raise ValueError("predictions: the parts have different countries, or there are none")
    return Predictions(
        clip_id=np.concatenate([part.clip_id for part in parts]),
        age=np.concatenate([part.age for part in parts]),
        country=np.concatenate([part.country for part in parts]),
        emotion=np.concatenate([part.emotion for part in parts]),
        country_codes=parts[0].country_codes,
    )


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as float64, nulls as NaN."""
    return float_values(column.cast(pa.float64()))
