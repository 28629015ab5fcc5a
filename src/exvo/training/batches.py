"""Batches of clips of similar length, with their labels, for encoders that read sequences.

All random choices in an epoch (order and version of the clips, crops, masks) depend on the seed, the epoch and the clip
only. An interrupted training therefore resumes with the same batches.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from exvo.corpus.labels import Labels
from exvo.corpus.shards import stable_hash
from exvo.evaluation.metrics import labelled
from exvo.training.frames import ClipStore
from exvo.util.settings import Natural, Share

# Clips whose lengths differ by up to about twice this share can be in one batch (ours). By length alone, every epoch
# would have the same batches.
_LENGTH_JITTER = 0.1

B = TypeVar("B")


class Batch(NamedTuple):
    """Clips with their labels, as input of a network and its loss.

    Attributes
    ----------
    frames : Tensor [shape=(batch, n_frames, n_channels), float32]
        Zero beyond the end of a clip.
    lengths : Tensor [shape=(batch,), int64]
        In frames.
    targets : dict of Tensor
        ``emotion`` (batch, 10) and ``age`` (batch,) in years, float32, NaN where unknown; ``country`` (batch,), int64,
        -1 where unknown.
    labelled : tuple of str
        Tasks for which at least one clip has a label.
    rows : Tensor [shape=(batch,), int64]
        Places of the clips in the list from which the batches are made.
    """

    frames: Tensor
    lengths: Tensor
    targets: dict[str, Tensor]
    labelled: tuple[str, ...]
    rows: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        if device.type == "cpu":
            return self
        targets = {task: values.to(device) for task, values in self.targets.items()}
        return Batch(
            self.frames.to(device), self.lengths.to(device), targets, self.labelled, self.rows.to(device)
        )


class Batches(Generic[B]):
    """Batches that are gathered on access, any number of times.

    Parameters
    ----------
    groups : sequence of np.ndarray
        Clips of each batch.
    gather : callable
        Returns the batch of such an array.

    Attributes
    ----------
    seconds : float
        Time spent in gathering so far.
    """

    def __init__(self, groups: Sequence[np.ndarray], gather: Callable[[np.ndarray], B]) -> None:
        self.groups = groups
        self.gather = gather
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> B:
        start = time.perf_counter()
        batch = self.gather(self.groups[index])
        self.seconds += time.perf_counter() - start
        return batch

    def __iter__(self) -> Iterator[B]:
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True)
class SpecAugment:
    """Masks over time and channels of a spectrogram (Park et al., Interspeech 2019), without time warping.

    Attributes
    ----------
    time_masks : int
        Number of masks over time; they may overlap.
    channel_masks : int
        Number of masks over channels; they may overlap.
    max_frames : int
        Maximum length of a mask over time, in frames.
    max_share : float
        Maximum length of a mask over time, as a share of the clip.
    max_channels : int
        Maximum height of a mask over channels, in channels.
    """

    time_masks: Natural = 2
    channel_masks: Natural = 2
    max_frames: Natural = 25
    max_share: Share = 0.2
    max_channels: Natural = 12

    def apply(self, frames: np.ndarray, fill: np.ndarray, rng: np.random.Generator) -> None:
        """Mask the frames of one clip in place.

        Parameters
        ----------
        frames : np.ndarray [shape=(n_frames, n_channels)]
        fill : np.ndarray [shape=(n_channels,)]
            Masked values become the mean over Train, which is 0 after standardisation.
        rng : np.random.Generator
        """
        n_frames, n_channels = frames.shape
        longest = min(self.max_frames, int(self.max_share * n_frames))
        for first, last in _spans(n_frames, longest, self.time_masks, rng):
            frames[first:last] = fill
        for first, last in _spans(n_channels, min(self.max_channels, n_channels), self.channel_masks, rng):
            frames[:, first:last] = fill[first:last]


class TrainBatches:
    """The batches of every epoch.

    Parameters
    ----------
    store : ClipStore
    labels : Labels
        Labels of the training clips, all with audio.
    batch_size : int
        Maximum number of clips in a batch.
    seed : int
    max_batch_frames : int or None
        As in `like_length_batches`.
    crop_frames : int or None
        From a longer clip, each epoch uses a random crop of this many frames.
    spec_augment : SpecAugment or None
    fill : np.ndarray [shape=(n_channels,)] or None
        Values in the masks; needed with ``spec_augment``.
    perturbed : mapping of float to ClipStore
        Other versions of the same clips, by speed factor. Every epoch uses one random version of each clip, including
        that in ``store`` (factor 1). Versions without frames are skipped.
    """

    def __init__(
        self,
        store: ClipStore,
        labels: Labels,
        *,
        batch_size: int,
        seed: int,
        max_batch_frames: int | None = None,
        crop_frames: int | None = None,
        spec_augment: SpecAugment | None = None,
        fill: np.ndarray | None = None,
        perturbed: Mapping[float, ClipStore] | None = None,
    ) -> None:
        if spec_augment is not None and fill is None:
            raise ValueError("spec_augment: masked values need a fill value of each channel")
        others = {factor: other for factor, other in (perturbed or {}).items() if factor != 1}
        self.stores = (store, *(others[factor] for factor in sorted(others)))
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.max_batch_frames = max_batch_frames
        self.crop_frames = crop_frames
        self.spec_augment = spec_augment
        self.fill = fill
        self._targets = Targets(labels)
        self._rows = np.stack([version.rows(labels.clip_id) for version in self.stores])
        self._n_frames = np.stack(
            [version.n_frames[rows] for version, rows in zip(self.stores, self._rows, strict=True)]
        )
        self._hashes = [stable_hash(clip_id) for clip_id in labels.clip_id]

    def epoch(self, number: int) -> Batches[Batch]:
        """Return the batches of an epoch, counted from 1; they are the same at every call."""
        rng = np.random.default_rng([self.seed, number])
        version = np.where(self._n_frames > 0, rng.random(self._n_frames.shape), -1).argmax(axis=0)
        n_frames = np.take_along_axis(self._n_frames, version[None], axis=0)[0]
        lengths = n_frames if self.crop_frames is None else np.minimum(n_frames, self.crop_frames)
        groups = like_length_batches(
            lengths, self.batch_size, max_batch_frames=self.max_batch_frames, rng=rng
        )

        def gather(rows: np.ndarray) -> Batch:
            frames = np.zeros((len(rows), lengths[rows].max(), self.stores[0].n_channels), np.float32)
            for out, row in zip(frames, rows.tolist(), strict=True):
                # A generator per clip, so that its crop and masks do not depend on the batch.
                rng = np.random.default_rng([self.seed, number, self._hashes[row]])
                start = int(rng.integers(n_frames[row] - lengths[row] + 1))
                store, place = self.stores[version[row]], self._rows[version[row], row]
                out[: lengths[row]] = store.frames(place, start, lengths[row])
                if self.spec_augment is not None and self.fill is not None:
                    self.spec_augment.apply(out[: lengths[row]], self.fill, rng)
            return make_batch(frames, lengths[rows], self._targets, rows)

        return Batches(groups, gather)


def whole_batches(
    store: ClipStore,
    clip_ids: Sequence[str],
    *,
    batch_size: int,
    max_batch_frames: int,
) -> Batches[Batch]:
    """Return batches of complete clips, by length and without targets, for validation and prediction.

    Parameters
    ----------
    store : ClipStore
    clip_ids : sequence of str
        All with audio.
    batch_size, max_batch_frames : int
        As in `like_length_batches`.
    """
    places = store.rows(clip_ids)
    lengths = store.n_frames[places]

    def gather(rows: np.ndarray) -> Batch:
        frames = np.zeros((len(rows), lengths[rows].max(), store.n_channels), np.float32)
        for out, row in zip(frames, rows.tolist(), strict=True):
            out[: lengths[row]] = store.frames(places[row])
        return make_batch(frames, lengths[rows], None, rows)

    return Batches(like_length_batches(lengths, batch_size, max_batch_frames=max_batch_frames), gather)


class Targets:
    """Labels of clips for the loss, and which clips have them.

    Parameters
    ----------
    labels : Labels

    Attributes
    ----------
    values : dict of Tensor
        As in `Batch`.
    """

    def __init__(self, labels: Labels) -> None:
        self.values = as_targets(labels)
        self._known = {task: labelled(labels, task) for task in self.values}

    def of(self, rows: np.ndarray) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Return the targets of rows, and the tasks for which at least one of them has a label."""
        index = torch.from_numpy(rows)
        taken = {task: values.index_select(0, index) for task, values in self.values.items()}
        return taken, tuple(task for task, known in self._known.items() if known[rows].any())


