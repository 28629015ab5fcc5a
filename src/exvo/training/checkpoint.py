"""Checkpoints of a training: whole or absent, of tensors and plain types, and of one training only."""

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from exvo.corpus.labels import Labels
from exvo.training.frames import FrameStore
from exvo.training.loop import EpochEnd, Progress
from exvo.training.trained import NetworkConfig, TrainingConfig
from exvo.util.atomic import atomic_path
from exvo.util.code_digest import canonical_json, code_digest, digest

logger = logging.getLogger(__name__)

CHECKPOINT = Path("checkpoints", "last.ckpt")
# Of the short trainings in which loss weights are tried.
TRIALS = "tuning"


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all, and whose reading executes nothing."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401 (lightning's)
    ) -> None:
        """Write a checkpoint in the place of the last one."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ANN401 (lightning's)
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read tensors, on the CPU, and plain types, whatever is asked for."""
        return torch.load(path, map_location="cpu", weights_only=True)


def training_identity(
    store: FrameStore,
    perturbed: Mapping[float, FrameStore],
    train: Labels,
    val: Labels,
    network_config: NetworkConfig,
    config: TrainingConfig,
    statistics: Mapping[str, Sequence[float]] | None,
    seed: int,
    device: torch.device,
) -> str:
    """Return a digest of all that the weights follow from, but for the number of threads."""
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
        "versions": [torch.__version__, lightning.__version__],
        "code": code_digest("exvo.training.train", type(network_config).__module__),
    }
    return digest([canonical_json(record)])


def load_progress(checkpoint: Path, progress: Progress) -> int:
    """Take up the progress of a checkpoint, if it is of the same training; return the steps that were done."""
    if not checkpoint.is_file():
        return 0
    try:
        record = WholeCheckpoints().load_checkpoint(checkpoint)
        state, n_steps = record["callbacks"][EpochEnd.state_key], record["global_step"]
        identity, n_epochs = state["identity"], len(state["history"])
    except Exception as error:  # whatever a damaged or foreign file can raise
        logger.warning("%s cannot be read (%s): training starts anew", checkpoint, str(error).split("\n")[0])
        return 0
    if identity != progress.identity:
        logger.warning("%s is of other data, code or choices: training starts anew", checkpoint)
        return 0
    logger.info("training goes on after epoch %d", n_epochs)
    progress.load_state_dict(state)
    return n_steps


def remove_checkpoints(folder: str | Path) -> None:
    """Remove what a training keeps in a folder in case it is interrupted, once its outcome is stored."""
    for name in (CHECKPOINT.parent, TRIALS):
        shutil.rmtree(Path(folder) / name, ignore_errors=True)
