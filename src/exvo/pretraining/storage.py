"""The folder of a pre-trained encoder.

- ``model.safetensors`` and ``config.json``: the encoder, for `exvo.hubert.weights.load_hubert`.
- ``heads.safetensors``: weights for masked prediction only.
- ``pretraining.json``: data and settings of the pre-training.
- ``curves.csv``: losses and accuracies during the pre-training.
"""

import csv
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from exvo.hubert.checkpoint_files import CONFIG, file_sha256
from exvo.pretraining.checkpoint import CHECKPOINT
from exvo.pretraining.pretrain import Pretrained
from exvo.util.atomic import atomic_path, write_text

MODEL = "model.safetensors"
HEADS = "heads.safetensors"
CURVES = "curves.csv"
RECIPE = "pretraining.json"
_ENCODER = "encoder."


def save_pretrained(folder: str | Path, pretrained: Pretrained, recipe: Mapping[str, object]) -> None:
    """Write the files of a pre-trained encoder, and remove the checkpoint.

    Parameters
    ----------
    folder : str or Path
    pretrained : Pretrained
    recipe : mapping
        Targets, training settings and seed, for ``pretraining.json``.
    """
    folder = Path(folder)
    state = {name: value.contiguous() for name, value in pretrained.network.state_dict().items()}
    heads = {name: value for name, value in state.items() if not name.startswith(_ENCODER)}
    with atomic_path(folder / HEADS) as path:
        save_file(heads, path)
    with atomic_path(folder / MODEL) as path:
        save_file({n.removeprefix(_ENCODER): v for n, v in state.items() if n not in heads}, path)
    write_text(folder / CONFIG, json.dumps(asdict(pretrained.encoder.config), indent=2) + "\n")
    with atomic_path(folder / CURVES) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(pretrained.curves[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(pretrained.curves)
    record = {
        **recipe,
        "n_clips": pretrained.n_clips,
        "n_heldout": pretrained.n_heldout,
        "hours": pretrained.n_frames * 0.02 / 3600,
        "sha256": file_sha256(folder / MODEL),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("exvo", "numpy", "scikit-learn", "torch", "torchaudio")},
    }
    write_text(folder / RECIPE, json.dumps(record, indent=2) + "\n")
    (folder / CHECKPOINT).unlink(missing_ok=True)


def load_start(folder: str | Path) -> dict[str, Tensor]:
    """Return the initial state for another pre-training (`exvo.pretraining.pretrain.pretrain`)."""
    folder = Path(folder)
    encoder = {_ENCODER + name: value for name, value in load_file(folder / MODEL).items()}
    return encoder | load_file(folder / HEADS)


def export_float16(folder: str | Path, target: str | Path) -> str:
    """Write the encoder of a folder to another folder with weights in float16, for distribution.

    Parameters
    ----------
    folder, target : str or Path
        ``target`` receives ``model.safetensors`` and ``config.json``.

    Returns
    -------
    str
        SHA-256 of the file of the weights.

    Raises
    ------
    ValueError
        Where a weight exceeds the range of float16.
    """
    folder, target = Path(folder), Path(target)
    state = {name: value.to(torch.float16) for name, value in load_file(folder / MODEL).items()}
    for name, value in state.items():
        if not value.isfinite().all():
            raise ValueError(f"{folder / MODEL}: {name} exceeds the range of float16")
    with atomic_path(target / MODEL) as path:
        save_file(state, path)
    write_text(target / CONFIG, (folder / CONFIG).read_text(encoding="utf-8"))
    return file_sha256(target / MODEL)