def as_targets(labels: Labels) -> dict[str, Tensor]:
    """Return labels for the loss, as in `Batch`."""
    return {
        "emotion": torch.from_numpy(labels.emotion.astype(np.float32)),
        "age": torch.from_numpy(labels.age.astype(np.float32)),
        "country": torch.from_numpy(labels.country.astype(np.int64)),
    }


def like_length_batches(
    lengths: np.ndarray,
    batch_size: int,
    *,
    max_batch_frames: int | None = None,
    rng: np.random.Generator | None = None,
) -> list[np.ndarray]:
    """Group clips into batches of similar length.

    Parameters
    ----------
    lengths : np.ndarray [shape=(n,), int]
        In frames.
    batch_size : int
        Maximum number of clips in a batch. Without ``max_batch_frames``, the sizes of batches differ by at most 1.
    max_batch_frames : int or None
        Maximum number of frames in a batch, padding included; a longer clip is a batch of its own.
    rng : np.random.Generator or None
        Shuffles clips of similar length, and the batches. With None, the order is by length.

    Returns
    -------
    list of np.ndarray
        Indices of ``lengths``, each once.
    """
    jitter = 1.0 if rng is None else rng.uniform(1 - _LENGTH_JITTER, 1 + _LENGTH_JITTER, len(lengths))
    order = np.argsort(lengths * jitter, kind="stable")
    if not len(order):
        return []
    if max_batch_frames is None:
        batches = np.array_split(order, -(-len(order) // batch_size))
    else:
        cuts, first, longest = [], 0, 0
        for place, length in enumerate(lengths[order].tolist()):
            longest = max(longest, length)
            n_clips = place + 1 - first
            if n_clips > 1 and (n_clips > batch_size or n_clips * longest > max_batch_frames):
                cuts.append(place)
                first, longest = place, length
        batches = np.split(order, cuts)
    return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


def _spans(n: int, longest: int, count: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield random spans in ``range(n)``, with lengths from 0 to ``longest``."""
    for _ in range(count):
        length = int(rng.integers(longest + 1))
        first = int(rng.integers(n - length + 1))
        yield first, first + length


def make_batch(frames: np.ndarray, lengths: np.ndarray, targets: Targets | None, rows: np.ndarray) -> Batch:
    """Return the batch of the clips in ``rows``, with frames (batch, n_frames, n_channels) and lengths (batch,)."""
    taken, labelled_tasks = ({}, ()) if targets is None else targets.of(rows)
    return Batch(
        torch.from_numpy(frames), torch.from_numpy(lengths), taken, labelled_tasks, torch.from_numpy(rows)
    )
