"""Feature shards: one row or one sequence of frames for every clip of an audio shard.

Utterance-level features are Parquet with one column per feature. Sequences are one ``.npy`` of concatenated frames,
which training maps into memory, and a small Parquet index. A clip without audio also has a row: its values are null or
its sequence is empty, and its status gives the reason.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exvo.util.arrow import column, float_values, floats
from exvo.util.atomic import atomic_path

# Status of a clip that was padded with zeros because it was too short for the feature.
PADDED = "padded"
# Columns of a table read at a time. Reading all 6,373 functionals at once takes 400 MB more, and longer.
_COLUMNS = 512
_ROW = [("clip_id", pa.string()), ("status", pa.string()), ("reason", pa.string())]


@dataclass(frozen=True)
class FeatureRow:
    """The feature of one clip.

    Attributes
    ----------
    clip_id : str
    values : np.ndarray or None
        Utterance-level: shape ``(n_features,)``. Sequence: shape ``(n_frames, n_channels)``. None without audio.
    status, reason : str
        As in the audio shard; ``padded`` where the clip was too short.
    """

    clip_id: str
    values: np.ndarray | None
    status: str
    reason: str


def write_utterances(path: str | Path, rows: Sequence[FeatureRow], names: Sequence[str]) -> None:
    """Write an utterance-level shard: ``clip_id``, ``status``, ``reason`` and a float32 column per feature.

    Raises
    ------
    ValueError
        Where a value is not finite, because features are defined for every clip with audio.
    """
    has_values = np.array([row.values is not None for row in rows], dtype=bool)
    values = np.zeros((len(rows), len(names)), dtype=np.float32)
    for row, feature in zip(values, rows, strict=True):
        if feature.values is not None:
            if not np.isfinite(feature.values).all():
                name = names[int(np.flatnonzero(~np.isfinite(feature.values))[0])]
                raise ValueError(f"clip {feature.clip_id}: feature {name} is not a number")
            row[:] = feature.values
    columns = [column([getattr(row, name) for row in rows], kind) for name, kind in _ROW]
    columns += [floats(feature, has_values) for feature in np.ascontiguousarray(values.T)]
    table = pa.table(columns, schema=pa.schema([*_ROW, *((name, pa.float32()) for name in names)]))
    with atomic_path(path) as temporary:
        # With thousands of short columns, dictionaries and statistics would be larger than the data.
        pq.write_table(table, temporary, compression="none", use_dictionary=False, write_statistics=False)


@dataclass(frozen=True)
class Utterances:
    """Utterance-level features of many clips.

    Attributes
    ----------
    clip_id : np.ndarray [shape=(n,), str]
    status : np.ndarray [shape=(n,), str]
    values : np.ndarray [shape=(n, n_features), float32]
        NaN in the rows of clips without audio.
    names : tuple of str
    """

    clip_id: np.ndarray
    status: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]


def read_statuses(paths: Iterable[str | Path]) -> dict[str, str]:
    """Return the status of every clip in utterance-level shards, without reading the features."""
    statuses: dict[str, str] = {}
    for path in paths:
        with pq.ParquetFile(path) as file:
            statuses.update(_statuses(file))
    return statuses


def _statuses(file: pq.ParquetFile) -> list[tuple[str, str]]:
    """Return id and status of each clip of an open shard, in the order of its rows."""
    rows = file.read(columns=["clip_id", "status"], use_threads=False)
    return list(zip(rows["clip_id"].to_pylist(), rows["status"].to_pylist(), strict=True))


def read_utterances(paths: Iterable[str | Path], groups: Sequence[Collection[str]]) -> list[Utterances]:
    """Read utterance-level shards in one pass, into one matrix per group of clips.

    Parameters
    ----------
    paths : iterable of str or Path
    groups : sequence of collections of str
        Clip ids; other clips are skipped. Memory holds the selected clips and 512 features of one shard.

    Returns
    -------
    list of Utterances
        One per group, with clips in the order of the group.

    Raises
    ------
    ValueError
        Where shards have different features, or a clip is in no shard.
    """
    place = {clip_id: (g, row) for g, group in enumerate(groups) for row, clip_id in enumerate(group)}
    values: list[np.ndarray] = []
    statuses = [np.full(len(group), "", dtype=object) for group in groups]
    names: tuple[str, ...] | None = None
    for path in paths:
        with pq.ParquetFile(path) as file:
            found = tuple(file.schema_arrow.names[len(_ROW) :])
            if names is None:
                names = found
                values = [np.empty((len(group), len(names)), dtype=np.float32) for group in groups]
            elif found != names:
                raise ValueError(
                    f"{path}: its features differ from those of the other shards; delete it and run again"
                )
            sources: list[list[int]] = [[] for _ in groups]
            targets: list[list[int]] = [[] for _ in groups]
            for place_in_shard, (clip_id, status) in enumerate(_statuses(file)):
                if clip_id in place:
                    g, row = place[clip_id]
                    sources[g].append(place_in_shard)
                    targets[g].append(row)
                    statuses[g][row] = status
            if not any(sources):
                continue
            for first in range(0, len(names), _COLUMNS):
                part = slice(first, first + _COLUMNS)
                columns = file.read(columns=names[part], use_threads=False).itercolumns()
                block = np.stack([float_values(feature) for feature in columns], axis=1)
                for matrix, source, target in zip(values, sources, targets, strict=True):
                    matrix[target, part] = block[source]
    for group, found_statuses in zip(groups, statuses, strict=True):
        absent = [clip_id for clip_id, word in zip(group, found_statuses, strict=True) if not word]
        if absent:
            raise ValueError(f"features: no shard has clip {absent[0]} ({len(absent)} such clips)")
    return [
        Utterances(np.array(list(group), dtype=object), found_statuses, block, names or ())
        for group, found_statuses, block in zip(groups, statuses, values, strict=True)
    ]


def write_sequences(
    frames_path: str | Path, index_path: str | Path, rows: Iterable[FeatureRow], n_channels: int, dtype: str
) -> None:
    """Write a sequence shard: concatenated frames (``.npy``) and the index (``clip_id``, ``start``, ``n_frames``).

    Memory holds one row at a time if ``rows`` is a generator.

    Raises
    ------
    ValueError
        Where a value is not finite, or exceeds the range of the type.
    """
    written: list[FeatureRow] = []
    lengths: list[int] = []
    with atomic_path(frames_path) as temporary, temporary.open("wb") as file:
        _write_header(file, 0, n_channels, dtype)
        start = file.tell()
        for row in rows:
            written.append(replace(row, values=None))
            lengths.append(0 if row.values is None else len(row.values))
            if row.values is not None:
                frames = np.ascontiguousarray(row.values, dtype=dtype)
                if frames.shape[1:] != (n_channels,):
                    raise ValueError(f"clip {row.clip_id}: {frames.shape} is not (n_frames, {n_channels})")
                if not np.isfinite(frames).all():
                    raise ValueError(
                        f"{frames_path}: clip {row.clip_id}: a frame is not finite or exceeds the range of {dtype}"
                    )
                file.write(frames.data)
        file.seek(0)
        _write_header(file, sum(lengths), n_channels, dtype)
        # NumPy pads the header, so that a larger number of frames fits in it.
        if file.tell() != start:
            raise RuntimeError(f"{frames_path}: the header has grown from {start} to {file.tell()} bytes")
    columns = {name: column([getattr(row, name) for row in written], kind) for name, kind in _ROW}
    index = pa.table(
        {
            "clip_id": columns["clip_id"],
            "start": column(np.cumsum([0, *lengths])[:-1].tolist(), pa.int64()),
            "n_frames": column(lengths, pa.int64()),
        }
        | {name: columns[name] for name in ("status", "reason")}
    )
    with atomic_path(index_path) as temporary:
        pq.write_table(index, temporary)


def write_frames(path: str | Path, n_rows: int, blocks: Iterable[np.ndarray]) -> None:
    """Write a ``.npy`` block by block, so that memory need not hold all rows.

    Parameters
    ----------
    path : str or Path
    n_rows : int
        Total number of rows of all blocks.
    blocks : iterable of np.ndarray [shape=(n, width)]
        At least one block; all blocks have the same width and type.

    Raises
    ------
    ValueError
        Where the blocks have another total number of rows, or differ in width or type.
    """
    n_written, kind = 0, None
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for block in blocks:
            found = (block.shape[1], block.dtype)
            if kind is None:
                kind = found
                _write_header(file, n_rows, *found)
            elif found != kind:
                raise ValueError(f"{path}: rows of {found} after rows of {kind}")
            # With a memory map, a full disk would kill the process without a message. NumPy's own writer reports only
            # the number of items written.
            file.write(np.ascontiguousarray(block).data)
            n_written += len(block)
        if n_written != n_rows:
            raise ValueError(f"{path}: {n_written} rows, not {n_rows}")


def read_sequences(frames_path: str | Path, index_path: str | Path) -> tuple[np.ndarray, pa.Table]:
    """Map a sequence shard into memory.

    Returns
    -------
    frames : np.memmap [shape=(n_frames_total, n_channels)]
    index : pyarrow.Table
        ``clip_id``, ``start``, ``n_frames``, ``status``, ``reason``.
    """
    return np.load(frames_path, mmap_mode="r", allow_pickle=False), pq.read_table(index_path)


def _write_header(file: BinaryIO, n_frames: int, n_channels: int, dtype: str | np.dtype) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": (n_frames, n_channels),
    }
    np.lib.format.write_array_header_1_0(file, header)
