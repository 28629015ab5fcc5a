"""Utterance-level features of clips in memory, for training and prediction. A clip has one frame."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from exvo.audio.store import WITHOUT_AUDIO
from exvo.corpus.labels import Labels
from exvo.features.store import read_statuses, read_utterances
from exvo.features.vectors import Shard, feature_vectors
from exvo.training.batches import Batch, Batches, Targets, make_batch
from exvo.training.frames import ClipStore, file_states
from exvo.training.standardise import standard_moments

# Number of batches that are gathered at once: 13 MB with batches of 8 clips and 6,373 features.
_BLOCK_BATCHES = 64
# Clips are predicted in blocks of this size; the last one is padded with zeros. A matrix product of another size may
# add in another order, and the last bits of a prediction would depend on the other clips of its shard.
_PREDICT_ROWS = 128


class VectorStore:
    """One vector per clip: functionals, or the mean and SD over time of each channel of frames.

    Parameters
    ----------
    shards : sequence of Shard
        As `exvo.features.vectors.as_shards` returns them.
    clip_ids : sequence of str
        Clips to read, each in a shard. Memory holds one copy of their vectors.

    Attributes
    ----------
    clip_id : np.ndarray [shape=(n,), str]
    n_frames : np.ndarray [shape=(n,), int64]
        1, or 0 for a clip without audio.
    features_digest : str or None
        SHA-256 of the names of the features; None for vectors from frames.

    Raises
    ------
    ValueError
        Where a value is not finite, a clip is in no shard, or shards have different features.
    """

    def __init__(self, shards: Sequence[Shard], clip_ids: Sequence[str]) -> None:
        self.clip_id = np.array(list(clip_ids), dtype=object)
        self._files = [Path(path) for shard in shards for path in shard]
        self._row = {clip_id: row for row, clip_id in enumerate(self.clip_id)}
        status = read_statuses([shard[-1] for shard in shards])
        absent = [clip_id for clip_id in self.clip_id if clip_id not in status]
        if absent:
            raise ValueError(f"features: no shard has clip {absent[0]} ({len(absent)} such clips)")
        audible = [status[clip_id] not in WITHOUT_AUDIO for clip_id in self.clip_id]
        self.n_frames = np.array(audible, dtype=np.int64)
        self.values, names = _read(shards, self.clip_id, self.n_frames > 0)
        self.features_digest = None if names is None else names_digest(names)
        _check_finite(self.values, self.clip_id)

    @property
    def n_channels(self) -> int:
        """Number of features per clip."""
        return self.values.shape[1]

    def rows(self, clip_ids: Iterable[str]) -> np.ndarray:
        """Return the rows of clips [shape=(n,), int64]."""
        return np.array([self._row[clip_id] for clip_id in clip_ids], dtype=np.int64)

    def has_audio(self, clip_ids: Iterable[str]) -> np.ndarray:
        """Return which clips have a vector [shape=(n,), bool]."""
        return self.n_frames[self.rows(clip_ids)] > 0

    def frames(self, row: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return the vector of a clip as its only frame [shape=(1, n_channels)]."""
        return self.values[row : row + 1][start : None if length is None else start + length]

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Return name, size in bytes and time of change in nanoseconds of every file."""
        return file_states(self._files)

    def moments(self, clip_ids: Iterable[str]) -> dict[str, list[float]]:
        """Return ``mean`` and ``std`` of every feature over clips; the SD of a constant feature is 0."""
        return standard_moments(self.values, self.rows(clip_ids))


class VectorBatches:
    """The batches of every epoch: all clips in a new random order, in batches of equal size.

    Parameters
    ----------
    store : VectorStore
    labels : Labels
        Labels of the training clips, all with audio.
    batch_size, seed : int
    """

    def __init__(self, store: VectorStore, labels: Labels, *, batch_size: int, seed: int) -> None:
        self.store = store
        self.batch_size = batch_size
        self.seed = seed
        self._rows = store.rows(labels.clip_id)
        self._targets = Targets(labels)

    def epoch(self, number: int) -> Batches[Batch]:
        """Return the batches of an epoch, counted from 1; they are the same at every call."""
        shuffle, order = np.random.default_rng(self.seed), np.arange(0)
        for _ in range(number):
            order = shuffle.permutation(len(self._rows))
        block, block_start = np.empty((0, self.store.n_channels), np.float32), 0

        def gather(rows: np.ndarray) -> Batch:
            # For many batches at once: row by row, gathering would be a third of the training time.
            nonlocal block, block_start
            first = int(rows[0])
            if not block_start <= first < block_start + len(block):
                block_start = first
                block = self.store.values[self._rows[order[first : first + self.batch_size * _BLOCK_BATCHES]]]
            frames = block[first - block_start :][: len(rows), None]
            return make_batch(frames, np.ones(len(rows), np.int64), self._targets, order[rows])

        return Batches(
            np.split(np.arange(len(order)), range(self.batch_size, len(order), self.batch_size)), gather
        )


def vector_batches(store: VectorStore, clip_ids: Sequence[str]) -> Batches[Batch]:
    """Return batches of equal size for validation and prediction; the last one is padded with zeros."""
    places = store.rows(clip_ids)

    def gather(rows: np.ndarray) -> Batch:
        frames = np.zeros((_PREDICT_ROWS, 1, store.n_channels), np.float32)
        frames[: len(rows), 0] = store.values[places[rows]]
        return make_batch(frames, np.ones(_PREDICT_ROWS, np.int64), None, rows)

    groups = np.split(np.arange(len(places)), range(_PREDICT_ROWS, len(places), _PREDICT_ROWS))
    return Batches(groups if len(places) else [], gather)


def check_features(store: ClipStore, n_channels: int, features_digest: str | None) -> None:
    """Refuse features that differ from those of training in number or, where they have names, in a name."""
    if store.n_channels != n_channels:
        raise ValueError(f"features: {store.n_channels} channels, but the model was trained on {n_channels}")
    if None not in (features_digest, store.features_digest) and store.features_digest != features_digest:
        raise ValueError("features: not those the model was trained on; their names or their order differ")


def names_digest(names: Sequence[str]) -> str:
    """Return a SHA-256 of the feature names in order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _read(
    shards: Sequence[Shard], clip_ids: np.ndarray, audible: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return vectors [shape=(n, n_channels)], 0 for clips without audio, and the names of the features, if any."""
    if all(len(shard) == 1 for shard in shards):
        (found,) = read_utterances([shard[0] for shard in shards], [clip_ids])
        found.values[~audible] = 0.0
        return found.values, found.names
    place = {clip_id: row for row, clip_id in enumerate(clip_ids) if audible[row]}
    n_channels = feature_vectors(shards[0], []).shape[1]
    values = np.zeros((len(clip_ids), n_channels), np.float32)
    for shard in shards:
        wanted = [clip_id for clip_id in read_statuses([shard[-1]]) if clip_id in place]
        if wanted:
            values[[place[clip_id] for clip_id in wanted]] = feature_vectors(shard, wanted)
    return values, None


def _check_finite(values: np.ndarray, clip_ids: np.ndarray) -> None:
    for row, vector in enumerate(values):
        if not np.isfinite(vector).all():
            column = int(np.flatnonzero(~np.isfinite(vector))[0])
            raise ValueError(
                f"features: {vector[column]} in column {column} of clip {clip_ids[row]}: "
                "extract the features again, or leave the clip out of the corpus"
            )
