"""Spectro-temporal receptive fields (STRFs): a front end of Gabor kernels with learned rates and scales.

Each kernel is a complex exponential with a Hann window in time and in channels. It is cross-correlated with the log-mel
spectrogram (Chi, Ru and Shamma, JASA 2005). Source of the learnable form: Vuong, Xia and Stern, "Learnable
spectro-temporal receptive fields for robust voice type discrimination", Interspeech 2020, and ICASSP 2021. A kernel has
two learned parameters, its rate and its scale.

The cross-correlation is computed with FFTs, forward and backward (correlation theorem), because a direct convolution
with 31 x 31 taps takes 961 products per output value. The kernels are products of one-dimensional complex parts, so two
passes with 31 taps are possible too. As matrix products, clip by clip, these are as fast forward, but take over twice
as long backward. From the spectra, the gradient of all kernels is one product and one sum, and so is that of the input.
The latter is omitted where the input needs no gradient. ``benchmarks/bench_strf.py`` compares these ways.
"""

import math
from dataclasses import dataclass
from typing import Any

import scipy.fft
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from exvo.util.settings import Count

# Few enough for the cache of a core, and enough that threads rarely wait for each other, which is slow on busy cores.
CHANNELS_PER_THREAD = 30
NORM_FLOOR = 1e-3  # as a share of the norm of the window


