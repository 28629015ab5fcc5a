"""Batches for masked prediction: stretches of clips of like length, their masks and their labels.

All that is random in an epoch follows from the seed, the epoch and the clip, so that a training that was interrupted
meets the same batches when it goes on.
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

# Masks of held-out clips are the same at every evaluation; epochs count from 0.
HELD_OUT = 2**32 - 1


@dataclass(frozen=True)
class MaskConfig:
    """Which frames have to be predicted.

    Attributes
    ----------
    share : float
        Of the frames of every clip that are masked.
    span : int
        Frames of 20 ms that are masked together.
    """

    share: float = 0.65
    span: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"mask.share: {self.share} is not between 0 and 1")
        if self.span < 1:
            raise ValueError(f"mask.span: {self.span} is less than one frame")


@dataclass(frozen=True)
class Targets:
    """A set of labels to predict.

    Attributes
    ----------
    labels : FrameStore
        One column, a row every 20 ms, as `exvo.pretraining.clusters.label_shard` writes them.
    k : int
        Clusters.
    """

    labels: FrameStore
    k: int


class MaskedBatch(NamedTuple):
    """Clips as masked prediction reads them.

    Attributes
    ----------
    clips : list of Tensor [shape=(n_logmel_frames, n_mels) or (n_samples, 1), float32]
    lengths : Tensor [shape=(batch,), int64]
        Frames of 20 ms of each clip.
    mask : Tensor [shape=(batch, n_frames), bool]
        False beyond the end of a clip.
    labels : list of Tensor [shape=(batch, n_frames), int64]
        Of each set of targets; -1 beyond the end of a clip.
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
    """The clips to pre-train on, with their labels.

    Parameters
    ----------
    inputs : FrameStore
        Log-mel frames every 10 ms, or samples (`exvo.features.waveform`).
    targets : sequence of FrameStore
        Labels of the same clips, every 20 ms.
    clip_ids : sequence of str
        All with at least two frames of 20 ms.
    frontend : {"logmel", "conv"}
        What ``inputs`` are.
    mask : MaskConfig
    seed : int
    max_batch_frames : int
        Frames of 20 ms in a batch, padding included; a clip that is longer makes a batch by itself.
    crop_frames : int or None
        Of a clip that is longer, a random stretch of so many frames is taken in each epoch.

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
                raise ValueError(f"clip {clip_id}: {n} frame(s) of 20 ms cannot be masked in part")
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
        """Return the batches of an epoch; the same ones whenever they are asked for."""
        rng = None if number == HELD_OUT else np.random.default_rng([self.seed, number])
        groups = like_length_batches(self.lengths, len(self), max_batch_frames=self.max_batch_frames, rng=rng)
        return Batches(groups, lambda group: self._gather(group.tolist(), number))

    def _gather(self, places: list[int], number: int) -> MaskedBatch:
        longest = int(self.lengths[places].max())
        clips = []
        mask = np.zeros((len(places), longest), dtype=bool)
        labels = [np.full((len(places), longest), -1, dtype=np.int64) for _ in self.targets]
        for i, place in enumerate(places):
            # A generator of its own: what happens to a clip does not depend on its batch.
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
    """Return how many frames of 20 ms an encoder makes of each clip [shape=(n,), int64].

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
    """Mask a share of the frames of a clip by spans that may overlap and run over its ends.

    HuBERT draws a number of spans, and on short clips the share that they cover scatters between none and all. Here
    spans are laid down in random order until exactly the share is covered (ours); the last one is cut.

    Parameters
    ----------
    n_frames : int
        At least 2: one frame stays seen and one is masked, whatever the share.
    share : float
        Of the frames, rounded to whole frames.
    span : int
        Length of a span in frames; a shorter one where the share is shorter.
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
        raise ValueError(f"mask: a clip of {n_frames} frame(s) cannot be masked in part")
    n_masked = min(max(round(share * n_frames), 1), n_frames - 1)
    span = min(span, n_masked)
    # The place, in the random order, of the span that starts (or would have started) span - 1 frames before 0, ...
    turn = rng.permutation(n_frames + span - 1)
    covered = np.lib.stride_tricks.sliding_window_view(turn, span).min(axis=1)
    mask = np.zeros(n_frames, dtype=bool)
    mask[np.argsort(covered, kind="stable")[:n_masked]] = True
    # The last span keeps its first frames; seen from either end alike.
    return mask[::-1].copy() if rng.random() < 0.5 else mask
