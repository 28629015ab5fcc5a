"""Keys and values of earlier versions of the config, which are refused with their new names."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from exvo.audio.stages import STAGES
from exvo.corpus.errors import CorpusError

# By place, with * for any name: the new name of the last key.
KEYS = {
    "joint": "feature_fusion",
    "features.compare": "opensmile",
    "features.variants.compare-*": "opensmile-*",
    "encoders.conformer.conformer": "blocks",
    "systems.*.training.conformer": "blocks",
    "fusions.*.representation": "inputs",
    "pretrain.models.*.training.max_frames": "crop_frames",
    "tables.table2.joint": "multitask",
}
# Entries of the former default config: a config that changes or removes them would now do something else, or nothing.
KEYS |= {"fusions.joint": "feature-fusion"}
KEYS |= {f"systems.organisers-{stage}": f"mlp-{stage}" for stage in STAGES}
# Sections of training settings, and their keys with new names; `spec_augment.max_frames` is still called so.
_TRAINING = ("encoders.*", "joint", "feature_fusion", "systems.*.training", "fusions.*.training")
_TRAINING_KEYS = {"max_frames": "crop_frames", "tune": "loss_weight_grid", "max_deviation": "max_sd"}
KEYS |= {f"{place}.{old}": new for place in _TRAINING for old, new in _TRAINING_KEYS.items()}

_PRECISIONS = {
    "32-true": "fp32",
    "float32": "fp32",
    "bf16-mixed": "bf16",
    "bfloat16": "bf16",
    "16-mixed": "fp16",
    "float16": "fp16",
}
# By place: the new value of each old one.
VALUES = {
    "systems.*.feature": {"compare": "opensmile", "compare-*": "opensmile-*"},
    "fusions.*.rule": {"joint": "feature_fusion"},
    "fusions.*.representation": {"pooled": "embeddings"},
    "fusions.*.inputs": {"pooled": "embeddings"},
    "features.hubert.precision": _PRECISIONS,
    "features.variants.*.precision": _PRECISIONS,
    "pretrain.models.*.training.precision": _PRECISIONS,
    **{f"{place}.precision": _PRECISIONS for place in _TRAINING},
}


def refuse_old_names(config: Mapping) -> None:
    """Check that a config has no key and no value of an earlier version.

    Parameters
    ----------
    config : mapping
        As Snakemake reads it: the default config with the user's files and ``--config`` on top.

    Raises
    ------
    CorpusError
        With every old name that was found, and the new one.
    """
    found = [change for keys, value in _items(config, ()) for change in _changes(keys, value)]
    if found:
        raise CorpusError(f"config: these names have changed; use the new ones: {'; '.join(found)}")


def _items(section: Mapping, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every key of a section and of the sections below it, with its place and value."""
    for key, value in section.items():
        yield (*above, str(key)), value
        if isinstance(value, Mapping):
            yield from _items(value, (*above, str(key)))


def _changes(keys: tuple[str, ...], value: object) -> Iterator[str]:
    """Yield ``old -> new`` for the key at a place, and for its value."""
    place = ".".join(keys)
    for pattern, new in KEYS.items():
        if _matches(keys, pattern):
            old = pattern.rpartition(".")[2]
            yield f"{place} -> {'.'.join((*keys[:-1], _renamed(keys[-1], old, new)))}"
    for pattern, values in VALUES.items():
        if isinstance(value, str) and _matches(keys, pattern):
            for old, new in values.items():
                if fnmatchcase(value, old):
                    yield f"{place}: {value} -> {_renamed(value, old, new)}"


def _matches(keys: tuple[str, ...], pattern: str) -> bool:
    # The number of keys first, which is cheap: every job on a cluster reads the config.
    return len(keys) == pattern.count(".") + 1 and all(map(fnmatchcase, keys, pattern.split(".")))


def _renamed(name: str, old: str, new: str) -> str:
    """Return the new name; a * in both stands for the same end."""
    return new.removesuffix("*") + name.removeprefix(old.removesuffix("*")) if old.endswith("*") else new
