"""The systems of a config, each with all settings of its stage, feature and encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from exvo.audio.stages import SECTION, stage_path
from exvo.corpus.errors import CorpusError
from exvo.features.spec import feature_key, feature_kind, fine_tuned

FEATURE_KINDS = ("opensmile", "logmel", "hubert")


@dataclass(frozen=True)
class Encoder:
    """An encoder that systems can name.

    Attributes
    ----------
    module : str
        Has ``train_system`` and ``KINDS``.
    reads : tuple of str
        Kinds of features.
    memory_mb : int
        Memory of a training job.
    """

    module: str
    reads: tuple[str, ...]
    memory_mb: int

    def load(self) -> ModuleType:
        """Import the module: only jobs that train or embed pay for it."""
        return import_module(self.module)


ENCODERS = {
    # Train and Val in float32 (1 GB at 39,000 clips of 6,373 features), and torch.
    "mlp": Encoder("exvo.systems.mlp", FEATURE_KINDS, 2500),
    "conformer": Encoder("exvo.systems.conformer", ("logmel",), 4000),
    # Fine-tuning HuBERT Base: weights, gradients, two moments, the best epoch and a checkpoint.
    "hubert": Encoder("exvo.systems.hubert", ("hubert", "logmel"), 8000),
}
# What says where the weights of a feature come from, where it has any.
_WEIGHTS = ("source", "checkpoint", "bundle")


@dataclass(frozen=True)
class System:
    """A system of the config: its entry on top of the settings of its encoder.

    Attributes
    ----------
    name, stage, feature, encoder : str
    tasks : tuple of str
    training : mapping
        Settings of the encoder and its training.
    audio : mapping
        Settings of the stages up to that of the system, by section.
    feature_config : mapping
        Settings of the feature.
    """

    name: str
    stage: str
    feature: str
    encoder: str
    tasks: tuple[str, ...]
    training: Mapping[str, Any]
    audio: Mapping[str, Any]
    feature_config: Mapping[str, Any]

    def spec(self) -> dict[str, Any]:
        """Return the settings that determine the system's weights, together with the data, the seed and the code.

        A trained system keeps them, so that it can be used on recordings without its config.
        """
        return {
            "stage": self.stage,
            "feature": self.feature,
            "encoder": self.encoder,
            "tasks": list(self.tasks),
            "training": dict(self.training),
            "audio": dict(self.audio),
            "feature_config": dict(self.feature_config),
        }


def feature_settings(config: Mapping, feature: str) -> dict[str, Any]:
    """Return the settings of a feature: those of its kind, with the changes of a variant.

    A variant with other weights does not take ``checkpoint`` and ``sha256`` from its kind.

    Raises
    ------
    CorpusError
        If the feature is neither a kind nor one of ``features.variants``, or changes a key that its kind does not have.
    """
    kind, features = feature_kind(feature), config["features"]
    if feature == kind:
        return dict(features[kind])
    changes = features["variants"].get(feature)
    if changes is None:
        known = ", ".join([*FEATURE_KINDS, *(name for name, entry in features["variants"].items() if entry)])
        raise CorpusError(f"config: there is no feature {feature}; the features are: {known}")
    settings = merged(features[kind], changes, feature_key(feature))
    other = [key for key in _WEIGHTS if settings.get(key) != features[kind].get(key)]
    if "source" in other and "checkpoint" not in changes:
        settings["checkpoint"] = None
    if other and "sha256" not in changes:
        settings["sha256"] = None
    return settings


def merged(defaults: Mapping, changes: Mapping, where: str) -> dict:
    """Return settings with some of them changed, level by level.

    Raises
    ------
    CorpusError
        If a change names a key that the defaults do not have.
    """
    unknown = [key for key in changes if key not in defaults]
    if unknown:
        raise CorpusError(
            f"config: {where} has no key {', '.join(unknown)}; the keys are: {', '.join(defaults)}"
        )
    result = dict(defaults)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(defaults[key], Mapping)
        result[key] = merged(defaults[key], value, f"{where}.{key}") if nested else value
    return result


def configured_systems(config: Mapping) -> dict[str, System]:
    """Return the systems of a config by name, without those that are null.

    Raises
    ------
    CorpusError
        If an encoder cannot read the feature, or does not have a setting.
    """
    systems = {}
    for name, entry in config["systems"].items():
        if entry is None:  # a config on top of the default one removes a system by `name: null`
            continue
        encoder, feature = entry["encoder"], entry["feature"]
        reads = ENCODERS[encoder].reads
        if feature_kind(feature) not in reads:
            raise CorpusError(
                f"config: systems.{name}: the encoder {encoder} reads {' or '.join(reads)}, not {feature}"
            )
        system = System(
            name=name,
            stage=entry["stage"],
            feature=feature,
            encoder=encoder,
            tasks=tuple(entry["tasks"]),
            training=merged(config["encoders"][encoder], entry["training"], f"systems.{name}.training"),
            audio={SECTION[stage]: config["audio"][SECTION[stage]] for stage in stage_path(entry["stage"])},
            feature_config=feature_settings(config, feature),
        )
        if fine_tuned(system.spec()) and feature_kind(feature) != "hubert":
            raise CorpusError(
                f"config: systems.{name}: fine_tune trains a HuBERT further, and {feature} is none; "
                "set the feature to a HuBERT, or fine_tune to null"
            )
        systems[name] = system
    return systems
