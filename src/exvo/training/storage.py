"""The folder of a trained network.

``model.safetensors`` has the weights and the moments of Train, and ``config.json`` the settings of the network and the
training. ``history.csv`` has one row per epoch. ``strf_history.parquet``, for a network with STRFs, has one row per
kernel and epoch.
"""

import csv
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.torch import save_file

from exvo.corpus.labels import Country
from exvo.training.old_names import present_record, present_state
from exvo.training.outputs import map_numbers
from exvo.training.portable_paths import without_folders
from exvo.training.trained import NetworkConfig, Trained, TrainingConfig
from exvo.util.atomic import atomic_path, write_text

STRF_HISTORY = "strf_history.parquet"


def save_trained(folder: str | Path, trained: Trained, system: Mapping[str, object] | None = None) -> None:
    """Write the files of a trained network into a folder, which is created if missing; ``config.json`` is last.

    Parameters
    ----------
    folder : str or Path
    trained : Trained
    system : mapping, optional
        Stage, feature and settings of both, which prediction needs. Folders and programs are omitted: see
        `exvo.training.portable_paths`.
    """
    folder = Path(folder)
    with atomic_path(folder / "model.safetensors") as path:
        save_file({name: value.contiguous() for name, value in trained.state.items()}, path)
    with atomic_path(folder / "history.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        # Without times, which are in the logs, so that a repeated training gives the same files.
        columns = [name for name in trained.history[0] if not name.endswith("seconds")]
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(trained.history)
    (folder / STRF_HISTORY).unlink(missing_ok=True)
    if trained.strf_history:
        _write_strf_history(folder / STRF_HISTORY, trained.strf_history)
    record = {
        "model": "network",
        "system": None if system is None else without_folders(system, folder),
        "kind": trained.network_config.kind,
        "network": asdict(trained.network_config),
        "training": asdict(trained.training_config),
        "seed": trained.seed,
        "best_epoch": trained.best_epoch,
        "n_channels": trained.n_channels,
        "countries": [asdict(country) for country in trained.countries],
        "n_labelled": trained.n_labelled,
        "untrained": list(trained.untrained),
        "features_digest": trained.features_digest,
        "priors": map_numbers(trained.priors, lambda v: None if v is None or math.isnan(v) else v),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("exvo", "numpy", "torch", "torchaudio")},
    }
    write_text(folder / "config.json", json.dumps(record, indent=2, allow_nan=False) + "\n")


def load_trained(folder: str | Path, kinds: Sequence[type[NetworkConfig]]) -> Trained:
    """Read a folder that `save_trained` of this or an earlier version wrote.

    Parameters
    ----------
    folder : str or Path
    kinds : sequence of types
        Configs of the networks that are accepted.

    Raises
    ------
    ValueError
        Where the folder has another network.
    """
    folder = Path(folder)
    record = present_record(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    types = {config.kind: config for config in kinds}
    if record["kind"] not in types:
        raise ValueError(f"{folder}: a network of the kind {record['kind']}, not {' or '.join(types)}")
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        state = present_state({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a mapping)
    with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
        history = [
            {name: int(v) if name == "epoch" else float(v) for name, v in row.items()}
            for row in csv.DictReader(file)
        ]
    strf = folder / STRF_HISTORY
    return Trained(
        network_config=types[record["kind"]].from_dict(record["network"]),
        training_config=TrainingConfig.from_dict(record["training"]),
        seed=record["seed"],
        countries=tuple(Country(**country) for country in record["countries"]),
        state=state,
        n_channels=record["n_channels"],
        history=history,
        best_epoch=record["best_epoch"],
        priors=map_numbers(record["priors"], lambda v: math.nan if v is None else v),
        n_labelled=record["n_labelled"],
        untrained=tuple(record["untrained"]),
        features_digest=record.get("features_digest"),
        strf_history=_read_strf_history(strf) if strf.is_file() else {},
    )


def _write_strf_history(path: Path, history: dict[str, np.ndarray]) -> None:
    """Write ``epoch`` (0 before training), ``kernel`` and one column per parameter."""
    epoch, kernel = np.indices(next(iter(history.values())).shape)
    columns = {"epoch": epoch, "kernel": kernel} | history
    with atomic_path(path) as temporary:
        pq.write_table(pa.table({name: pa.array(v.reshape(-1)) for name, v in columns.items()}), temporary)


def _read_strf_history(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    n_epochs = table["epoch"][-1].as_py() + 1
    names = [name for name in table.column_names if name not in ("epoch", "kernel")]
    return {name: table[name].to_numpy().reshape(n_epochs, -1) for name in names}
