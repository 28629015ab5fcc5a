"""The folder of a trained organisers' network.

``model.safetensors`` holds weights and standardisation, ``config.json`` what they need to be read (and where
they come from), ``history.csv`` one row per epoch.
"""

import csv
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from exvo.corpus.labels import Country
from exvo.training.old_names import with_present_names
from exvo.training.outputs import map_numbers
from exvo.training.portable_paths import without_folders
from exvo.training.standardise import Standardisation
from exvo.training.trained_mlp import MlpConfig, TrainedMlp
from exvo.util.atomic import atomic_path, write_text


def save_trained(folder: str | Path, trained: TrainedMlp, system: Mapping[str, object] | None = None) -> None:
    """Write ``model.safetensors``, ``history.csv`` and, last, ``config.json`` into a folder, made if missing.

    Parameters
    ----------
    folder : str or Path
    trained : TrainedMlp
    system : mapping, optional
        The stage, the feature and the settings of both that the features came from, kept for prediction, but for
        folders and programs: see `exvo.training.portable_paths`.
    """
    folder = Path(folder)
    moments = trained.standardisation
    tensors = {f"network.{name}": value for name, value in trained.state.items()}
    tensors |= {
        f"standardisation.{name}": torch.from_numpy(getattr(moments, name))
        for name in ("mean", "scale", "constant")
    }
    with atomic_path(folder / "model.safetensors") as path:
        save_file(tensors, path)
    with atomic_path(folder / "history.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(trained.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(trained.history)
    record = {
        "model": "mlp",
        "system": None if system is None else without_folders(system, folder),
        "config": asdict(trained.config),
        "seed": trained.seed,
        "best_epoch": trained.best_epoch,
        "n_features": len(moments.mean),
        "features_digest": trained.features_digest,
        "countries": [asdict(country) for country in trained.countries],
        "n_labelled": trained.n_labelled,
        "untrained": list(trained.untrained),
        "priors": map_numbers(trained.priors, lambda v: None if math.isnan(v) else v),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("exvo", "numpy", "torch")},
    }
    write_text(folder / "config.json", json.dumps(record, indent=2, allow_nan=False) + "\n")


def load_trained(folder: str | Path) -> TrainedMlp:
    """Read what `save_trained` wrote.

    Parameters
    ----------
    folder : str or Path
    """
    folder = Path(folder)
    record = with_present_names(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    config = {name: tuple(v) if isinstance(v, list) else v for name, v in record["config"].items()}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
        history = [
            {name: int(v) if name == "epoch" else float(v) for name, v in row.items()}
            for row in csv.DictReader(file)
        ]
    moments = {name: tensors.pop(f"standardisation.{name}").numpy() for name in ("mean", "scale", "constant")}
    return TrainedMlp(
        config=MlpConfig(**config),
        seed=record["seed"],
        countries=tuple(Country(**country) for country in record["countries"]),
        state={name.removeprefix("network."): value for name, value in tensors.items()},
        standardisation=Standardisation(**moments, max_sd=config["max_sd"]),
        history=history,
        best_epoch=record["best_epoch"],
        priors=map_numbers(record["priors"], lambda v: math.nan if v is None else v),
        n_labelled=record["n_labelled"],
        untrained=tuple(record["untrained"]),
        features_digest=record["features_digest"],
    )
