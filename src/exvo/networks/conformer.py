"""Conformer encoder: convolutional subsampling and macaron blocks, in which padding and other clips have no effect.

Source: Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020.
Feed-forward modules, attention and their order are those of `torchaudio.models.conformer.ConformerLayer`. Its
convolution module is replaced, because in it the output for a clip depends on its batch:

- The depthwise convolution reads padded frames. These are not zero even for an input of zeros, because of the biases
  of the layer norm and the pointwise convolution before it.
- The statistics of batch norm include padded frames and, in training, all clips of the batch. With ``use_group_norm``
  they include the padded time axis, in evaluation too.

Here, padded frames are set to zero directly before the depthwise convolution. A layer norm over the channels of each
frame replaces batch norm, as in WeNet (``cnn_module_norm: layer_norm``).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models.conformer import ConformerLayer

from exvo.networks.pooling import valid_frames
from exvo.util.settings import Count, Probability

# Period of the slowest sinusoid divided by 2 pi, in frames (Vaswani et al. 2017, section 3.5).
_PERIOD = 10_000.0


@dataclass(frozen=True)
class ConformerConfig:
    """Size of a Conformer encoder. Defaults: the full size.

    Attributes
    ----------
    d_model : int
        Width of a frame; a multiple of ``n_heads``.
    n_heads : int
        Number of attention heads.
    ffn : int
        Width of the hidden layer of a feed-forward module.
    n_blocks : int
        Number of Conformer blocks.
    kernel : int
        Number of frames (after subsampling) that the depthwise convolution spans; odd.
    dropout : float
        Dropout probability, everywhere in the encoder.
    subsampling_channels : int
        Number of channels of the two convolutions that subsample by 4 (ours: 64 at full size).
    positions : {"none", "sinusoidal"}
        ``sinusoidal`` adds the encoding of Vaswani et al. (2017); with ``none``, only the convolutions know the
        position.
    """

    d_model: Count = 256
    n_heads: Count = 4
    ffn: Count = 2048
    n_blocks: Count = 6
    kernel: Count = 31
    dropout: Probability = 0.1
    subsampling_channels: Count = 64
    positions: Literal["none", "sinusoidal"] = "none"

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"blocks.kernel: {self.kernel} is even; set an odd number of frames")
        if self.d_model % self.n_heads:
            raise ValueError(
                f"blocks.d_model: {self.d_model} is not a multiple of n_heads, which is {self.n_heads}"
            )
        if self.positions not in ("none", "sinusoidal"):
            raise ValueError(f"blocks.positions: {self.positions!r} is neither none nor sinusoidal")


class ConformerEncoder(nn.Module):
    """Subsampling by 4 in time, and Conformer blocks.

    Parameters
    ----------
    config : ConformerConfig
    in_channels : int
        1 for log-mel, or the number of channels of the STRF front end.
    n_mels : int
    """

    def __init__(self, config: ConformerConfig, in_channels: int, n_mels: int) -> None:
        super().__init__()
        self.config = config
        self.subsampling = Subsampling(in_channels, n_mels, config.subsampling_channels, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.n_blocks))

    @property
    def d_out(self) -> int:
        """Width of an output frame."""
        return self.config.d_model

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Parameters
        ----------
        x : Tensor [shape=(batch, in_channels, n_frames, n_mels)]
            Values beyond the length of a clip are ignored.
        lengths : Tensor [shape=(batch,), int64]
            Number of frames of each clip, at least 1.

        Returns
        -------
        frames : Tensor [shape=(batch, ceil(n_frames / 4), d_model)]
            0 beyond the length of a clip.
        out_lengths : Tensor [shape=(batch,), int64]
            ``ceil(length / 4)``.
        """
        frames, lengths = self.subsampling(x, lengths)
        padding = ~valid_frames(lengths, frames.shape[1])
        if self.config.positions == "sinusoidal":
            frames = frames + sinusoids(frames.shape[1], frames.shape[2], frames.device).to(frames.dtype)
        frames = self.dropout(frames)
        for block in self.blocks:
            frames = block(frames, padding)
        return frames.masked_fill(padding.unsqueeze(2), 0.0), lengths


