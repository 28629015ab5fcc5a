"""Names of features and their sections in the config."""

from collections.abc import Mapping
from typing import Any


def feature_kind(feature: str) -> str:
    """Return the kind of a feature: ``hubert`` for ``hubert`` and for its variant ``hubert-base``."""
    return feature.partition("-")[0]


def feature_key(feature: str) -> str:
    """Return the section of a feature in the config: ``features.hubert``, ``features.variants.hubert-base``."""
    return f"features.{feature}" if feature == feature_kind(feature) else f"features.variants.{feature}"


def fine_tuned(system: Mapping[str, Any]) -> bool:
    """Return whether a system (`System.spec`) fine-tunes a HuBERT encoder, and so reads the frames of its front end."""
    return system["encoder"] == "hubert" and system["training"].get("fine_tune") is not None
