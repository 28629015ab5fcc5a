"""Names and shapes of published weights: which encoder they are of, and what torchaudio calls them.

Two layouts are known: torchaudio's state dicts, and those of Hugging Face's `transformers` (``HubertModel``,
``Wav2Vec2Model``, ``WavLMModel``, and models with a head on top of these).
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from exvo.hubert.encoder import WAVLM_BUCKETS, WAVLM_MAX_DISTANCE, HubertConfig

BASE = HubertConfig()
LARGE = HubertConfig(
    conv_norm="layer_norm",
    d_model=1024,
    n_heads=16,
    ffn=4096,
    n_layers=24,
    layer_norm_first=True,
    dropout=0.0,
    layer_drop=0.0,
    normalise=True,
)
WAVLM = HubertConfig(attention="wavlm")
# torchaudio's bundle: its file, and its encoder.
BUNDLES = {
    "HUBERT_BASE": ("hubert_fairseq_base_ls960.pth", BASE),
    "HUBERT_LARGE": ("hubert_fairseq_large_ll60k.pth", LARGE),
    "WAV2VEC2_BASE": ("wav2vec2_fairseq_base_ls960.pth", BASE),
    "WAVLM_BASE": ("wavlm_base.pth", WAVLM),
    "WAVLM_BASE_PLUS": ("wavlm_base_plus.pth", WAVLM),
}

# Of a task on top of the encoder, or of pre-training: knowingly left out.
_TORCHAUDIO_HEADS = re.compile(r"aux\.")
_MASK = "masked_spec_embed"
# How `transformers` begins the encoder's names in a model with heads, whose own names whoever made them chose.
_ENCODER = re.compile(r"(hubert|wav2vec2|wavlm)\.")
# What `transformers` can vary and this encoder cannot; the values it can have.
_FIXED = {
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "add_adapter": False,
    "adapter_attn_dim": None,
    "layer_norm_eps": 1e-5,
    "num_buckets": WAVLM_BUCKETS,
    "max_bucket_distance": WAVLM_MAX_DISTANCE,
}
# Our name, by that of `transformers`; left out in a config.json, a key has the value of HuBERT Base.
_CONFIG_NAMES = {
    "conv_bias": "conv_bias",
    "hidden_size": "d_model",
    "num_attention_heads": "n_heads",
    "intermediate_size": "ffn",
    "num_hidden_layers": "n_layers",
    "do_stable_layer_norm": "layer_norm_first",
    "num_conv_pos_embeddings": "positional_kernel",
    "num_conv_pos_embedding_groups": "positional_groups",
    "hidden_dropout": "dropout",
    "layerdrop": "layer_drop",
}


def config_from_json(record: Mapping[str, Any]) -> HubertConfig:
    """Return the encoder that a ``config.json`` describes: one of ours, or of `transformers`.

    Whether waveforms are normalised follows, for the latter, from how the models were trained: those with layer
    norm in the front end were given normalised ones. What ``preprocessor_config.json`` says is not read.

    Raises
    ------
    ValueError
        Where a key or its value is not known.
    """
    if "model_type" not in record:
        known = {field.name for field in fields(HubertConfig)}
        if unknown := sorted(set(record) - known):
            raise ValueError(f"config.json has the unknown keys {', '.join(unknown)}; known: {sorted(known)}")
        return HubertConfig(**record)
    kind = record["model_type"]
    if kind not in ("hubert", "wav2vec2", "wavlm"):
        raise ValueError(f"config.json: model_type {kind!r} is not hubert, wav2vec2 or wavlm")
    for name, value in _FIXED.items():
        if record.get(name, value) != value:
            raise ValueError(f"config.json: {name} is {record[name]}, but only {value} can be read")
    channels = set(record.get("conv_dim", [BASE.conv_channels]))
    if len(channels) != 1:
        raise ValueError("config.json: conv_dim: the convolutions have different numbers of channels")
    norm = record.get("feat_extract_norm", "group")
    options = {ours: record.get(theirs, getattr(BASE, ours)) for theirs, ours in _CONFIG_NAMES.items()}
    options |= {"conv_channels": channels.pop(), "conv_norm": f"{norm}_norm", "normalise": norm == "layer"}
    return HubertConfig(attention="wavlm" if kind == "wavlm" else "plain", **options)


def config_from_shapes(state: Mapping[str, Tensor]) -> HubertConfig:
    """Recognise one of the published encoders by the shapes of torchaudio's state dict.

    Raises
    ------
    ValueError
        Where it is none of them.
    """
    layer = "encoder.transformer.layers.0."
    try:
        found = (
            len(state["feature_extractor.conv_layers.0.conv.weight"]),
            "feature_extractor.conv_layers.1.layer_norm.weight" in state,
            "feature_extractor.conv_layers.0.conv.bias" in state,
            f"{layer}attention.rel_attn_embed.weight" in state,
            *state[f"{layer}feed_forward.intermediate_dense.weight"].shape,
            len({name.split(".")[3] for name in state if name.startswith("encoder.transformer.layers.")}),
        )
    except KeyError as error:
        raise ValueError(
            f"no {error} in it: neither a state dict of torchaudio nor, beside a config.json, of transformers "
            "(a checkpoint of fairseq has to be converted by one of them)"
        ) from None
    for _, config in BUNDLES.values():
        if found == (
            config.conv_channels,
            config.conv_norm == "layer_norm",
            config.conv_bias,
            config.attention == "wavlm",
            config.ffn,
            config.d_model,
            config.n_layers,
        ):
            return config
    raise ValueError(
        f"its shapes are of none of {', '.join(BUNDLES)}; describe it in a config.json beside it, with the "
        "attributes of exvo.hubert.encoder.HubertConfig as keys"
    )


def torchaudio_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of torchaudio without a task's head, weight norm by its present name."""
    return {_weight_norm(name): v for name, v in state.items() if not _TORCHAUDIO_HEADS.match(name)}


