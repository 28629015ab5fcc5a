"""Names of features and where the config has their settings."""

from collections.abc import Mapping
from typing import Any


def feature_kind(feature: str) -> str:
    """Return the kind of a feature: ``hubert`` of ``hubert`` itself and of ``hubert-base``, a variant of it."""
    return feature.partition("-")[0]


def feature_key(feature: str) -> str:
    """Return the place of a feature in the config: ``features.hubert``, ``features.variants.hubert-base``."""
    return f"features.{feature}" if feature == feature_kind(feature) else f"features.variants.{feature}"


def fine_tuned(system: Mapping[str, Any]) -> bool:
    """Whether a system, as `System.spec` gives it, trains a HuBERT further: it then reads the front end's frames."""
    return system["encoder"] == "hubert" and system["training"].get("fine_tune") is not None
