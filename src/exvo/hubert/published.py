"""Names and shapes of published weights: their encoder, and their names in torchaudio.

Two layouts are supported: torchaudio's state dicts, and those of Hugging Face's `transformers` (``HubertModel``,
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
# File and encoder of each torchaudio bundle.
BUNDLES = {
    "HUBERT_BASE": ("hubert_fairseq_base_ls960.pth", BASE),
    "HUBERT_LARGE": ("hubert_fairseq_large_ll60k.pth", LARGE),
    "WAV2VEC2_BASE": ("wav2vec2_fairseq_base_ls960.pth", BASE),
    "WAVLM_BASE": ("wavlm_base.pth", WAVLM),
    "WAVLM_BASE_PLUS": ("wavlm_base_plus.pth", WAVLM),
}

# Weights of a task head, and of pre-training, which are deliberately ignored.
_TORCHAUDIO_HEADS = re.compile(r"aux\.")
_MASK = "masked_spec_embed"
# Prefix of the encoder's names in a `transformers` model with heads. The heads have arbitrary names.
_ENCODER = re.compile(r"(hubert|wav2vec2|wavlm)\.")
# Options of `transformers` that this encoder does not support, with the only permitted value.
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
# Name in `transformers` to our name. A missing key in config.json has the value of HuBERT Base.
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
    """Return the encoder config from a ``config.json``, in our form or in that of `transformers`.

    For `transformers`, the type of the front end's norm decides whether waveforms are normalised: models with layer
    norm were trained on normalised waveforms. ``preprocessor_config.json`` is not read.

    Raises
    ------
    ValueError
        Where a key or its value is not supported.
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
            raise ValueError(f"config.json: {name} is {record[name]}, but only {value} is supported")
    channels = set(record.get("conv_dim", [BASE.conv_channels]))
    if len(channels) != 1:
        raise ValueError(
            "config.json: conv_dim: only convolutions with equal numbers of channels are supported"
        )
    norm = record.get("feat_extract_norm", "group")
    options = {ours: record.get(theirs, getattr(BASE, ours)) for theirs, ours in _CONFIG_NAMES.items()}
    options |= {"conv_channels": channels.pop(), "conv_norm": f"{norm}_norm", "normalise": norm == "layer"}
    return HubertConfig(attention="wavlm" if kind == "wavlm" else "plain", **options)


def config_from_shapes(state: Mapping[str, Tensor]) -> HubertConfig:
    """Identify one of the published encoders by the shapes of torchaudio's state dict.

    Raises
    ------
    ValueError
        Where the shapes match none of them.
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
            f"no {error} in it: neither a state dict of torchaudio nor one of transformers with a config.json "
            "(convert a checkpoint of fairseq with one of them)"
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
        f"its shapes match none of {', '.join(BUNDLES)}; add a config.json in the same folder, with the attributes of "
        "exvo.hubert.encoder.HubertConfig as keys"
    )


def torchaudio_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a torchaudio state dict without a task head, with the current names of weight norm."""
    return {_weight_norm(name): v for name, v in state.items() if not _TORCHAUDIO_HEADS.match(name)}


def torchaudio_state_of_transformers(state: Mapping[str, Tensor], config: HubertConfig) -> dict[str, Tensor]:
    """Return a `transformers` state dict with torchaudio's names, without heads.

    Only the encoder of a model with heads is read. An unknown name is not changed, so that
    `torch.nn.Module.load_state_dict` reports it.
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
    """Concatenate query, key and value of a layer, as in torchaudio's WavLM."""
    for kind in ("weight", "bias"):
        names = [f"{prefix}{part}_proj.{kind}" for part in "qkv"]
        if all(name in state for name in names):
            state[f"{prefix}attention.in_proj_{kind}"] = torch.cat([state.pop(name) for name in names])
        if f"{prefix}out_proj.{kind}" in state:
            state[f"{prefix}attention.out_proj.{kind}"] = state.pop(f"{prefix}out_proj.{kind}")


def _weight_norm(name: str) -> str:
    """Return the current name of the gain and direction of weight norm, which were g and v in older torch."""
    return re.sub(r"\.weight_([gv])$", lambda m: f".parametrizations.weight.original{'gv'.index(m[1])}", name)
