"""Log-mel front end of HuBERT, in place of the convolutions over the waveform.

Two log-mel frames of 10 ms form one frame of 20 ms, as in Lin et al., "MelHuBERT: A simplified HuBERT on Mel
spectrograms", ASRU 2023. It has no weights and takes a hundredth of the time of the convolutions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from exvo.audio.store import SAMPLE_RATE
from exvo.features.logmel import LogmelConfig, mel_filters
from exvo.networks.pooling import valid_frames

# Log-mel frames in one frame of the encoder.
STACK = 2
_LOGMEL = LogmelConfig()
_WINDOW, _HOP = (round(ms * SAMPLE_RATE / 1000) for ms in (_LOGMEL.window_ms, _LOGMEL.hop_ms))


class LogmelFrontend(nn.Module):
    """Front end from waveforms or log-mel frames to standardised and stacked frames.

    It replaces `torchaudio.models.wav2vec2.components.FeatureExtractor`. Log-mel frames are those of
    `exvo.features.logmel.logmel` with default window, hop and floor, computed on the device of the waveforms.

    Parameters
    ----------
    n_mels : int

    Attributes
    ----------
    mean, std : Tensor [shape=(n_mels,), float32]
        Mean and SD of each channel for the standardisation of frames, stored with the weights. 0 and 1 until
        `set_moments` is called.
    """

    mean: Tensor
    std: Tensor
    _filters: Tensor
    _window: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))
        filters = mel_filters(SAMPLE_RATE, _LOGMEL.n_fft, n_mels)
        # Computed from constants, so they are not stored with the weights.
        self.register_buffer("_filters", torch.from_numpy(filters.copy()), persistent=False)
        self.register_buffer(
            "_window", torch.hann_window(_WINDOW, dtype=torch.float64).float(), persistent=False
        )

    @property
    def d_out(self) -> int:
        """Width of an output frame."""
        return STACK * len(self.mean)

    def set_moments(self, mean: Sequence[float] | np.ndarray, std: Sequence[float] | np.ndarray) -> None:
        """Set mean and SD [shape=(n_mels,)] of each channel, for instance over the frames of Train.

        Raises
        ------
        ValueError
            If they are not n_mels finite numbers each, or an SD is not positive.
        """
        moments = [torch.as_tensor(np.asarray(values, dtype=np.float32)) for values in (mean, std)]
        if (
            any(m.shape != self.mean.shape or not m.isfinite().all() for m in moments)
            or (moments[1] <= 0).any()
        ):
            raise ValueError(
                f"log-mel mean and SD: not {len(self.mean)} finite numbers each, or an SD that is not positive"
            )
        self.mean.copy_(moments[0])
        self.std.copy_(moments[1])

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the input frames of the encoder.

        Parameters
        ----------
        x : Tensor [shape=(batch, n_samples) or (batch, n_logmel_frames, n_mels)]
            Waveforms, or log-mel frames as stored. Values beyond the length of a clip are ignored.
        lengths : Tensor [shape=(batch,), int64] or None
            Samples or log-mel frames of each clip; None if no clip is padded.

        Returns
        -------
        frames : Tensor [shape=(batch, n_frames, 2 * n_mels), float32]
            ``n_frames = n_logmel_frames // 2``. An odd last frame, of which half is silence, is dropped.
        lengths : Tensor [shape=(batch,), int64] or None
            Frames of each clip: 0 for a single log-mel frame, at least 1 from 160 samples on.
        """
        if x.ndim == 2:
            x, lengths = self._logmel(x, lengths)
        frames = (x.float() - self.mean) / self.std
        n_frames = frames.shape[1] // STACK
        frames = frames[:, : n_frames * STACK].reshape(len(frames), n_frames, self.d_out)
        return frames, None if lengths is None else lengths // STACK

    def _logmel(self, waveforms: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if lengths is not None:
            # The window of the last frame extends beyond the end of a clip.
            waveforms = waveforms.masked_fill(~valid_frames(lengths, waveforms.shape[1]), 0.0)
        n_frames = 1 + waveforms.shape[1] // _HOP
        padded = nn.functional.pad(waveforms.float(), (_WINDOW // 2, _WINDOW))
        windows = padded.unfold(1, _WINDOW, _HOP)[:, :n_frames]
        power = torch.fft.rfft(windows * self._window, n=_LOGMEL.n_fft).abs().square()
        mel = (power @ self._filters).clamp(min=_LOGMEL.log_floor).log()
        return mel, None if lengths is None else 1 + lengths // _HOP
