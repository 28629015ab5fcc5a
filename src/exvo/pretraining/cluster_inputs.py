"""What is clustered for masked prediction: a vector for each 20 ms frame of a clip.

Frame ``s`` of an encoder covers the log-mel frames ``2 s`` and ``2 s + 1``, whose centre is at ``20 s + 5`` ms. Each
kind of vectors comes clip by clip, so that a clip's labels do not depend on its neighbours.
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
# A teacher's frames may end so much before or after the clip: a window, and a last frame that is cut.
_SLACK_MS = 100.0


class ClusterInputs(Protocol):
    """Vectors to cluster."""

    def frames(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each clip with its vectors [shape=(n_frames, n_dimensions), float32], one every 20 ms."""
        ...


class MfccInputs:
    """Cepstra with derivatives: iteration 1.

    Parameters
    ----------
    logmel : FrameStore
        Log-mel frames, one every 10 ms.
    """

    def __init__(self, logmel: FrameStore) -> None:
        self.logmel = logmel

    def frames(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each clip with its 39 coefficients per frame."""
        for clip_id, row in _located(self.logmel, clip_ids):
            yield clip_id, mfcc(self.logmel.frames(row))


class HiddenInputs:
    """The output of a layer of an encoder that was pre-trained before: iteration 2.

    Convolutions make no frame of a clip's last stretch where it is shorter than what they see (25 ms), and log-mel
    does. Its place is taken by the frame before, the nearest one, so that the labels do for encoders of both kinds.

    Parameters
    ----------
    encoder : Hubert
        With a log-mel front end, or with convolutions.
    inputs : FrameStore
        Log-mel frames, or for convolutions samples (`exvo.features.waveform`).
    layer : int
        Which hidden state: 0 is what enters the first layer, ``i`` the output of layer ``i``.
    """

    def __init__(self, encoder: Hubert, inputs: FrameStore, layer: int) -> None:
        if not 0 <= layer <= encoder.config.n_layers:
            raise ValueError(f"layer: {layer} is not one of 0 to {encoder.config.n_layers} of the encoder")
        self.encoder = encoder
        self.inputs = inputs
        self.layer = layer

    @torch.inference_mode()
    def frames(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each clip with the layer's output, in evaluation mode, as many frames as of log-mel."""
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
                    yield clip_id, self._whole(outputs[self.layer][0].float().cpu().numpy(), len(clip))
        finally:
            self.encoder.train(training)

    def _whole(self, frames: np.ndarray, n_inputs: int) -> np.ndarray:
        if self.encoder.config.frontend == "logmel":
            return frames
        n_frames = (1 + n_inputs // (HOP // STACK)) // STACK
        return np.concatenate([frames, np.repeat(frames[-1:], max(n_frames - len(frames), 0), axis=0)])


class TeacherInputs:
    """Sequence features at any frame rate, such as the hidden states of a teacher, by the nearest frame.

    Parameters
    ----------
    teacher : FrameStore
    logmel : FrameStore
        Log-mel frames of the same clips: they say how many frames of 20 ms a clip has.
    frame_ms : float
        From one frame of the teacher to the next.
    first_ms : float
        Where in the clip the centre of the teacher's first frame is.
    """

    def __init__(
        self, teacher: FrameStore, logmel: FrameStore, frame_ms: float, first_ms: float = 0.0
    ) -> None:
        if frame_ms <= 0:
            raise ValueError(f"frame_ms: {frame_ms} is not a time between frames")
        self.teacher = teacher
        self.logmel = logmel
        self.frame_ms = frame_ms
        self.first_ms = first_ms

    def frames(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each clip with the teacher's frames.

        Raises
        ------
        ValueError
            Where the teacher's frames of a clip are longer or shorter than the clip by more than 100 ms and a
            frame: they are of another clip, or at another rate.
        """
        for clip_id, row in _located(self.teacher, clip_ids):
            n_logmel = int(self.logmel.n_frames[self.logmel.rows([clip_id])[0]])
            clip_ms, teacher_ms = n_logmel * FRAME_MS / STACK, self.teacher.n_frames[row] * self.frame_ms
            if abs(clip_ms - teacher_ms) > _SLACK_MS + self.frame_ms:
                raise ValueError(
                    f"clip {clip_id}: it lasts {clip_ms:.0f} ms, the teacher's frames {teacher_ms:.0f} ms; see "
                    f"frame_ms ({self.frame_ms:g}), or leave the clip out of the clips to pre-train on"
                )
            times = _FIRST_MS + FRAME_MS * np.arange(n_logmel // STACK)
            # Halves go up: np.rint would take every other one down.
            nearest = np.floor((times - self.first_ms) / self.frame_ms + 0.5).astype(int)
            nearest = np.clip(nearest, 0, self.teacher.n_frames[row] - 1)
            yield clip_id, self.teacher.frames(row)[nearest].astype(np.float32)


def encoder_inputs(encoder: Hubert, clips: list[torch.Tensor]) -> torch.Tensor:
    """Return what the transformer of an encoder reads of some clips, padded [shape=(batch, n_frames, d_frontend)].

    Parameters
    ----------
    encoder : Hubert
    clips : list of Tensor [shape=(n_logmel_frames, n_mels) or (n_samples, 1)]
        Log-mel frames, or samples in 16-bit steps, each clip without padding.
    """
    if encoder.config.frontend == "logmel":
        return encoder.feature_extractor(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True))[0]
    # Group norm takes its moments over a clip, so each has to be alone.
    frames = [encoder.clip_frames(clip[:, 0] / 2**15) for clip in clips]
    return torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)


def _located(store: FrameStore, clip_ids: Iterable[str]) -> Iterator[tuple[str, int]]:
    clip_ids = list(clip_ids)
    yield from zip(clip_ids, store.rows(clip_ids).tolist(), strict=True)
