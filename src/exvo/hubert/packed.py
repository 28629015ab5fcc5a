"""The transformer of HuBERT on many clips at once without padding, for evaluation.

The frames of all clips are concatenated. Projections and feed-forward modules, which take most of the time, process
them as one matrix. Attention and the positional convolution process one clip at a time. The result of a clip is
therefore the same as for the clip alone, and no time is spent on padding.

Matrix products with few rows sum in another order than those with many rows. The last bits of a short clip would then
depend on the other clips of its shard. A pack with few frames is therefore extended with a clip of zeros.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models import Wav2Vec2Model
from torchaudio.models.wav2vec2.components import SelfAttention

# Observed: from 4 rows on, the product of a row does not depend on the other rows, to the bit.
_LEAST_FRAMES = 64


def packed_layer_outputs(model: Wav2Vec2Model, clips: Sequence[Tensor], deepest: int) -> list[Tensor]:
    """Run the transformer without dropout and layer drop.

    Parameters
    ----------
    model : Wav2Vec2Model
        From torchaudio's `wav2vec2_model` or `wavlm_model`.
    clips : sequence of Tensor [shape=(n_frames, d_frontend)]
        Front end's frames of each clip, at least one.
    deepest : int
        Last layer to run.

    Returns
    -------
    list of Tensor [shape=(sum of n_frames, d_model)]
        The input of the first layer, then the output of each layer, as in torchaudio's ``extract_features``.
    """
    n_frames = sum(map(len, clips))
    if n_frames < _LEAST_FRAMES:
        clips = [*clips, clips[0].new_zeros(_LEAST_FRAMES - n_frames, clips[0].shape[1])]
    lengths = [len(clip) for clip in clips]
    transformer = model.encoder.transformer
    x = model.encoder.feature_projection(torch.cat(list(clips)))
    x = x + torch.cat([transformer.pos_conv_embed(clip[None])[0] for clip in x.split(lengths)])
    if transformer.layer_norm_first:
        x = transformer.layer_norm(x)
    outputs: list[Tensor] = [x]
    biases: list[Tensor | None] = [None] * len(lengths)
    for layer in transformer.layers[:deepest]:
        if layer.layer_norm_first:
            x = x + _attention(layer.attention, layer.layer_norm(x), lengths, biases)
            x = x + layer.feed_forward(layer.final_layer_norm(x))
        else:
            x = layer.layer_norm(x + _attention(layer.attention, x, lengths, biases))
            x = layer.final_layer_norm(x + layer.feed_forward(x))
        outputs.append(x)
    return [output[:n_frames] for output in outputs]


def packs(clips: Iterable[Tensor], max_frames: int) -> Iterator[list[Tensor]]:
    """Yield groups of consecutive clips with at most ``max_frames`` frames in total; a longer clip is alone."""
    pack: list[Tensor] = []
    n_frames = 0
    for clip in clips:
        if pack and n_frames + len(clip) > max_frames:
            yield pack
            pack, n_frames = [], 0
        pack.append(clip)
        n_frames += len(clip)
    if pack:
        yield pack


def _attention(attention: nn.Module, x: Tensor, lengths: list[int], biases: list[Tensor | None]) -> Tensor:
    """Apply attention within each clip. WavLM's first layer stores its relative position bias for the other layers."""
    if not isinstance(attention, SelfAttention):
        results = [
            attention(clip[None], position_bias=bias)
            for clip, bias in zip(x.split(lengths), biases, strict=True)
        ]
        biases[:] = [bias for _, bias in results]
        return torch.cat([clip[0] for clip, _ in results])
    heads = [
        projection(x).unflatten(1, (attention.num_heads, -1)).transpose(0, 1).split(lengths, dim=1)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    # (1, n_heads, n_frames, d_head): the fast kernels need a batch axis.
    clips = [
        functional.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).flatten(1)
        for q, k, v in zip(*heads, strict=True)
    ]
    return attention.out_proj(torch.cat(clips))
