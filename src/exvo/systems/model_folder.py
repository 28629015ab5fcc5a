"""Read and check the folder of a trained system or feature fusion before prediction."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from exvo.corpus.labels import Country
from exvo.systems.local_files import LocalFiles, with_files
from exvo.training.old_names import present_record

# Files of the folder that prediction reads.
FILES = ("config.json", "model.safetensors", "history.csv")
# Values of ``model`` in config.json, in this and earlier versions.
MODELS = ("network", "sequence", "organisers")
_KEYS = ("model", "countries", "untrained", "priors")
_WANTED = (
    "name the folder of a trained system, results/models/<system>/<seed>, or of a feature fusion, "
    "results/fusion/<fusion>/<seed>"
)


@dataclass(frozen=True)
class ModelFolder:
    """The description of a trained model in its folder.

    Attributes
    ----------
    path : Path
    kind : str
        Kind of the network, as in `exvo.training.trained.NetworkConfig`.
    system : mapping
        Settings as from `exvo.workflow.systems.System.spec`, with the files of this machine. For a feature fusion, its
        ``systems``, ``inputs``, ``training`` and ``tasks``.
    tasks : tuple of str
        Tasks with labels in training.
    countries : tuple of Country
        In the order of the country probabilities.
    priors : dict of str to np.ndarray
        Prior of the training set by task of ``tasks``: ``emotion`` [shape=(10,)], ``age`` [shape=()],
        ``country`` [shape=(n_countries,)].
    parts : tuple of ModelFolder
        The systems that a feature fusion reads; empty for a system.
    """

    path: Path
    kind: str
    system: Mapping[str, Any]
    tasks: tuple[str, ...]
    countries: tuple[Country, ...]
    priors: dict[str, np.ndarray]
    parts: tuple["ModelFolder", ...] = ()


def read_model(folder: Path, local: LocalFiles) -> ModelFolder:
    """Read and check the folder of a model. The file of the weights is opened, but not read.

    Parameters
    ----------
    folder : Path
    local : LocalFiles
        The user's ffmpeg and checkpoints.

    Raises
    ------
    ValueError
        Where the folder is not that of a model, a file or a system of a feature fusion is missing, or a file cannot be
        read. Also where the user has to name an ffmpeg or a checkpoint.
    """
    record = _record(folder)
    system: Mapping[str, Any] = record["system"]
    parts: tuple[ModelFolder, ...] = ()
    if "systems" in system:
        parts = tuple(_part(folder, name, local) for name in system["systems"])
    else:
        system = with_files(system, folder, local)
    tasks = tuple(task for task in system["tasks"] if task not in record["untrained"])
    return ModelFolder(
        path=folder,
        kind=record["kind"],
        system=system,
        tasks=tasks,
        countries=tuple(Country(**country) for country in record["countries"]),
        priors={task: np.asarray(record["priors"][task], dtype=np.float64) for task in tasks},
        parts=parts,
    )


def _part(folder: Path, name: str, local: LocalFiles) -> ModelFolder:
    """Read a system of a feature fusion, with the same seed, from its place in the results of the workflow."""
    place = folder.resolve()
    part = Path(os.path.normpath(place / "../../../models" / name / place.name))
    if not (part / "config.json").is_file():
        raise ValueError(
            f"{folder}: a feature fusion, which is predicted with the systems it reads, but {part} is not there"
        )
    return read_model(part, local)


def _record(folder: Path) -> dict:
    """Return the content of ``config.json``, after a check that all files of the folder are there and complete."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; {_WANTED}")
    if not (folder / "config.json").is_file():
        seeds = sorted(path.parent.name for path in folder.glob("*/config.json"))
        advice = f"name one of the models in it: {', '.join(seeds)}" if seeds else _WANTED
        raise ValueError(f"{folder}: no config.json; {advice}")
    try:
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder}: config.json is no JSON ({error}); copy the folder again") from None
    if not isinstance(record, dict) or any(key not in record for key in _KEYS):
        raise ValueError(f"{folder}: config.json is not that of a trained system; {_WANTED}")
    if not record.get("system"):
        raise ValueError(
            f"{folder}: config.json does not say what the features came from; train the system again"
        )
    if record["model"] not in MODELS:
        raise ValueError(f"{folder}: a model of the kind {record['model']}, not {' or '.join(MODELS)}")
    record = present_record(record)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder}: no {' and no '.join(missing)}; copy the whole folder, or train the system again"
        )
    try:
        with safe_open(folder / "model.safetensors", framework="numpy"):
            pass
    except SafetensorError as error:
        raise ValueError(
            f"{folder}: model.safetensors cannot be read ({error}); copy the folder again, or train the system again"
        ) from None
    return record
