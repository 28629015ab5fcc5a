"""HuBERT and similar encoders (wav2vec 2.0, WavLM), with hidden states that do not depend on the batch.

Source: Hsu et al., "HuBERT: Self-supervised speech representation learning by masked prediction of hidden units",
IEEE/ACM TASLP 29, 2021; Baevski et al., "wav2vec 2.0", NeurIPS 2020; Chen et al., "WavLM", IEEE JSTSP 16, 2022. The
modules and the names of their weights are torchaudio's.

In torchaudio's batches, padding affects a clip: the group norm of the front end includes it, and the attention of WavLM
has no mask. Here the front end processes each clip separately. The transformer works without padding for embeddings
(`exvo.hubert.packed`), and on masked batches for training.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torchaudio.models import Wav2Vec2Model, wav2vec2_model, wavlm_model

from exvo.hubert.logmel_frontend import LogmelFrontend
from exvo.hubert.packed import packed_layer_outputs, packs
from exvo.networks.pooling import valid_frames
from exvo.networks.torch_setup import seeded_weights
from exvo.util.settings import Bounds, Count, Probability

Precision = Literal["fp32", "bf16"]
# Samples of the shortest clip with a frame after the convolutions, and the hop between frames.
RECEPTIVE_FIELD = 400
HOP = 320
# (kernel, stride) of the convolutions over the waveform; the same in all published models.
_CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
# Relative positions of WavLM; the same in all published models.
WAVLM_BUCKETS, WAVLM_MAX_DISTANCE = 320, 800


@dataclass(frozen=True)
class HubertConfig:
    """Architecture of an encoder. Defaults: HuBERT Base.

    Attributes
    ----------
    frontend : {"conv", "logmel"}
        ``conv``: seven convolutions over the waveform; ``logmel``: two stacked log-mel frames (`LogmelFrontend`), for
        which ``features.logmel`` has to keep its default window, hop, DFT and floor. Both give a frame every 20 ms.
    conv_channels : int
        Number of channels of each convolution.
    conv_norm : {"group_norm", "layer_norm"}
        Group norm after the first convolution (Base), or layer norm after each (Large).
    conv_bias : bool
        Whether the convolutions have a bias.
    n_mels : int
        Number of channels of the log-mel; equal to ``features.logmel.n_mels``.
    attention : {"plain", "wavlm"}
        ``wavlm`` adds gated relative positions.
    d_model : int
        Width of a frame; a multiple of ``n_heads`` and ``positional_groups``.
    n_heads : int
        Number of attention heads.
    ffn : int
        Width of the hidden layer of a feed-forward module.
    n_layers : int
        Number of transformer layers.
    layer_norm_first : bool
        Layer norm before each module (Large) instead of after it (Base).
    positional_kernel : int
        Number of frames that the positional convolution spans.
    positional_groups : int
        Number of groups of the positional convolution.
    dropout : float
        Dropout probability in training, after the projection, in attention and after each module.
    layer_drop : float
        Probability that a layer is skipped in training.
    normalise : bool
        Whether each clip's waveform is normalised to mean 0 and variance 1 (Large).
    """

    frontend: Literal["conv", "logmel"] = "conv"
    conv_channels: Count = 512
    conv_norm: Literal["group_norm", "layer_norm"] = "group_norm"
    conv_bias: bool = False
    n_mels: Count = 80
    attention: Literal["plain", "wavlm"] = "plain"
    d_model: Count = 768
    n_heads: Count = 12
    ffn: Count = 3072
    n_layers: Count = 12
    layer_norm_first: bool = False
    positional_kernel: Annotated[int, Bounds(at_least=2)] = 128
    positional_groups: Count = 16
    dropout: Probability = 0.1
    layer_drop: Probability = 0.05
    normalise: bool = False

    def __post_init__(self) -> None:
        for name in ("frontend", "conv_norm", "attention"):
            choices = get_args(type(self).__annotations__[name])
            if getattr(self, name) not in choices:
                raise ValueError(f"hubert.{name}: {getattr(self, name)!r} is not one of {', '.join(choices)}")
        for name in ("n_heads", "positional_groups"):
            if self.d_model % getattr(self, name):
                raise ValueError(
                    f"hubert.d_model: {self.d_model} is not a multiple of {name}, which is {getattr(self, name)}"
                )

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise ValueError unless ``layers`` names one or more hidden states: 0 to ``n_layers``."""
        if not layers or not all(0 <= layer <= self.n_layers for layer in layers):
            raise ValueError(f"hubert.layers: {list(layers)} must be one or more of 0 to {self.n_layers}")