def torchaudio_state_of_transformers(state: Mapping[str, Tensor], config: HubertConfig) -> dict[str, Tensor]:
    """Return a state dict of `transformers` by the names of torchaudio, without heads.

    In a model with heads only the encoder is read. A name in it that is not known stays as it is, for
    `torch.nn.Module.load_state_dict` to report.
    """
    if any(map(_ENCODER.match, state)):
        state = {_ENCODER.sub("", name, count=1): v for name, v in state.items() if _ENCODER.match(name)}
    result = {}
    for name, value in state.items():
        if name == _MASK:
            continue
        name = re.sub(r"^feature_projection\.", "encoder.feature_projection.", name)
        name = re.sub(r"^encoder\.(pos_conv_embed|layer_norm|layers)\.", r"encoder.transformer.\1.", name)
        result[_weight_norm(name)] = value
    if config.attention == "wavlm":
        for i in range(config.n_layers):
            _merge_projections(result, f"encoder.transformer.layers.{i}.attention.")
    return result


def _merge_projections(state: dict[str, Tensor], prefix: str) -> None:
    """Put query, key and value of a layer together, as torchaudio's WavLM has them."""
    for kind in ("weight", "bias"):
        names = [f"{prefix}{part}_proj.{kind}" for part in "qkv"]
        if all(name in state for name in names):
            state[f"{prefix}attention.in_proj_{kind}"] = torch.cat([state.pop(name) for name in names])
        if f"{prefix}out_proj.{kind}" in state:
            state[f"{prefix}attention.out_proj.{kind}"] = state.pop(f"{prefix}out_proj.{kind}")


def _weight_norm(name: str) -> str:
    """Return the present name of a weight norm's gain and direction, which torch once called g and v."""
    return re.sub(r"\.weight_([gv])$", lambda m: f".parametrizations.weight.original{'gv'.index(m[1])}", name)
