"""Config, seeds and versions of the run, without folders or names of people."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import yaml

from exvo import __version__
from exvo.report.page.parts import Listing, Section, Table, bare_path
from exvo.report.tables.sheet import Grid

# Packages that affect results, figures or the order of jobs.
PACKAGES = (
    "snakemake",
    "torch",
    "torchaudio",
    "numpy",
    "scipy",
    "scikit-learn",
    "opensmile",
    "silero-vad",
    "onnxruntime",
    "soundfile",
    "imageio-ffmpeg",
    "pyarrow",
    "matplotlib",
    "jinja2",
)


def provenance_section(
    config: Mapping[str, Any], seeds: Sequence[int], systems: Mapping[str, Mapping[str, Any]]
) -> Section:
    """Show config, systems and versions.

    Parameters
    ----------
    config : mapping
        The complete config, defaults included.
    seeds : sequence of int
    systems : mapping of str to mapping
        The trained systems with their settings.
    """
    rows = [["exvo", __version__], ["Python", platform.python_version()]]
    rows += [[name, version(name)] for name in PACKAGES]
    lead = (
        f"Seeds of the systems: {', '.join(map(str, seeds))}; seed of resamples and folds: "
        f"{config['statistics']['seed']}. The same config, corpus and versions give the same numbers."
    )
    trained = [
        [name, *(", ".join(v) if isinstance(v := spec[key], list) else str(v) for key in _COLUMNS)]
        for name, spec in systems.items()
    ]
    return Section(
        "provenance",
        "Config and versions",
        lead,
        [
            Table("Systems", [Grid(["system", *_COLUMNS], trained)]),
            Table(
                "Versions",
                [Grid(["package", "version"], rows)],
                ["Those installed when the report was made."],
            ),
            Listing(
                "Complete config, defaults included; absolute paths without their folders",
                yaml.safe_dump(without_paths(config), sort_keys=False, allow_unicode=True, width=100),
            ),
        ],
    )


_COLUMNS = ("stage", "feature", "encoder", "tasks")


def without_paths(value: object) -> object:
    """Return a config in which absolute paths are shortened to their last name, keys included."""
    if isinstance(value, Mapping):
        return {bare_path(str(key)): without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    return bare_path(value) if isinstance(value, str) else value
