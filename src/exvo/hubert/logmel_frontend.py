"""Log-mel front end of a HuBERT: what stands where the convolutions over the waveform otherwise do.

Two log-mel frames of 10 ms make one frame of 20 ms, as in Lin et al., "MelHuBERT: A simplified HuBERT on Mel
spectrograms", ASRU 2023. It has no weights and costs a hundredth of the convolutions.
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
    """From waveforms, or from log-mel frames computed before, to standardised and stacked frames.

    It takes the place of `torchaudio.models.wav2vec2.components.FeatureExtractor`. Log-mel is that of
    `exvo.features.logmel.logmel` at its default window, hop and floor, computed on the device of the waveforms.

    Parameters
    ----------
    n_mels : int

    Attributes
    ----------
    mean, std : Tensor [shape=(n_mels,), float32]
        Of each channel, with which frames are standardised; buffers, kept with the weights. 0 and 1 until
        `set_moments`.
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
        # Made from constants, so they are not weights.
        self.register_buffer("_filters", torch.from_numpy(filters.copy()), persistent=False)
        self.register_buffer(
            "_window", torch.hann_window(_WINDOW, dtype=torch.float64).float(), persistent=False
        )

    @property
    def d_out(self) -> int:
        """Width of an output frame."""
        return STACK * len(self.mean)

    def set_moments(self, mean: Sequence[float] | np.ndarray, std: Sequence[float] | np.ndarray) -> None:
        """Set mean and deviation [shape=(n_mels,)] of each channel, for instance over the frames of Train.

        Raises
        ------
        ValueError
            If they are not n_mels finite numbers each, or a deviation is not positive.
        """
        moments = [torch.as_tensor(np.asarray(values, dtype=np.float32)) for values in (mean, std)]
        if (
            any(m.shape != self.mean.shape or not m.isfinite().all() for m in moments)
            or (moments[1] <= 0).any()
        ):
            raise ValueError(
                f"log-mel moments: not {len(self.mean)} finite numbers each, or a deviation of 0"
            )
        self.mean.copy_(moments[0])
        self.std.copy_(moments[1])

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the frames that the encoder reads.

        Parameters
        ----------
        x : Tensor [shape=(batch, n_samples) or (batch, n_logmel_frames, n_mels)]
            Waveforms, or log-mel frames as features store them. Beyond a clip's length anything may stand.
        lengths : Tensor [shape=(batch,), int64] or None
            Samples, or log-mel frames, of each clip; None where all are whole.

        Returns
        -------
        frames : Tensor [shape=(batch, n_frames, 2 * n_mels), float32]
            ``n_frames = n_logmel_frames // 2``: an odd last frame, of half silence, is left out.
        lengths : Tensor [shape=(batch,), int64] or None
            Frames of each clip: 0 for one of a single log-mel frame, at least 1 from 160 samples on.
        """
        if x.ndim == 2:
            x, lengths = self._logmel(x, lengths)
        frames = (x.float() - self.mean) / self.std
        n_frames = frames.shape[1] // STACK
        frames = frames[:, : n_frames * STACK].reshape(len(frames), n_frames, self.d_out)
        return frames, None if lengths is None else lengths // STACK

    def _logmel(self, waveforms: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if lengths is not None:
            # The window of a clip's last frame reaches over its end.
            waveforms = waveforms.masked_fill(~valid_frames(lengths, waveforms.shape[1]), 0.0)
        n_frames = 1 + waveforms.shape[1] // _HOP
        padded = nn.functional.pad(waveforms.float(), (_WINDOW // 2, _WINDOW))
        windows = padded.unfold(1, _WINDOW, _HOP)[:, :n_frames]
        power = torch.fft.rfft(windows * self._window, n=_LOGMEL.n_fft).abs().square()
        mel = (power @ self._filters).clamp(min=_LOGMEL.log_floor).log()
        return mel, None if lengths is None else 1 + lengths // _HOP
