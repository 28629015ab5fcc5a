"""Batches for masked prediction: crops of clips of similar length, with masks and labels.

All random choices in an epoch depend on the seed, the epoch and the clip only. An interrupted pre-training therefore
resumes with the same batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from exvo.corpus.shards import stable_hash
from exvo.hubert.encoder import HOP, RECEPTIVE_FIELD
from exvo.hubert.logmel_frontend import STACK
from exvo.training.batches import Batches, like_length_batches
from exvo.training.frames import FrameStore
from exvo.util.settings import Count, OpenShare

# Epoch number for held-out clips, whose masks are the same at every evaluation; epochs count from 0.
HELD_OUT = 2**32 - 1


@dataclass(frozen=True)
class MaskConfig:
    """Which frames are masked and predicted.

    Attributes
    ----------
    share : float
        Share of each clip's frames that is masked.
    span : int
        Number of frames of 20 ms that are masked together.
    """

    share: OpenShare = 0.65
    span: Count = 10

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"mask.share: {self.share} is not between 0 and 1")
        if self.span < 1:
            raise ValueError(f"mask.span: {self.span} is less than one frame; set it to 1 or more")


@dataclass(frozen=True)
class Targets:
    """One set of target labels.

    Attributes
    ----------
    labels : FrameStore
        One column with one row per 20 ms, as written by `exvo.pretraining.clusters.label_shard`.
    k : int
        Number of clusters.
    """

    labels: FrameStore
    k: int


class MaskedBatch(NamedTuple):
    """Input of masked prediction.

    Attributes
    ----------
    clips : list of Tensor [shape=(n_logmel_frames, n_mels) or (n_samples, 1), float32]
    lengths : Tensor [shape=(batch,), int64]
        Frames of 20 ms of each clip.
    mask : Tensor [shape=(batch, n_frames), bool]
        False beyond the end of a clip.
    labels : list of Tensor [shape=(batch, n_frames), int64]
        Labels of each set of targets; -1 beyond the end of a clip.
    """

    clips: list[Tensor]
    lengths: Tensor
    mask: Tensor
    labels: list[Tensor]

    def to(self, device: torch.device) -> "MaskedBatch":
        """Return the batch on a device."""
        if device.type == "cpu":
            return self
        clips, labels = ([part.to(device) for part in parts] for parts in (self.clips, self.labels))
        return MaskedBatch(clips, self.lengths.to(device), self.mask.to(device), labels)


class MaskedClips:
    """The clips of a pre-training, with their labels.

    Parameters
    ----------
    inputs : FrameStore
        Log-mel frames every 10 ms, or samples (`exvo.features.waveform`).
    targets : sequence of FrameStore
        Labels of the same clips, every 20 ms.
    clip_ids : sequence of str
        Clips with at least two frames of 20 ms.
    frontend : {"logmel", "conv"}
        ``logmel`` for log-mel frames in ``inputs``, ``conv`` for samples.
    mask : MaskConfig
    seed : int
    max_batch_frames : int
        Frames of 20 ms in a batch, including padding; a longer clip is a batch of its own.
    crop_frames : int or None
        From a longer clip, each epoch uses a random crop of this many frames.

    Raises
    ------
    ValueError
        Where a clip has fewer labels than frames, or fewer than two frames.
    """

    def __init__(
        self,
        inputs: FrameStore,
        targets: Sequence[FrameStore],
        clip_ids: Sequence[str],
        *,
        frontend: str,
        mask: MaskConfig,
        seed: int,
        max_batch_frames: int,
        crop_frames: int | None = None,
    ) -> None:
        self.inputs = inputs
        self.targets = tuple(targets)
        self.mask = mask
        self.seed = seed
        self.max_batch_frames = max_batch_frames
        self.hop, self.overlap = (STACK, 0) if frontend == "logmel" else (HOP, RECEPTIVE_FIELD - HOP)
        self._rows = inputs.rows(clip_ids)
        self._label_rows = [store.rows(clip_ids) for store in self.targets]
        self._hashes = [stable_hash(clip_id) for clip_id in clip_ids]
        self.n_frames = encoder_frames(inputs, clip_ids, frontend)
        self.lengths = self.n_frames if crop_frames is None else np.minimum(self.n_frames, crop_frames)
        for clip_id, n in zip(clip_ids, self.n_frames.tolist(), strict=True):
            if n < 2:
                raise ValueError(
                    f"clip {clip_id}: {n} frame(s) of 20 ms cannot be partly masked; at least 2 are needed"
                )
        for store, rows in zip(self.targets, self._label_rows, strict=True):
            short = np.flatnonzero(store.n_frames[rows] < self.n_frames)
            if len(short):
                first = short[0]
                raise ValueError(
                    f"clip {clip_ids[first]}: {store.n_frames[rows[first]]} labels for {self.n_frames[first]} "
                    f"frames ({len(short)} such clips); label the clips again"
                )

    def __len__(self) -> int:
        return len(self._rows)

    def epoch(self, number: int) -> Batches[MaskedBatch]:
        """Return the batches of an epoch. They are the same at every call."""
        rng = None if number == HELD_OUT else np.random.default_rng([self.seed, number])
        groups = like_length_batches(self.lengths, len(self), max_batch_frames=self.max_batch_frames, rng=rng)
        return Batches(groups, lambda group: self._gather(group.tolist(), number))

    def _gather(self, places: list[int], number: int) -> MaskedBatch:
        longest = int(self.lengths[places].max())
        clips = []
        mask = np.zeros((len(places), longest), dtype=bool)
        labels = [np.full((len(places), longest), -1, dtype=np.int64) for _ in self.targets]
        for i, place in enumerate(places):
            # A generator per clip, so that its crop and mask do not depend on the batch.
            rng = np.random.default_rng([self.seed, number, self._hashes[place]])
            length = int(self.lengths[place])
            start = int(rng.integers(self.n_frames[place] - length + 1))
            read = self.inputs.frames(self._rows[place], start * self.hop, length * self.hop + self.overlap)
            clips.append(torch.from_numpy(read.astype(np.float32)))
            mask[i, :length] = span_mask(length, self.mask.share, self.mask.span, rng)
            for store, rows, out in zip(self.targets, self._label_rows, labels, strict=True):
                out[i, :length] = store.frames(rows[place], start, length)[:, 0]
        return MaskedBatch(
            clips,
            torch.from_numpy(self.lengths[places]),
            torch.from_numpy(mask),
            [torch.from_numpy(values) for values in labels],
        )


def encoder_frames(inputs: FrameStore, clip_ids: Sequence[str], frontend: str) -> np.ndarray:
    """Return the number of frames of 20 ms that an encoder computes for each clip [shape=(n,), int64].

    Parameters
    ----------
    inputs : FrameStore
        Log-mel frames every 10 ms, or samples.
    clip_ids : sequence of str
    frontend : {"logmel", "conv"}
    """
    n_inputs = inputs.n_frames[inputs.rows(clip_ids)]
    if frontend == "logmel":
        return n_inputs // STACK
    return np.maximum((n_inputs - RECEPTIVE_FIELD) // HOP + 1, 0)


def span_mask(n_frames: int, share: float, span: int, rng: np.random.Generator) -> np.ndarray:
    """Mask a share of the frames of a clip with spans that may overlap and extend beyond its ends.

    HuBERT draws a number of spans, which can cover any share of a short clip, from none to all. Here spans are placed
    in random order until exactly the given share is covered, and the last one is shortened (ours).

    Parameters
    ----------
    n_frames : int
        At least 2. At least one frame is masked and at least one is not, for any share.
    share : float
        Share of masked frames, rounded to an integer number of frames.
    span : int
        Length of a span in frames, at most the number of masked frames.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n_frames,), bool]

    Raises
    ------
    ValueError
        Where a clip has fewer than 2 frames.
    """
    if n_frames < 2:
        raise ValueError(
            f"mask: a clip of {n_frames} frame(s) cannot be partly masked; at least 2 are needed"
        )
    n_masked = min(max(round(share * n_frames), 1), n_frames - 1)
    span = min(span, n_masked)
    # The rank, in the random order, of the spans that start at frames -(span - 1), ..., n_frames - 1.
    turn = rng.permutation(n_frames + span - 1)
    covered = np.lib.stride_tricks.sliding_window_view(turn, span).min(axis=1)
    mask = np.zeros(n_frames, dtype=bool)
    mask[np.argsort(covered, kind="stable")[:n_masked]] = True
    # The shortened span keeps its first frames, so the mask is reversed half of the time.
    return mask[::-1].copy() if rng.random() < 0.5 else mask
