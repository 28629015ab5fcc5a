"""Input of the clustering for masked prediction: a vector for each 20 ms frame of a clip.

Frame ``s`` of an encoder covers the log-mel frames ``2 s`` and ``2 s + 1``, whose centre is at ``20 s + 5`` ms. All
vectors are computed clip by clip, so that the labels of a clip do not depend on other clips.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch.nn.utils import parametrize

from exvo.features.mfcc import STACK, mfcc
from exvo.hubert.encoder import HOP, Hubert
from exvo.training.frames import FrameStore

FRAME_MS = 20.0
# Centre of the first frame: two log-mel frames, centred at 0 and 10 ms.
_FIRST_MS = 5.0
# Permitted difference between the ends of a clip and of the teacher's frames, for a window and a dropped last frame.
_SLACK_MS = 100.0


class ClusterInputs(Protocol):
    """Vectors to cluster."""

    def frames(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each clip with its vectors [shape=(n_frames, n_dimensions), float32], one every 20 ms."""
        ...


class MfccInputs:
    """MFCCs with derivatives, for iteration 1.

    Parameters
    ----------
    logmel : FrameStore
        Log-mel frames, one per 10 ms.
    """

    def __init__(self, logmel: FrameStore) -> None:
        self.logmel = logmel

    def frames(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each clip with its 39 coefficients per frame."""
        for clip_id, row in _located(self.logmel, clip_ids):
            yield clip_id, mfcc(self.logmel.frames(row))


class HiddenInputs:
    """The output of a layer of an earlier pre-trained encoder, for iteration 2.

    Convolutions compute no frame for the end of a clip where it is shorter than their receptive field (25 ms), but the
    log-mel front end does. The previous frame is repeated there, so that the labels fit both kinds of encoder.

    Parameters
    ----------
    encoder : Hubert
        With a log-mel front end or with convolutions.
    inputs : FrameStore
        Log-mel frames; samples (`exvo.features.waveform`) for convolutions.
    layer : int
        Hidden state: 0 is the input of the first layer, ``i`` the output of layer ``i``.
    """

    def __init__(self, encoder: Hubert, inputs: FrameStore, layer: int) -> None:
        if not 0 <= layer <= encoder.config.n_layers:
            raise ValueError(f"layer: {layer} is not one of 0 to {encoder.config.n_layers} of the encoder")
        self.encoder = encoder
        self.inputs = inputs
        self.layer = layer

    @torch.inference_mode()
    def frames(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each clip with the output of the layer in evaluation mode, in as many frames as for log-mel."""
        device = next(self.encoder.parameters()).device
        training = self.encoder.training
        self.encoder.eval()
        try:
            # The weight norm of the positional convolution is computed once.
            with parametrize.cached():
                for clip_id, row in _located(self.inputs, clip_ids):
                    clip = torch.from_numpy(self.inputs.frames(row).astype(np.float32)).to(device)
                    frames = encoder_inputs(self.encoder, [clip])
                    lengths = torch.tensor([frames.shape[1]], device=device)
                    outputs = self.encoder.layer_outputs(frames, lengths, self.layer)
                    yield clip_id, self._extended(outputs[self.layer][0].float().cpu().numpy(), len(clip))
        finally:
            self.encoder.train(training)

    def _extended(self, frames: np.ndarray, n_inputs: int) -> np.ndarray:
        if self.encoder.config.frontend == "logmel":
            return frames
        n_frames = (1 + n_inputs // (HOP // STACK)) // STACK
        return np.concatenate([frames, np.repeat(frames[-1:], max(n_frames - len(frames), 0), axis=0)])


class TeacherInputs:
    """Sequence features at any frame rate, such as the hidden states of a teacher, sampled at the nearest frame.

    Parameters
    ----------
    teacher : FrameStore
    logmel : FrameStore
        Log-mel frames of the same clips, which define the number of frames of 20 ms.
    frame_ms : float
        Time between frames of the teacher, in milliseconds.
    first_ms : float
        Centre of the teacher's first frame, in milliseconds from the start of the clip.
    """

    def __init__(
        self, teacher: FrameStore, logmel: FrameStore, frame_ms: float, first_ms: float = 0.0
    ) -> None:
        if frame_ms <= 0:
            raise ValueError(f"frame_ms: {frame_ms} is not a positive time between frames")
        self.teacher = teacher
        self.logmel = logmel
        self.frame_ms = frame_ms
        self.first_ms = first_ms

    def frames(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each clip with the teacher's frames.

        Raises
        ------
        ValueError
            Where the duration of the teacher's frames differs from that of the clip by more than 100 ms and a frame.
            They are then from another clip or at another rate.
        """
        for clip_id, row in _located(self.teacher, clip_ids):
            n_logmel = int(self.logmel.n_frames[self.logmel.rows([clip_id])[0]])
            clip_ms, teacher_ms = n_logmel * FRAME_MS / STACK, self.teacher.n_frames[row] * self.frame_ms
            if abs(clip_ms - teacher_ms) > _SLACK_MS + self.frame_ms:
                raise ValueError(
                    f"clip {clip_id}: its duration is {clip_ms:.0f} ms, but the teacher's frames last "
                    f"{teacher_ms:.0f} ms; correct frame_ms ({self.frame_ms:g}), or exclude the clip"
                )
            times = _FIRST_MS + FRAME_MS * np.arange(n_logmel // STACK)
            # Halves are rounded up; np.rint would round to even.
            nearest = np.floor((times - self.first_ms) / self.frame_ms + 0.5).astype(int)
            nearest = np.clip(nearest, 0, self.teacher.n_frames[row] - 1)
            yield clip_id, self.teacher.frames(row)[nearest].astype(np.float32)


def encoder_inputs(encoder: Hubert, clips: list[torch.Tensor]) -> torch.Tensor:
    """Return the padded input of an encoder's transformer for some clips [shape=(batch, n_frames, d_frontend)].

    Parameters
    ----------
    encoder : Hubert
    clips : list of Tensor [shape=(n_logmel_frames, n_mels) or (n_samples, 1)]
        Log-mel frames, or samples as 16-bit integers, each clip without padding.
    """
    if encoder.config.frontend == "logmel":
        return encoder.feature_extractor(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True))[0]
    # Group norm computes its statistics over a clip, so each clip is processed separately.
    frames = [encoder.clip_frames(clip[:, 0] / 2**15) for clip in clips]
    return torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)


def _located(store: FrameStore, clip_ids: Iterable[str]) -> Iterator[tuple[str, int]]:
    clip_ids = list(clip_ids)
    yield from zip(clip_ids, store.rows(clip_ids).tolist(), strict=True)
