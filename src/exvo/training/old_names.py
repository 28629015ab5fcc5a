"""Conversion of trained folders of earlier versions to the present names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_KEYS = {
    "conformer": "blocks",
    "max_frames": "crop_frames",
    "tune": "loss_weight_grid",
    "max_deviation": "max_sd",
    "representation": "inputs",
}
_KINDS = {"joint": "feature_fusion", "organisers": "mlp"}
_PRECISIONS = {
    "32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16",
    "float32": "fp32", "bfloat16": "bf16", "float16": "fp16",
}  # fmt: skip
# Up to version 0.1, the organisers' network had its own format, with these keys of the network and these fixed settings
# of the training.
_MLP_NETWORK = ("tasks", "hidden", "head", "max_sd")
_MLP_TRAINING = {
    "optimizer": "adam",
    "schedule": "constant",
    "combination": "uncertainty",
    "emotion_loss": "mse_sum",
    "age_loss": "mse",
    "gradient_clip": 0.0,
}


def present_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a trained network, ``config.json``, with the keys and names of this version.

    A record of this version is returned unchanged.
    """
    now = dict(record)
    if now["model"] == "organisers":
        settings = _settings(now.pop("config"))
        now["kind"] = "mlp"
        now["network"] = {key: settings[key] for key in _MLP_NETWORK}
        training = {key: value for key, value in settings.items() if key not in _MLP_NETWORK}
        now["training"] = training | _MLP_TRAINING
        now["n_channels"] = now.pop("n_features")
    now["model"] = "network"
    now["kind"] = _KINDS.get(now["kind"], now["kind"])
    now["network"], now["training"] = _settings(now["network"]), _settings(now["training"])
    if now.get("system"):
        now["system"] = _system(now["system"])
    return now


def present_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a trained network with the names of this version."""
    if "standardisation.mean" not in state:
        return dict(state)
    now = {
        name.removeprefix("network."): value
        for name, value in state.items()
        if name.startswith("network.") and not name.startswith("network.log_variances.")
    }
    return now | {"mean": state["standardisation.mean"], "scale": state["standardisation.scale"]}


def _system(system: Mapping[str, Any]) -> dict[str, Any]:
    now = {_KEYS.get(key, key): value for key, value in system.items()}
    if "feature" in now:
        kind, hyphen, variant = now["feature"].partition("-")
        now["feature"] = ("opensmile" if kind == "compare" else kind) + hyphen + variant
    if "encoder" in now:
        now["encoder"] = _KINDS.get(now["encoder"], now["encoder"])
    if "inputs" in now:
        now["inputs"] = {"pooled": "embeddings"}.get(now["inputs"], now["inputs"])
    for section in ("training", "feature_config"):
        if section in now:
            now[section] = _settings(now[section])
    return now


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the present keys; ``max_frames`` of SpecAugment, one level below, keeps its name."""
    now = {_KEYS.get(key, key): value for key, value in settings.items()}
    if "precision" in now:
        now["precision"] = _PRECISIONS.get(now["precision"], now["precision"])
    return now
