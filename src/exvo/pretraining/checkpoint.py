"""The checkpoint of a pre-training, and the identity that decides whether it can be resumed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exvo.hubert.encoder import HubertConfig
from exvo.pretraining.batches import Targets
from exvo.pretraining.loop import PretrainConfig
from exvo.training.checkpoint import load_checkpoint
from exvo.training.frames import FrameStore
from exvo.util.code_digest import canonical_json, digest

CHECKPOINT = "checkpoint.pt"


def pretraining_state(path: Path, identity: str) -> dict[str, Any]:
    """Return the state of a checkpoint. Reading it executes no code.

    Raises
    ------
    ValueError
        Where the file cannot be read, or belongs to other data or settings. It may represent hours of training, so the
        user has to remove it.
    """
    try:
        found, state = load_checkpoint(path)
    except ValueError as error:
        raise ValueError(f"{error}; remove it to start again") from error
    if found != identity:
        raise ValueError(
            f"{path}: the checkpoint of a pre-training with other data or settings; remove it to start again, or "
            "undo the change to resume"
        )
    return state


def pretraining_identity(
    inputs: FrameStore,
    targets: Mapping[str, Targets],
    clip_ids: Sequence[str],
    speakers: Sequence[str],
    encoder_config: HubertConfig,
    config: PretrainConfig,
    initial: Mapping[str, Tensor],
    seed: int,
    device: torch.device,
) -> str:
    """Return a digest of everything that determines the weights, except the code and the number of threads.

    It includes the content of the labels and the lengths of the inputs. The values of the inputs affect it through the
    mean and SD in the initial weights. The code is excluded, so that an edit does not invalidate hours of training.
    """
    sha = hashlib.sha256()
    rows = inputs.rows(clip_ids)
    sha.update(np.ascontiguousarray(inputs.n_frames[rows]).tobytes())
    for part in targets.values():
        for row in part.labels.rows(clip_ids).tolist():
            sha.update(np.ascontiguousarray(part.labels.frames(row)).tobytes())
    for name, value in sorted(initial.items()):
        sha.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    record = {
        "data": sha.hexdigest(),
        "clips": digest([*clip_ids, *speakers]),
        "targets": {name: part.k for name, part in targets.items()},
        "encoder": asdict(encoder_config),
        "training": {name: value for name, value in asdict(config).items() if name != "report_every"},
        "seed": seed,
        "device": device.type,
        "torch": torch.__version__,
    }
    return digest([canonical_json(record)])