class Subsampling(nn.Module):
    """Two 3x3 convolutions with stride 2, each with a ReLU, and a linear layer over channels and mels.

    Every edge is padded by one zero, the mean of standardised log-mel in Train, so that no clip is too short. From n
    frames, the convolutions compute ceil(n / 2) and then ceil(n / 4).
    """

    def __init__(self, in_channels: int, n_mels: int, n_channels: int, d_out: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(n_in, n_channels, kernel_size=3, stride=2, padding=1)
            for n_in in (in_channels, n_channels)
        )
        self.linear = nn.Linear(n_channels * math.ceil(n_mels / 4), d_out)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames (batch, ceil(n_frames / 4), d_out) and their lengths (batch,)."""
        x = _zero_padding(x, lengths)
        for convolution in self.convolutions:
            # Channels last is a third faster on a CPU, and is the format for half precision on CUDA.
            x = functional.relu(convolution(x.contiguous(memory_format=torch.channels_last)))
            lengths = (lengths + 1) // 2
            x = _zero_padding(x, lengths)
        return self.linear(x.permute(0, 2, 3, 1).flatten(2)), lengths


class ConformerBlock(ConformerLayer):
    """The Conformer layer of torchaudio, with the batch as first axis and a convolution module that masks padding."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__(config.d_model, config.ffn, config.n_heads, config.kernel, config.dropout)
        self.conv_module = ConvolutionModule(config.d_model, config.kernel, config.dropout)

    def forward(self, frames: Tensor, padding: Tensor) -> Tensor:
        """Return frames (batch, n_frames, d_model), given where ``padding`` (batch, n_frames) is true."""
        frames = frames + 0.5 * self.ffn1(frames)
        query = self.self_attn_layer_norm(frames).transpose(0, 1)
        attended, _ = self.self_attn(query, query, query, key_padding_mask=padding, need_weights=False)
        frames = frames + self.self_attn_dropout(attended.transpose(0, 1))
        frames = frames + self.conv_module(frames, padding)
        frames = frames + 0.5 * self.ffn2(frames)
        return self.final_layer_norm(frames)


class ConvolutionModule(nn.Module):
    """Gulati et al. (2020), Figure 2, with padded frames set to zero and layer norm instead of batch norm."""

    def __init__(self, d_model: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(d_model)
        self.pointwise_in = nn.Linear(d_model, 2 * d_model)
        # In two dimensions, where a batch of frames is channels last. With the shape (16, 55, 96), this is two to
        # three times as fast on a CPU as the same convolution in one dimension.
        self.depthwise = nn.Conv2d(d_model, d_model, (kernel, 1), padding=(kernel // 2, 0), groups=d_model)
        self.frame_norm = nn.LayerNorm(d_model)
        self.pointwise_out = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, padding: Tensor) -> Tensor:
        """Return frames (batch, n_frames, d_model), given where ``padding`` (batch, n_frames) is true."""
        x = functional.glu(self.pointwise_in(self.layer_norm(frames)), dim=2)
        x = x.masked_fill(padding.unsqueeze(2), 0.0)
        x = self.depthwise(x.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2)
        return self.dropout(self.pointwise_out(functional.silu(self.frame_norm(x))))


def sinusoids(n_frames: int, d_model: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the positional encoding of Vaswani et al. (2017), section 3.5.

    Returns
    -------
    Tensor [shape=(n_frames, d_model), float32]
        Sines in even columns, cosines in odd ones.
    """
    rate = _PERIOD ** (-torch.arange(0, d_model, 2, device=device) / d_model)
    angle = torch.arange(n_frames, device=device).unsqueeze(1) * rate
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)[:, :d_model]


def _zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """Set the frames of x (batch, channels, n_frames, n_mels) beyond each clip's length to 0."""
    return x.masked_fill(~valid_frames(lengths, x.shape[2])[:, None, :, None], 0.0)
