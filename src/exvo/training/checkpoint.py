"""Checkpoints of a training. A checkpoint is written completely or not at all, and holds tensors and plain types."""

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exvo.corpus.labels import Labels
from exvo.training.frames import ClipStore
from exvo.training.trained import NetworkConfig, TrainingConfig
from exvo.util.atomic import atomic_path
from exvo.util.code_digest import canonical_json, code_digest, digest

logger = logging.getLogger(__name__)

CHECKPOINT = Path("checkpoints", "last.ckpt")
# Folder of the short trainings that select the loss weights.
TRIALS = "tuning"


def save_checkpoint(path: Path, identity: str, state: Mapping[str, Any]) -> None:
    """Replace the last checkpoint; an interruption leaves one of the two complete."""
    with atomic_path(path) as temporary:
        torch.save({"identity": identity, "state": dict(state)}, temporary)


def load_checkpoint(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the identity and the state of a checkpoint, on the CPU. Reading it executes no code.

    Raises
    ------
    ValueError
        Where the file is damaged or is not a checkpoint.
    """
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
        return record["identity"], record["state"]
    except Exception as error:  # whatever a damaged or foreign file can raise
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error


def resumable_state(path: Path, identity: str) -> dict[str, Any] | None:
    """Return the state of a checkpoint, or None, with a warning, if it belongs to another training."""
    if not path.is_file():
        return None
    try:
        found, state = load_checkpoint(path)
    except ValueError as error:
        logger.warning("%s: training starts anew", error)
        return None
    if found != identity:
        logger.warning("%s belongs to other data, code or settings: training starts anew", path)
        return None
    return state


def training_identity(
    store: ClipStore,
    perturbed: Mapping[float, ClipStore],
    train: Labels,
    val: Labels,
    network_config: NetworkConfig,
    config: TrainingConfig,
    statistics: Mapping[str, Sequence[float]] | None,
    seed: int,
    device: torch.device,
) -> str:
    """Return a digest of everything that determines the weights, except the number of threads."""
    sha = hashlib.sha256()
    for labels in (train, val):
        sha.update("\n".join(labels.clip_id).encode("utf-8", "surrogateescape"))
        for values in (labels.age, labels.country, labels.emotion):
            sha.update(np.ascontiguousarray(values).tobytes())
    record = {
        "network": [network_config.kind, asdict(network_config)],
        "training": asdict(config),
        "statistics": statistics and [list(map(float, statistics[name])) for name in ("mean", "std")],
        "seed": seed,
        "device": device.type,
        "labels": sha.hexdigest(),
        "countries": [asdict(country) for country in train.countries],
        "frames": [
            [factor, other.fingerprint()] for factor, other in [(1.0, store), *sorted(perturbed.items())]
        ],
        "torch": torch.__version__,
        "code": code_digest("exvo.training.train", type(network_config).__module__),
    }
    return digest([canonical_json(record)])


def remove_checkpoints(folder: str | Path) -> None:
    """Remove the checkpoints of a training, once its result is stored."""
    for name in (CHECKPOINT.parent, TRIALS):
        shutil.rmtree(Path(folder) / name, ignore_errors=True)
