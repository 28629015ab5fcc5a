"""The concatenated vectors of several systems, for training. A clip has one frame."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from exvo.training.frames import FrameStore
from exvo.training.standardise import standard_moments


class UtteranceStore(FrameStore):
    """Files of vectors of the same clips, as one store of frames.

    A clip has a frame if at least one system has a vector of it. The part of a system without a vector, because its
    stage has no audio of the clip, is NaN.

    Parameters
    ----------
    files : sequence of (frames path, index path)
        Files of `exvo.features.vectors.write_vectors`, at least one pair.

    Attributes
    ----------
    widths : tuple of int
        Widths of the systems' vectors.

    Raises
    ------
    ValueError
        Where another file lacks a clip of the first.
    """

    def __init__(self, files: Sequence[tuple[str | Path, str | Path]]) -> None:
        super().__init__(files[:1])
        self._parts = [FrameStore([pair]) for pair in files]
        self.shards = tuple(pair for part in self._parts for pair in part.shards)
        self.widths = tuple(part.n_channels for part in self._parts)
        self._places = np.stack([part.rows(self.clip_id) for part in self._parts])
        self._there = np.stack([part.has_audio(self.clip_id) for part in self._parts])
        self.n_frames = np.asarray(self._there.any(axis=0), dtype=np.int64)

    @property
    def n_channels(self) -> int:
        """Number of channels of all vectors together."""
        return sum(self.widths)

    def has_audio(self, clip_ids: Iterable[str]) -> np.ndarray:
        """Return which clips have a vector of at least one system [shape=(n,), bool]."""
        return self.n_frames[self.rows(clip_ids)] > 0

    def frames(self, row: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return the vectors of a clip [shape=(1, n_channels), float32]; arguments as in `FrameStore.frames`."""
        vectors = np.full((1, self.n_channels), np.nan, dtype=np.float32)
        first = 0
        for part, place, there, width in zip(
            self._parts, self._places[:, row], self._there[:, row], self.widths, strict=True
        ):
            if there:
                vectors[:, first : first + width] = part.frames(place)
            first += width
        return vectors[start : None if length is None else start + length]

    def unmap(self) -> None:
        """Release the memory of all files."""
        for part in self._parts:
            part.unmap()

    def moments(self, clip_ids: Iterable[str]) -> dict[str, list[float]]:
        """Return the mean and SD of every channel over the clips that have it. Memory holds the vectors of one system.

        Returns
        -------
        dict
            ``mean`` and ``std`` (lists of n_channels); the SD of a constant channel is 0.

        Raises
        ------
        ValueError
            Where a system has no vector of any of the clips.
        """
        rows = self.rows(clip_ids)
        moments: dict[str, list[float]] = {"mean": [], "std": []}
        for part, places, there in zip(self._parts, self._places[:, rows], self._there[:, rows], strict=True):
            if not there.any():
                raise ValueError(
                    f"{part.shards[0][0]}: no clip of Train has audio, so there is nothing to learn from"
                )
            vectors = np.concatenate([part.frames(place).copy() for place in places[there]])
            found = standard_moments(vectors)
            moments = {name: moments[name] + found[name] for name in moments}
        self.unmap()
        return moments
