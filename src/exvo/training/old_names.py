"""Names of earlier versions in the ``config.json`` of a trained folder, so that such a folder can still be read."""

from collections.abc import Mapping

_KEYS = {
    "conformer": "blocks",
    "max_frames": "crop_frames",
    "tune": "loss_weight_grid",
    "max_deviation": "max_sd",
    "representation": "inputs",
}
_MODELS = {"organisers": "mlp"}
_KINDS = {"joint": "feature_fusion"}
_PRECISIONS = {
    "32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16",
    "float32": "fp32", "bfloat16": "bf16", "float16": "fp16",
}  # fmt: skip


def with_present_names(record: Mapping) -> dict:
    """Return the record of a trained system with the names that the code and the config have now.

    Parameters
    ----------
    record : mapping
        Of ``config.json``, of this or an earlier version. A record of this version comes back equal.
    """
    now = dict(record)
    now["model"] = _MODELS.get(record["model"], record["model"])
    if "kind" in now:
        now["kind"] = _KINDS.get(now["kind"], now["kind"])
    for section in ("config", "network", "training"):
        if section in now:
            now[section] = _settings(now[section])
    if now.get("system"):
        now["system"] = _system(now["system"])
    return now


def _system(system: Mapping) -> dict:
    now = {_KEYS.get(key, key): value for key, value in system.items()}
    if "feature" in now:
        kind, hyphen, variant = now["feature"].partition("-")
        now["feature"] = ("opensmile" if kind == "compare" else kind) + hyphen + variant
    now["encoder"] = _KINDS.get(now.get("encoder"), now.get("encoder"))
    now["inputs"] = {"pooled": "embeddings"}.get(now.get("inputs"), now.get("inputs"))
    now = {key: value for key, value in now.items() if value is not None}
    for section in ("training", "feature_config"):
        if section in now:
            now[section] = _settings(now[section])
    return now


def _settings(settings: Mapping) -> dict:
    """Return settings under the present keys; ``max_frames`` of SpecAugment, one level down, is called so still."""
    now = {_KEYS.get(key, key): value for key, value in settings.items()}
    if "precision" in now:
        now["precision"] = _PRECISIONS.get(now["precision"], now["precision"])
    return now
