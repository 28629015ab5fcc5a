"""Supervised training for the training loop: the loss of a batch, validation, and the selection of the epoch."""

import math
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from exvo.corpus.labels import Labels
from exvo.evaluation.metrics import labelled, score, selection_score
from exvo.networks.losses import CombinedLoss
from exvo.training.batches import Batch, Batches, as_targets
from exvo.training.epoch_log import EpochLog
from exvo.training.loop import Loop, parameter_groups, seed_torch
from exvo.training.outputs import task_arrays
from exvo.training.predict import network_outputs
from exvo.training.progress import Progress
from exvo.training.trained import TrainingConfig


class EpochSource(Protocol):
    """The training batches of every epoch."""

    def epoch(self, number: int) -> Batches[Batch]:
        """Return the batches of an epoch, counted from 1; they are the same at every call."""


class SupervisedLearner:
    """A network and its loss for `exvo.training.loop.Loop`.

    Parameters
    ----------
    network, loss : nn.Module, CombinedLoss
        On the device.
    train : EpochSource
    val_batches : Batches
        Batches of the clips in ``val``.
    val : Labels
    untrained : sequence of str
        As `exvo.training.outputs.without_labels` returns it.
    config : TrainingConfig
    seed : int

    Attributes
    ----------
    progress : Progress
    log : EpochLog or None
    """

    def __init__(
        self,
        network: nn.Module,
        loss: CombinedLoss,
        train: EpochSource,
        val_batches: Batches[Batch],
        val: Labels,
        untrained: Sequence[str],
        config: TrainingConfig,
        seed: int,
    ) -> None:
        self.network = network
        self.combined_loss = loss
        self.module = nn.ModuleDict({"network": network, "loss": loss})
        self.train = train
        self.val_batches = val_batches
        self.val = val
        self.untrained = untrained
        self.config = config
        self.seed = seed
        self.progress = Progress(has_val=len(val) > 0)
        self.log: EpochLog | None = None

    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer of the config; AdamW has no weight decay on vectors (biases, gains, rates, scales)."""
        # A pre-trained network can have parameters with a reduced learning rate.
        shares: dict[nn.Parameter, float] = getattr(self.network, "learning_rate_shares", dict)()
        parameters = {p: shares.get(p, 1.0) for p in self.module.parameters() if p.requires_grad}
        adam = self.config.optimizer == "adam"
        groups = parameter_groups(parameters, self.config.weight_decay, decay_vectors=adam)
        kind = torch.optim.Adam if adam else torch.optim.AdamW
        return kind(groups, lr=self.config.learning_rate, fused=True)

    def batches(self, epoch: int) -> Batches[Batch]:
        """Return the batches of an epoch, counted from 0."""
        return self.train.epoch(epoch + 1)

    def before_step(self, loop: Loop) -> float:
        """Seed the random numbers at the first step of an epoch, and return the learning rate of the step."""
        if loop.place == 0:
            seed_torch(self.seed, loop.epoch + 1)
            self.network.train()
            self.sums = torch.zeros(1 + len(self.combined_loss.tasks), device=loop.device)
            self.counts = dict.fromkeys(("", *self.combined_loss.tasks), 0)
        place = (loop.epoch + (loop.place + 0.5) / loop.n_batches) / self.config.max_epochs
        self.learning_rate = learning_rate(place, self.config)
        return self.learning_rate

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch [shape=()]."""
        outputs = self.network(batch.frames, batch.lengths)
        total, losses = self.combined_loss(outputs, batch.targets, batch.labelled)
        # Summed on the device, because to read a value waits for it.
        self.sums += torch.stack([total.detach(), *losses.values()])
        for task in self.counts:
            self.counts[task] += task == "" or task in batch.labelled
        return total

    def report(self, loop: Loop) -> None:
        """Validate the epoch and record it."""
        record = {"epoch": loop.epoch, "learning_rate": self.learning_rate} | self._means()
        self.network.eval()
        record |= validate(self.network, self.combined_loss, self.val_batches, self.val, self.untrained)
        record |= {
            "seconds": loop.seconds,
            "network_seconds": loop.step_seconds + record.pop("val_network_seconds", 0.0),
            "loading_seconds": loop.loading_seconds + record.pop("val_loading_seconds", 0.0),
        }
        self.progress.add(record, self.network)
        if self.log is not None:
            self.log.write(self.progress.history, self.progress.best_epoch, loop.step)

    def finished(self, loop: Loop) -> bool:
        """Return whether the training is complete, which is never in the middle of an epoch."""
        return loop.place == 0 and self.progress.finished(self.config.max_epochs, self.config.patience)

    def state_dict(self) -> dict[str, Any]:
        """Return the records of the epochs."""
        return self.progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the records of the epochs."""
        self.progress.load_state_dict(state)

    def _means(self) -> dict[str, float]:
        """Return the mean losses over the batches with labels, and the learned log variances."""
        counts = torch.tensor(list(self.counts.values()))
        means = (self.sums.cpu() / counts).tolist()  # NaN for a task without labels
        names = ["loss", *(f"loss_{task}" for task in self.combined_loss.tasks)]
        log_variances = self.combined_loss.log_variances.items()
        return dict(zip(names, means, strict=True)) | {f"s_{task}": s.item() for task, s in log_variances}


def validate(
    network: nn.Module, loss: CombinedLoss, batches: Batches[Batch], labels: Labels, untrained: Sequence[str]
) -> dict[str, float]:
    """Return loss, metrics and times on the labelled clips of Val; loss and metrics are NaN without such clips.

    ``val_loading_seconds`` is the time of gathering batches, ``val_network_seconds`` that of forward passes.
    """
    before, start = batches.seconds, time.perf_counter()
    outputs = network_outputs(network, batches)
    loading = batches.seconds - before
    forward = time.perf_counter() - start - loading
    emotion, age, country = task_arrays(outputs, len(labels), len(labels.countries), untrained)
    scores = score(labels, SimpleNamespace(clip_id=labels.clip_id, emotion=emotion, age=age, country=country))
    total = np.nan
    if outputs:
        device = next(network.parameters()).device
        with torch.no_grad():
            on_device = [{k: v.to(device) for k, v in part.items()} for part in (outputs, as_targets(labels))]
            present = [task for task in loss.tasks if labelled(labels, task).any()]
            total = float(loss(*on_device, present)[0])
    return {
        "val_loss": total,
        "val_ccc": scores.ccc,
        "val_uar": scores.uar,
        "val_mae": scores.mae,
        "val_s_mtl": scores.s_mtl,
        "val_selection": selection_score(scores, loss.tasks),
        "val_loading_seconds": loading,
        "val_network_seconds": forward,
    }


def learning_rate(place: float, config: TrainingConfig) -> float:
    """Return the learning rate at a place in the training, where 0 is its start and 1 its end."""
    if config.schedule == "constant":
        return config.learning_rate
    warmup = config.warmup_fraction
    if place < warmup:
        return config.learning_rate * place / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (place - warmup) / max(1 - warmup, 1e-9)))
