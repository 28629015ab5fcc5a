"""The frames of clips, read from the memory-mapped shards of `exvo.features.store`.

Memory holds the indices of the shards and, for a time, the pages that were read. It does not hold the frames of the
corpus.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from exvo.audio.store import WITHOUT_AUDIO
from exvo.features.store import read_sequences

# Shards are unmapped when about this much of them is in memory. The pages of a mapped file count as memory of the
# process, and would otherwise add up to the complete corpus during an epoch.
_UNMAP_BYTES = 128 * 2**20
# Memory that one read can take, because the kernel maps the pages around it: about 1 MB was measured for 36 kB.
_LEAST_READ = 2**20
# Each mapped shard keeps a file open.
_MAPPED_SHARDS = 128


class ClipStore(Protocol):
    """Clips for training and prediction, each with a number of frames.

    Attributes
    ----------
    clip_id : np.ndarray [shape=(n,), str]
    n_frames : np.ndarray [shape=(n,), int64]
        0 for a clip without audio.
    features_digest : str or None
        SHA-256 of the names of the channels, if they have names.
    """

    clip_id: np.ndarray
    n_frames: np.ndarray
    features_digest: str | None

    @property
    def n_channels(self) -> int:
        """Number of channels of a frame."""

    def rows(self, clip_ids: Iterable[str]) -> np.ndarray:
        """Return the rows of clips [shape=(n,), int64]; ValueError where one is missing."""

    def has_audio(self, clip_ids: Iterable[str]) -> np.ndarray:
        """Return which clips have frames [shape=(n,), bool]."""

    def frames(self, row: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return frames of a clip [shape=(length, n_channels)]."""

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Return name, size in bytes and time of change in nanoseconds of every file."""


class FrameStore:
    """The frames of all clips in sequence shards.

    Parameters
    ----------
    shards : sequence of (frames path, index path)
        As `exvo.features.store.write_sequences` wrote them.

    Attributes
    ----------
    shards : tuple of (Path, Path)
    clip_id, status : np.ndarray [shape=(n,), str]
        In the order of the shards.
    n_frames : np.ndarray [shape=(n,), int64]
        0 for a clip without audio.

    Raises
    ------
    ValueError
        Where a clip is in two shards.
    """

    features_digest: str | None = None

    def __init__(self, shards: Sequence[tuple[str | Path, ...]]) -> None:
        self.shards = tuple((Path(frames), Path(index)) for frames, index in shards)
        tables = [read_sequences(*paths)[1] for paths in self.shards]

        def column(name: str, dtype: type) -> np.ndarray:
            parts = [table[name].to_numpy().astype(dtype) for table in tables]
            return np.concatenate(parts) if parts else np.empty(0, dtype)

        self.clip_id = column("clip_id", object)
        self.status = column("status", object)
        self.n_frames = column("n_frames", np.int64)
        self._start = column("start", np.int64)
        self._shard = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        self._row = {clip_id: row for row, clip_id in enumerate(self.clip_id)}
        if len(self._row) < len(self.clip_id):
            again = next(c for row, c in enumerate(self.clip_id) if self._row[c] != row)
            raise ValueError(f"frames: clip {again} is in more than one shard")
        self._mapped = lru_cache(_MAPPED_SHARDS)(self._map)
        self._n_bytes_read = 0

    @property
    def n_channels(self) -> int:
        """Number of channels of a frame."""
        return self._mapped(0).shape[1]

    def rows(self, clip_ids: Iterable[str]) -> np.ndarray:
        """Return the places of clips in `clip_id` [shape=(n,), int64].

        Raises
        ------
        ValueError
            Where a clip is in no shard.
        """
        clip_ids = list(clip_ids)
        absent = [clip_id for clip_id in clip_ids if clip_id not in self._row]
        if absent:
            raise ValueError(f"frames: no shard has clip {absent[0]} ({len(absent)} such clips)")
        return np.array([self._row[clip_id] for clip_id in clip_ids], dtype=np.int64)

    def has_audio(self, clip_ids: Iterable[str]) -> np.ndarray:
        """Return which clips have frames [shape=(n,), bool]."""
        rows = self.rows(clip_ids)
        return (self.n_frames[rows] > 0) & ~np.isin(self.status[rows].astype(str), WITHOUT_AUDIO)

    def frames(self, row: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return frames of a clip, as a view of the shard that is valid until the next call.

        Parameters
        ----------
        row : int
            As `rows` returns it.
        start : int
            First frame, counted from the start of the clip.
        length : int or None
            Number of frames; None for all up to the end.

        Returns
        -------
        np.ndarray [shape=(length, n_channels)]
        """
        if self._n_bytes_read > _UNMAP_BYTES:
            self.unmap()
        stop = self.n_frames[row] if length is None else start + length
        begin = self._start[row]
        view = self._mapped(int(self._shard[row]))[begin + start : begin + stop]
        self._n_bytes_read += max(view.nbytes, _LEAST_READ)
        return view

    def unmap(self) -> None:
        """Release the memory of all shards; they are mapped again on access."""
        self._mapped.cache_clear()
        self._n_bytes_read = 0

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Return name, size in bytes and time of change in nanoseconds of every file of the shards."""
        return file_states(path for paths in self.shards for path in paths)

    def _map(self, shard: int) -> np.ndarray:
        # Not with `read_sequences`, which would also read the index again.
        return np.load(self.shards[shard][0], mmap_mode="r", allow_pickle=False)


def file_states(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return name, size in bytes and time of change in nanoseconds of each file."""
    stats = [(path.name, path.stat()) for path in paths]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
