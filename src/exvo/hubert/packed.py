"""The transformer of a HuBERT on many clips at once without a frame of padding, for evaluation.

The frames of all clips stand one after the other: projections and feed-forward modules, which do most of the work,
read them as one matrix. Attention and the positional convolution see one clip at a time. A clip's result is therefore
what it is alone, and no work is spent on padding.

Products of few rows are added in another order than those of many, so that a short clip would differ in its last bits
with the clips beside it, and these with the shards. A pack of few frames is therefore filled up with a clip of zeros.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models import Wav2Vec2Model
from torchaudio.models.wav2vec2.components import SelfAttention

# Seen: from 4 rows on, a row's product is the same to the bit whatever is beside it.
_LEAST_FRAMES = 64


def packed_layer_outputs(model: Wav2Vec2Model, clips: Sequence[Tensor], deepest: int) -> list[Tensor]:
    """Run the transformer; dropout and layer drop are left out.

    Parameters
    ----------
    model : Wav2Vec2Model
        Of torchaudio's `wav2vec2_model` or `wavlm_model`.
    clips : sequence of Tensor [shape=(n_frames, d_frontend)]
        What the front end makes of each clip, at least one frame.
    deepest : int
        The last layer that is run.

    Returns
    -------
    list of Tensor [shape=(sum of n_frames, d_model)]
        What enters the first layer, then the output of each layer, as torchaudio's ``extract_features``.
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
    """Yield runs of neighbouring clips of at most ``max_frames`` frames together; a longer clip is alone."""
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
    """Attend within each clip. WavLM's first layer leaves its bias of relative positions for the layers after it."""
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
    # (1, n_heads, n_frames, d_head): with a batch axis, the fast kernels are taken.
    clips = [
        functional.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).flatten(1)
        for q, k, v in zip(*heads, strict=True)
    ]
    return attention.out_proj(torch.cat(clips))
