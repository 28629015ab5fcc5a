"""The positional convolution of HuBERT by FFT, with the same weights and results in a fraction of the time on a CPU.

The convolution spans 128 frames in groups of a few channels, for which CPU libraries are slow: with 4 layers of 256
channels it takes a third of a training step. In the frequency domain, a group is a small matrix product per
frequency, as in `exvo.networks.strf`.
"""

import scipy.fft
import torch
from torch import Tensor, nn
from torch.nn import functional

from exvo.hubert.encoder import Hubert


class FourierPositions(nn.Module):
    """Replacement for torchaudio's ``ConvolutionalPositionalEmbedding``.

    Parameters
    ----------
    conv : nn.Conv1d
        Grouped, with or without weight norm. It is the module ``conv`` of the replaced module.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Return the positional embedding of the frames [shape=(batch, n_frames, d_model)]."""
        signal = x.transpose(1, 2)
        y = grouped_correlation(signal, self.conv.weight, self.conv.groups, int(self.conv.padding[0]))
        if self.conv.bias is not None:
            y = y + self.conv.bias[:, None]
        return functional.gelu(y).transpose(1, 2)


def grouped_correlation(x: Tensor, weight: Tensor, groups: int, padding: int) -> Tensor:
    """Return ``conv1d(x, weight, padding=padding, groups=groups)``, cut to the length of ``x``, by FFT.

    Parameters
    ----------
    x : Tensor [shape=(batch, channels, n_frames)]
    weight : Tensor [shape=(channels, channels // groups, kernel)]
    groups : int
    padding : int
        Zeros before ``x``.

    Returns
    -------
    Tensor [shape=(batch, channels, n_frames)]
    """
    batch, channels, n_frames = x.shape
    width, kernel = channels // groups, weight.shape[-1]
    # Enough points that the circular correlation does not wrap around.
    n_points = scipy.fft.next_fast_len(max(n_frames + max(padding, kernel - 1 - padding), kernel), real=True)
    spectra, filters = torch.fft.rfft(x, n_points), torch.fft.rfft(weight, n_points).conj()
    n_bins = spectra.shape[-1]
    left = spectra.view(batch, groups, width, n_bins).permute(1, 3, 0, 2).reshape(-1, batch, width)
    right = filters.view(groups, width, width, n_bins).permute(0, 3, 2, 1).reshape(-1, width, width)
    product = torch.bmm(left, right).view(groups, n_bins, batch, width).permute(2, 0, 3, 1)
    y = torch.fft.irfft(product.reshape(batch, channels, n_bins), n_points)
    return y.roll(padding, dims=-1)[..., :n_frames]


def use_fourier_positions(encoder: Hubert) -> None:
    """Make an encoder compute its positional convolution by FFT. The names of its weights do not change."""
    transformer = encoder.encoder.transformer
    transformer.pos_conv_embed = FourierPositions(transformer.pos_conv_embed.conv)