@dataclass(frozen=True)
class StrfConfig:
    """Number of kernels, their support, and the initial range of their rates and scales.

    Attributes
    ----------
    n_kernels : int
        Number of complex kernels; each gives a real and an imaginary channel.
    support_frames : int
        Length of a kernel in frames; odd, so that it has a centre (ours: 31).
    support_channels : int
        Height of a kernel in mel channels; odd, so that it has a centre (ours: 31).
    rate_range : tuple of float
        Bounds of the uniform distribution of the initial rates, in radians per frame. Rates start positive, because a
        kernel with both signs changed is the same up to the sign of its imaginary part. Training may leave the range.
    scale_range : tuple of float
        Bounds of the uniform distribution of the initial scales, in radians per mel channel.
    """

    n_kernels: Count = 30
    support_frames: Count = 31
    support_channels: Count = 31
    rate_range: tuple[float, float] = (0.0, math.pi / 2)
    scale_range: tuple[float, float] = (-math.pi / 2, math.pi / 2)

    def __post_init__(self) -> None:
        if self.n_kernels < 1:
            raise ValueError(f"strf: n_kernels must be 1 or more, got {self.n_kernels}")
        for name in ("support_frames", "support_channels"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise ValueError(f"strf: {name} must be odd and positive, got {getattr(self, name)}")
        for name in ("rate_range", "scale_range"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise ValueError(f"strf: {name} must be (low, high), finite and in order, got {(low, high)}")


class Strf(nn.Module):
    """Cross-correlate log-mel spectrograms with Gabor kernels of learned rate and scale.

    Parameters
    ----------
    config : StrfConfig
        Number, support and initial ranges.
    generator : torch.Generator, optional
        Source of the initial rates and scales.

    Attributes
    ----------
    rate : Parameter [shape=(n_kernels,)]
        omega, in radians per frame.
    scale : Parameter [shape=(n_kernels,)]
        Omega, in radians per mel channel. The ripple of a kernel falls in frequency over time if rate and scale have
        the same sign, and rises otherwise.

    Examples
    --------
    Four kernels on two clips of 30 frames; each kernel has a real and an imaginary channel.

    >>> import torch
    >>> config = StrfConfig(n_kernels=4, support_frames=7, support_channels=5)
    >>> layer = Strf(config, generator=torch.Generator().manual_seed(0))
    >>> tuple(layer(torch.zeros(2, 30, 80)).shape)
    (2, 8, 30, 80)
    >>> [round(rate, 1) for rate in layer.rates_hz(hop_ms=10).tolist()]
    [12.4, 19.2, 2.2, 3.3]
    >>> sum(parameter.numel() for parameter in layer.parameters())
    8
    """

    def __init__(self, config: StrfConfig | None = None, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config or StrfConfig()
        n_kernels = self.config.n_kernels
        self.rate = nn.Parameter(
            torch.empty(n_kernels).uniform_(*self.config.rate_range, generator=generator)
        )
        self.scale = nn.Parameter(
            torch.empty(n_kernels).uniform_(*self.config.scale_range, generator=generator)
        )

    def forward(self, logmel: Tensor) -> Tensor:
        """Return the response of every kernel at every frame and channel.

        Parameters
        ----------
        logmel : Tensor [shape=(batch, n_frames, n_mels)]
            Standardised log-mel spectrograms. Padded frames must be zero, like the values beyond the edges of a
            spectrogram; then the response for a clip does not depend on its batch.

        Returns
        -------
        Tensor [shape=(batch, 2 * n_kernels, n_frames, n_mels)]
            The real parts, then the imaginary parts; float32 also with autocast. Padded frames near the end of a
            clip have responses to it, which the caller has to mask.

        Notes
        -----
        There are no second derivatives.
        """
        # Half precision has too few bits for a spectrum, and most FFTs do not support it.
        dtype = torch.promote_types(self.rate.dtype, torch.float32)
        with torch.autocast(logmel.device.type, enabled=False):
            return _Correlate.apply(logmel.to(dtype), self.kernels().to(dtype))

    def kernels(self) -> Tensor:
        """Return the kernels, real parts first, each scaled to unit L2 norm.

        ``K(n, k) = w(n) w(k) exp(i (rate n + scale k))`` with n and k counted from the centre. The imaginary part is 0
        where rate and scale are 0 or both pi. A part with a norm below 1/1000 of that of the window is scaled as if it
        had this norm. It then approaches 0, and its gradient is finite.

        Returns
        -------
        Tensor [shape=(2 * n_kernels, support_frames, support_channels)]
            Differentiable with respect to rate and scale, through the norm too.
        """
        n, k = (
            torch.arange(size, dtype=self.rate.dtype, device=self.rate.device) - size // 2
            for size in (self.config.support_frames, self.config.support_channels)
        )
        window = torch.outer(_hann(n), _hann(k))
        phase = self.rate[:, None, None] * n[:, None] + self.scale[:, None, None] * k
        parts = window * torch.cat([phase.cos(), phase.sin()])
        energy = parts.square().sum(dim=(1, 2), keepdim=True)
        return parts / energy.clamp(min=NORM_FLOOR**2 * window.square().sum().item()).sqrt()

    def rates_hz(self, hop_ms: float = 10.0) -> Tensor:
        """Return the rates in Hz, given the hop between frames in ms.

        Returns
        -------
        Tensor [shape=(n_kernels,)]
        """
        return rate_in_hz(self.rate.detach(), hop_ms)

    def scales_cpc(self) -> Tensor:
        """Return the scales in cycles per mel channel.

        Returns
        -------
        Tensor [shape=(n_kernels,)]
        """
        return scale_in_cpc(self.scale.detach())

    def extra_repr(self) -> str:
        """Describe the layer where a network is printed."""
        config = self.config
        return f"n_kernels={config.n_kernels}, support={config.support_frames} x {config.support_channels}"


def rate_in_hz(rate: Tensor, hop_ms: float) -> Tensor:
    """Convert rates from radians per frame to Hz, given the hop between frames in ms."""
    return rate / (2 * math.pi) * (1000 / hop_ms)


def scale_in_cpc(scale: Tensor) -> Tensor:
    """Convert scales from radians to cycles per mel channel."""
    return scale / (2 * math.pi)


def _hann(offsets: Tensor) -> Tensor:
    """Return w = 0.5 - 0.5 cos(2 pi (n + 1) / (N + 1)), n from 0, in which no tap is zero."""
    size = len(offsets)
    return 0.5 - 0.5 * torch.cos(2 * math.pi * (offsets + size // 2 + 1) / (size + 1))


class _Correlate(torch.autograd.Function):
    """Zero-padded "same" cross-correlation of each clip with each kernel, by FFT.

    The spectrum of a cross-correlation is that of the clip times the conjugate of that of the kernel. Let G be the
    gradient of the output. The gradient of a kernel is the cross-correlation of the clip with G, and the gradient of
    the clip is the convolution of G with the kernels. Both use the same spectra.
    """

    @staticmethod
    def forward(ctx: Any, logmel: Tensor, kernels: Tensor) -> Tensor:  # noqa: ANN401 (autograd's)
        n_clips, *shape = logmel.shape
        support = kernels.shape[1:]
        # Circular correlation with half a kernel of zeros, so that the kernel wraps around to zeros only.
        size = [
            scipy.fft.next_fast_len(max(length + taps // 2, taps), real=True)
            for length, taps in zip(shape, support, strict=True)
        ]
        lead = (support[1] // 2, 0, support[0] // 2, 0)
        clip_spectra = torch.fft.rfft2(functional.pad(logmel, lead), size)
        kernel_spectra = torch.fft.rfft2(kernels, size).conj_physical()
        output = logmel.new_empty((n_clips, len(kernels), *shape))
        at_once = CHANNELS_PER_THREAD * torch.get_num_threads()
        for clip, spectrum in zip(output, clip_spectra, strict=True):
            for part, of_kernels in zip(clip.split(at_once), kernel_spectra.split(at_once), strict=True):
                part.copy_(torch.fft.irfft2(spectrum * of_kernels, size)[:, : shape[0], : shape[1]])
        ctx.size, ctx.support, ctx.shape = size, support, shape
        ctx.save_for_backward(clip_spectra, kernel_spectra)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
        clip_spectra, kernel_spectra = ctx.saved_tensors
        wants_clips, wants_kernels = ctx.needs_input_grad
        of_clips = torch.zeros_like(clip_spectra) if wants_clips else None
        of_kernels = torch.zeros_like(kernel_spectra) if wants_kernels else None
        at_once = CHANNELS_PER_THREAD * torch.get_num_threads()
        for index, clip in enumerate(gradient):
            conjugate = clip_spectra[index].conj_physical()
            for first in range(0, len(kernel_spectra), at_once):
                channels = slice(first, first + at_once)
                spectra = torch.fft.rfft2(clip[channels], ctx.size)
                if of_kernels is not None:
                    of_kernels[channels].addcmul_(spectra, conjugate)
                if of_clips is not None:
                    of_clips[index] += (spectra * kernel_spectra[channels].conj()).sum(dim=0)
        taps, (n_frames, n_mels) = ctx.support, ctx.shape
        if of_clips is not None:
            top, left = taps[0] // 2, taps[1] // 2
            padded = torch.fft.irfft2(of_clips, ctx.size)
            of_clips = padded[:, top : top + n_frames, left : left + n_mels]
        if of_kernels is not None:
            of_kernels = torch.fft.irfft2(of_kernels.conj_physical(), ctx.size)[:, : taps[0], : taps[1]]
        return of_clips, of_kernels
