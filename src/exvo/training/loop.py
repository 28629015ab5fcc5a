"""The training loop of sequence networks in lightning: steps, the choice of the epoch, checkpoints.

An epoch starts from the weights, the optimiser's state and its own number alone. Dropout is seeded at its first
batch, the learning rate follows from the place in the training, and the batches from the epoch's number. A training
that goes on from the checkpoint of an epoch therefore ends with the bits of one that was never interrupted.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from exvo.networks.losses import CombinedLoss, known_labels
from exvo.training.batches import Batch, Batches, TrainBatches
from exvo.training.trained import TrainingConfig

logger = logging.getLogger(__name__)

Validate = Callable[[nn.Module, CombinedLoss], dict[str, float]]


class Progress:
    """How far a training is, and the best of it so far: plain types and tensors, for a checkpoint.

    Parameters
    ----------
    identity : str
        Digest of all that the training follows from.
    has_val : bool
        Whether Val can tell one epoch from another; without, the last is the best.

    Attributes
    ----------
    history : list of dict
        As in `exvo.training.trained.TrainedSequence`.
    best_epoch : int
    best_state : dict of Tensor
    strf : dict of list of Tensor
        Rates and scales before training and after each epoch.
    """

    def __init__(self, identity: str, *, has_val: bool) -> None:
        self.identity = identity
        self.has_val = has_val
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_state: dict[str, Tensor] = {}
        self.strf: dict[str, list[Tensor]] = {}

    @property
    def epoch(self) -> int:
        """The epoch that comes next, from 1."""
        return len(self.history) + 1

    def finished(self, config: TrainingConfig) -> bool:
        """Whether no epoch comes next."""
        waited = len(self.history) - self.best_epoch if self.has_val else 0
        return len(self.history) >= config.max_epochs or waited >= config.patience

    def add(self, record: dict[str, float], network: nn.Module) -> None:
        """Take up an epoch; keep its weights if none was better.

        As `exvo.training.mlp_training` chooses: the highest selection score; among equal ones, and while none is
        defined, the lowest loss.
        """
        best = self._quality(self.history[self.best_epoch - 1]) if self.best_epoch else (-np.inf, -np.inf)
        self.history.append(record)
        if self._quality(record) > best or not self.has_val or not self.best_state:
            self.best_epoch = len(self.history)
            self.best_state = {
                name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()
            }
        self.watch(network)

    def watch(self, network: nn.Module) -> None:
        """Note the rates and scales of an STRF front end, if the network has one."""
        for name in ("rate", "scale"):
            values = getattr(getattr(network, "frontend", None), name, None)
            if isinstance(values, Tensor):
                self.strf.setdefault(name, []).append(values.detach().to("cpu", copy=True))

    def state_dict(self) -> dict[str, Any]:
        """Return everything but ``has_val``, which follows from the data."""
        return {name: value for name, value in vars(self).items() if name != "has_val"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        vars(self).update(state)

    @staticmethod
    def _quality(record: Mapping[str, float]) -> tuple[float, float]:
        return record["val_selection"], -np.nan_to_num(record["val_loss"], nan=np.inf)


class SequenceModule(lightning.LightningModule):
    """A sequence network with its loss, as lightning trains it.

    Parameters
    ----------
    network : nn.Module
    loss : CombinedLoss
    batches : TrainBatches
    config : TrainingConfig
    progress : Progress
    seed : int
    """

    def __init__(
        self,
        network: nn.Module,
        loss: CombinedLoss,
        batches: TrainBatches,
        config: TrainingConfig,
        progress: Progress,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.batches = batches
        self.config = config
        self.progress = progress
        self.seed = seed

    def train_dataloader(self) -> Batches:
        """Return the batches of the epoch that comes next; lightning asks anew for each."""
        self.epoch_start = time.perf_counter()
        self.epoch_batches = self.batches.epoch(self.progress.epoch)
        return self.epoch_batches

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW; only matrices and kernels decay: a vector is a bias, a gain, or rates or scales."""
        # A network that was trained before says which of its parameters learn at a share of the rate.
        shares = getattr(self.network, "learning_rate_shares", dict)()
        trained = [(p, shares.get(p, 1.0)) for p in self.parameters() if p.requires_grad]
        groups = [
            {
                "params": [p for p, s in trained if s == share and (p.ndim >= 2) == decays],
                "weight_decay": self.config.weight_decay if decays else 0.0,
                "share": share,
            }
            for share in sorted({share for _, share in trained}, reverse=True)
            for decays in (True, False)
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.config.learning_rate)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed an epoch at its first batch; set the learning rate of the step."""
        if batch_idx == 0:
            seed = np.random.SeedSequence([self.seed, self.progress.epoch]).generate_state(1, np.uint64)
            torch.manual_seed(int(seed[0]))
            self.network.train()
            self.sums = torch.zeros(1 + len(self.loss.tasks), device=self.device)
            self.counts = torch.zeros_like(self.sums)
            self.network_seconds = 0.0
        place = (
            self.progress.epoch - 1 + (batch_idx + 0.5) / len(self.epoch_batches)
        ) / self.config.max_epochs
        self.learning_rate = learning_rate(place, self.config)
        for group in self.optimizers(use_pl_optimizer=False).param_groups:
            group["lr"] = self.learning_rate * group["share"]
        self._step_start = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        total, losses = self.loss(self.network(batch.frames, batch.lengths), batch.targets)
        known = known_labels({task: batch.targets[task] for task in self.loss.tasks})
        # Summed where they are: reading a value back would wait for the device.
        self.sums += torch.stack([total.detach(), *(losses[task] for task in self.loss.tasks)])
        self.counts += torch.stack([torch.ones_like(total, dtype=bool), *(k.any() for k in known.values())])
        self.log("loss", total.detach())
        return total

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401 (lightning's)
        """Count the time that a step took."""
        self.network_seconds += time.perf_counter() - self._step_start

    def epoch_record(self) -> dict[str, float]:
        """Return what the epoch says of training: its learning rate and its losses."""
        means = (self.sums / self.counts).cpu().tolist()  # NaN for a task without labels
        record = {"epoch": self.progress.epoch, "learning_rate": self.learning_rate}
        record |= {f"loss{'_' * bool(t)}{t}": m for t, m in zip(("", *self.loss.tasks), means, strict=True)}
        return record | {f"s_{task}": s.item() for task, s in self.loss.log_variances.items()}


class EpochEnd(lightning.Callback):
    """At the end of an epoch: validate, choose, stop, and write the checkpoint.

    Parameters
    ----------
    progress : Progress
    config : TrainingConfig
    validate : callable
        Of network and loss; returns ``val_loss``, ``val_selection`` and the metrics of Val.
    checkpoint : Path
    title : str
        What is trained, for those who watch.
    """

    state_key = "progress"

    def __init__(
        self, progress: Progress, config: TrainingConfig, validate: Validate, checkpoint: Path, title: str
    ) -> None:
        self.progress = progress
        self.config = config
        self.validate = validate
        self.checkpoint = checkpoint
        self.title = title

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: SequenceModule) -> None:
        """Take up the epoch."""
        record = pl_module.epoch_record()
        pl_module.network.eval()
        record |= self.validate(pl_module.network, pl_module.loss)
        pl_module.network.train()
        record |= {
            "seconds": time.perf_counter() - pl_module.epoch_start,
            "network_seconds": pl_module.network_seconds + record.pop("val_network_seconds", 0.0),
            "loading_seconds": pl_module.epoch_batches.seconds + record.pop("val_loading_seconds", 0.0),
        }
        self.progress.add(record, pl_module.network)
        logger.info("epoch %d: %s", record["epoch"], record)
        tell_watchers(
            f"{self.title}: epoch {record['epoch']} of {self.config.max_epochs} in {record['seconds']:.0f} s, "
            f"val_loss {record['val_loss']:.4g}, best epoch {self.progress.best_epoch}"
        )
        for log in trainer.loggers:
            log.log_metrics({k: v for k, v in record.items() if math.isfinite(v)}, step=trainer.global_step)
        trainer.should_stop = self.progress.finished(self.config)
        trainer.save_checkpoint(self.checkpoint, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress for a checkpoint."""
        return self.progress.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the progress of a checkpoint."""
        self.progress.load_state_dict(state_dict)


def tell_watchers(line: str) -> None:
    """Write a line to a terminal; nothing where none is watched.

    A bar would draw over what other jobs write into the same terminal, and they over the bar.
    """
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def learning_rate(place: float, config: TrainingConfig) -> float:
    """Return the learning rate at a place in the training, 0 its beginning and 1 its end."""
    warmup = config.warmup_fraction
    if place < warmup:
        return config.learning_rate * place / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (place - warmup) / max(1 - warmup, 1e-9)))
