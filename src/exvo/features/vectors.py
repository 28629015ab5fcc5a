"""One vector per clip of the corpus, the input of feature fusion.

A file of vectors is a sequence shard (`exvo.features.store`) in which a clip with audio has one float32 frame, and a
clip without audio has none. One file has all clips of the corpus. It is written shard by shard, so that memory holds
one shard at a time.

`feature_vectors` needs no network: it returns functionals, or the mean and SD of frames over time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exvo.audio.store import WITHOUT_AUDIO
from exvo.features.store import read_sequences, read_utterances, write_frames
from exvo.util.atomic import atomic_path

# Frames and index of a sequence shard, or the table of an utterance-level shard.
Shard = tuple[Path, ...]


def as_shards(paths: Iterable[str | Path]) -> list[Shard]:
    """Group feature files into shards: ``0000.npy`` with ``0000.parquet``, or a Parquet file alone."""
    files = [Path(path) for path in paths]
    framed = {path.with_suffix("") for path in files if path.suffix == ".npy"}
    return [
        (path.with_suffix(".npy"), path) if path.with_suffix("") in framed else (path,)
        for path in files
        if path.suffix == ".parquet"
    ]


def write_vectors(
    shards: Sequence[Shard],
    vectors_of: Callable[[Shard, list[str]], np.ndarray],
    frames_path: str | Path,
    index_path: str | Path,
) -> None:
    """Compute and write the vectors of all clips.

    Parameters
    ----------
    shards : sequence of Shard
    vectors_of : callable
        Takes a shard and the ids of its clips with audio, at least one. Returns their vectors [shape=(n, width)].
    frames_path, index_path : str or Path

    Raises
    ------
    ValueError
        Where no clip has audio, or a vector is not finite.
    """
    tables = [_clips(shard) for shard in shards]
    clips = pa.concat_tables(tables)
    n_vectors = clips["n_frames"].to_numpy()
    if not n_vectors.any():
        raise ValueError(f"{frames_path}: no clip has audio, so there are no vectors; check the recordings")
    write_frames(frames_path, int(n_vectors.sum()), _blocks(shards, tables, vectors_of))
    starts = pa.array(np.cumsum(n_vectors) - n_vectors, pa.int64())
    with atomic_path(index_path) as temporary:
        pq.write_table(clips.add_column(1, "start", starts), temporary)


def _blocks(
    shards: Sequence[Shard], tables: Sequence[pa.Table], vectors_of: Callable[[Shard, list[str]], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the vectors of each shard that has a clip with audio."""
    for shard, table in zip(shards, tables, strict=True):
        clip_ids = [row["clip_id"] for row in table.to_pylist() if row["n_frames"]]
        if not clip_ids:
            continue
        values = np.asarray(vectors_of(shard, clip_ids), dtype=np.float32)
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise ValueError(f"{shard[-1]}: the vector of clip {clip_ids[finite.argmin()]} is not finite")
        yield values


def feature_vectors(shard: Shard, clip_ids: Sequence[str]) -> np.ndarray:
    """Return the functionals of clips, or the mean and population SD over time of each channel of their frames.

    Parameters
    ----------
    shard : Shard
    clip_ids : sequence of str
        Clips with audio, in the order of the result.

    Returns
    -------
    np.ndarray [shape=(n_clips, n_features) or (n_clips, 2 * n_channels), float32]
    """
    if len(shard) == 1:
        (features,) = read_utterances(shard, [clip_ids])
        return features.values
    frames, index = read_sequences(*shard)
    place = {row["clip_id"]: slice(row["start"], row["start"] + row["n_frames"]) for row in index.to_pylist()}
    vectors = np.empty((len(clip_ids), 2 * frames.shape[1]), dtype=np.float32)
    for vector, clip_id in zip(vectors, clip_ids, strict=True):
        values = frames[place[clip_id]].astype(np.float64)
        vector[:] = np.concatenate([values.mean(axis=0), values.std(axis=0)])
    return vectors


def _clips(shard: Shard) -> pa.Table:
    """Return ``clip_id``, ``n_frames`` (1 with audio, else 0), ``status`` and ``reason`` of the clips in a shard."""
    columns = ["clip_id", "status", "reason"] + ["n_frames"] * (len(shard) - 1)
    table = pq.read_table(shard[-1], columns=columns)
    has_audio = ~np.isin(table["status"].to_numpy(zero_copy_only=False).astype(str), WITHOUT_AUDIO)
    if len(shard) > 1:
        has_audio &= table["n_frames"].to_numpy() > 0
    count = pa.array(has_audio.astype(np.int64))
    return table.select(["clip_id", "status", "reason"]).add_column(1, "n_frames", count)