class Hubert(Wav2Vec2Model):
    """torchaudio's model with its config, and the output of each layer for a padded batch.

    Parameters
    ----------
    feature_extractor, encoder : nn.Module
        As in `torchaudio.models.Wav2Vec2Model`.
    config : HubertConfig
    """

    def __init__(self, feature_extractor: nn.Module, encoder: nn.Module, config: HubertConfig) -> None:
        super().__init__(feature_extractor, encoder)
        self.config = config

    def clip_frames(self, waveform: Tensor) -> Tensor:
        """Return the front end's frames of one clip.

        Parameters
        ----------
        waveform : Tensor [shape=(n_samples,)]
            At 16 kHz. A waveform shorter than the receptive field of 400 samples is padded with zeros.

        Returns
        -------
        Tensor [shape=(n_frames, d_frontend)]
        """
        if self.config.normalise:
            waveform = functional.layer_norm(waveform, waveform.shape)
        short = RECEPTIVE_FIELD - len(waveform)
        if short > 0:
            waveform = functional.pad(waveform, (0, short))
        return self.feature_extractor(waveform.unsqueeze(0), None)[0].squeeze(0)

    def layer_outputs(self, frames: Tensor, lengths: Tensor, deepest: int | None = None) -> list[Tensor]:
        """Run the transformer on a padded batch; a clip's output does not depend on its batch.

        In training, each layer except the first is skipped with probability ``layer_drop``; its output is then its
        input. The first layer computes WavLM's relative position bias for all layers.

        Parameters
        ----------
        frames : Tensor [shape=(batch, n_frames, d_frontend)]
            Frames of the front end, with finite padding beyond the length of a clip.
        lengths : Tensor [shape=(batch,), int64]
            Frames of each clip, at least 1.
        deepest : int or None
            Last layer to run; None for all.

        Returns
        -------
        list of Tensor [shape=(batch, n_frames, d_model)]
            The input of the first layer, then the output of each layer. With ``layer_norm_first``, the final layer
            norm of the model is not applied, as in torchaudio's ``extract_features``. Values beyond the length of a
            clip are undefined.
        """
        transformer = self.encoder.transformer
        x = self.encoder.feature_projection(frames)
        valid = valid_frames(lengths, x.shape[1])
        # The positional convolution reads beyond the end of a clip.
        x = transformer._preprocess(x.masked_fill(~valid.unsqueeze(2), 0.0))
        masks: dict[str, Tensor] = {}
        if self.config.attention == "wavlm":
            masks["key_padding_mask"] = torch.zeros_like(x[..., 0]).masked_fill(~valid, -torch.inf)
        else:
            masks["attention_mask"] = valid[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        outputs, bias = [x], None
        for layer in transformer.layers[:deepest]:
            first = len(outputs) == 1
            if first or not (self.training and torch.rand(()).item() < transformer.layer_drop):
                x, bias = layer(x, position_bias=bias, **masks)
            outputs.append(x)
        return outputs


def build_hubert(config: HubertConfig, seed: int = 0) -> Hubert:
    """Return an encoder with random weights.

    Its state dict has torchaudio's names. The log-mel front end has the buffers ``feature_extractor.mean`` and ``.std``
    instead of convolutions. It has no layer norm before the projection, which would remove the level of a frame.

    Parameters
    ----------
    config : HubertConfig
    seed : int
        Seed of the weights. The global random state is not changed.
    """
    options = {
        "extractor_mode": config.conv_norm,
        "extractor_conv_layer_config": [(config.conv_channels, *shape) for shape in _CONVOLUTIONS],
        "extractor_conv_bias": config.conv_bias,
        "encoder_embed_dim": config.d_model,
        "encoder_projection_dropout": config.dropout,
        "encoder_pos_conv_kernel": config.positional_kernel,
        "encoder_pos_conv_groups": config.positional_groups,
        "encoder_num_layers": config.n_layers,
        "encoder_num_heads": config.n_heads,
        "encoder_attention_dropout": config.dropout,
        "encoder_ff_interm_features": config.ffn,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": config.dropout,
        "encoder_layer_norm_first": config.layer_norm_first,
        "encoder_layer_drop": config.layer_drop,
        "aux_num_out": None,
    }
    with seeded_weights(seed):
        if config.attention == "wavlm":
            model = wavlm_model(
                **options, encoder_num_buckets=WAVLM_BUCKETS, encoder_max_distance=WAVLM_MAX_DISTANCE
            )
        else:
            model = wav2vec2_model(**options)
        extractor = model.feature_extractor
        if config.frontend == "logmel":
            extractor = LogmelFrontend(config.n_mels)
            model.encoder.feature_projection.layer_norm = nn.Identity()
            model.encoder.feature_projection.projection = nn.Linear(extractor.d_out, config.d_model)
    return Hubert(extractor, model.encoder, config)


def frontend_frames(
    model: Hubert, clips: Iterable[np.ndarray], *, precision: Precision = "fp32", dtype: str = "float32"
) -> Iterator[np.ndarray]:
    """Yield the front end's frames of clips.

    Parameters
    ----------
    model, clips, precision, dtype
        As in `iter_hidden_states`.

    Yields
    ------
    np.ndarray [shape=(n_frames, d_frontend), dtype]
    """
    for clip in clips:
        with _inference(model, precision):
            frames = _clip_frames(model, clip).float().cpu().numpy().astype(dtype)
        yield frames


def hidden_states(
    model: Hubert,
    clips: Iterable[np.ndarray],
    layers: Sequence[int] | None = None,
    *,
    max_frames: int = 2000,
    precision: Precision = "fp32",
    dtype: str = "float32",
) -> list[np.ndarray]:
    """Return the results of `iter_hidden_states` in a list."""
    states = iter_hidden_states(model, clips, layers, max_frames=max_frames, precision=precision, dtype=dtype)
    return list(states)


def iter_hidden_states(
    model: Hubert,
    clips: Iterable[np.ndarray],
    layers: Sequence[int] | None = None,
    *,
    max_frames: int = 2000,
    precision: Precision = "fp32",
    dtype: str = "float32",
) -> Iterator[np.ndarray]:
    """Yield hidden states of clips. They equal those of the clip alone, up to rounding.

    Clips are consumed in groups that go through the transformer together, so memory depends on ``max_frames`` or on the
    longest clip.

    Parameters
    ----------
    model : Hubert
        It computes on the device of its weights, in evaluation mode; its mode is restored afterwards.
    clips : iterable of np.ndarray [shape=(n_samples,)]
        Waveforms at 16 kHz. A waveform shorter than 400 samples is padded with zeros.
    layers : sequence of int or None
        Hidden states: 0 is the input of the first layer, ``i`` the output of layer ``i``; None for all.
    max_frames : int
        Frames that go through the transformer at once; a longer clip goes alone.
    precision : {"fp32", "bf16"}
        Precision of matrix products and convolutions. ``bf16`` has 8 bits of mantissa, with rounding of some percent.
    dtype : str
        Type of the result.

    Yields
    ------
    np.ndarray [shape=(n_chosen, n_frames, d_model), dtype]
        In the order of the clips.

    Raises
    ------
    ValueError
        If the model lacks a layer.
    """
    chosen = list(range(model.config.n_layers + 1)) if layers is None else list(layers)
    model.config.check_layers(chosen)

    def front() -> Iterator[Tensor]:
        for clip in clips:
            with _inference(model, precision):
                frames = _clip_frames(model, clip)
            yield frames

    for pack in packs(front(), max_frames):
        with _inference(model, precision):
            outputs = packed_layer_outputs(model, pack, max(chosen))
            selected = [outputs[layer].float().cpu().numpy().astype(dtype) for layer in chosen]
        del outputs
        ends = np.cumsum([len(frames) for frames in pack])
        for end, frames in zip(ends.tolist(), pack, strict=True):
            yield np.stack([layer[end - len(frames) : end] for layer in selected])


@contextmanager
def _inference(model: Hubert, precision: Precision) -> Iterator[None]:
    """Compute in evaluation mode and without gradients, then restore the mode of the model."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    try:
        # The weight norm of the positional convolution is computed once.
        with torch.inference_mode(), parametrize.cached(), mixed:
            yield
    finally:
        model.train(training)


def _clip_frames(model: Hubert, clip: np.ndarray) -> Tensor:
    device = next(model.parameters()).device
    return model.clip_frames(torch.as_tensor(np.asarray(clip, np.float32)).to(device))
