"""Training of a multitask network on clips: any network, any features, the best epoch on Val.

Whatever is fitted sees Train only; Val chooses the epoch. An epoch depends on the weights, the optimizer's state and
its own number alone: batches follow from the number, dropout is seeded at the first batch, and the learning rate
follows from the place in the training.
"""

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from exvo.corpus.labels import Labels
from exvo.evaluation.metrics import labelled, score, selection_score
from exvo.networks.losses import CombinedLoss
from exvo.networks.torch_setup import torch_threads
from exvo.training.batches import Batch, Batches, TrainBatches, as_targets
from exvo.training.checkpoint import (
    CHECKPOINT,
    TRIALS,
    resumable_state,
    save_checkpoint,
    training_identity,
)
from exvo.training.epoch_log import EpochLog
from exvo.training.frames import ClipStore
from exvo.training.loop import Loop, parameter_groups, seed_torch
from exvo.training.outputs import any_labelled, task_arrays, without_labels
from exvo.training.predict import network_outputs, prediction_batches
from exvo.training.priors import priors
from exvo.training.progress import Progress
from exvo.training.trained import NetworkConfig, Trained, TrainingConfig
from exvo.training.vectors import VectorBatches, VectorStore

logger = logging.getLogger(__name__)


def train_network(
    store: ClipStore,
    labels_train: Labels,
    labels_val: Labels,
    network_config: NetworkConfig,
    training_config: TrainingConfig,
    statistics: Mapping[str, Sequence[float]] | None,
    seed: int,
    folder: str | Path,
    *,
    perturbed: Mapping[float, ClipStore] | None = None,
    prepare: Callable[[Any], None] | None = None,
    n_threads: int = 1,
    resume: bool = True,
) -> Trained:
    """Train a network; keep its best epoch on Val.

    The best epoch is the one of the highest `selection_score`; of equal ones, and while none has a defined score, the
    one of the lowest validation loss. Without any label on Val it is the last. Clips without a label of any of the
    tasks are left out of the batches: they would take no part in a loss.

    Parameters
    ----------
    store : ClipStore
    labels_train, labels_val : Labels
        Of clips that have audio.
    network_config : NetworkConfig
    training_config : TrainingConfig
        Its ``loss_weight_grid`` is for `exvo.training.loss_weights` and not read here.
    statistics : mapping or None
        ``mean`` and ``std`` of every channel over Train; None for a network that reads none, whose masked frames are
        then 0.
    seed : int
        Of the initial weights, batches, augmentation and dropout. The same seed, machine and ``n_threads`` give the
        same bits, with or without an interruption.
    folder : str or Path
        Receives the checkpoint of the last epoch (``checkpoints/``) and logs for people (``logs/``).
    perturbed : mapping of float to ClipStore, optional
        The clips of Train at other speeds, needed with ``speed_perturbation``.
    prepare : callable, optional
        Prepares the network before its first step, such as loading weights to start from. What it does must follow from
        ``network_config``, by which an interrupted training is recognised.
    n_threads : int
        Threads of PyTorch during the call.
    resume : bool
        Go on from the checkpoint in ``folder``, if it is of this very training: data, choices, code and seed.

    Raises
    ------
    ValueError
        If no clip of Train has a label of a task, or the config asks for what the device or the data cannot give.
    """
    folder, config = Path(folder), training_config
    device = config.placement()
    if config.speed_perturbation and not perturbed:
        raise ValueError("speed_perturbation: there are no frames of Train at other speeds; set it to false")
    untrained = without_labels(labels_train, network_config.tasks)
    tasks = tuple(task for task in network_config.tasks if task not in untrained)
    if not tasks:
        raise ValueError(f"labels: no clip of Train has a label of {' or '.join(network_config.tasks)}")
    train = labels_train.take(any_labelled(labels_train, tasks))
    val = labels_val.take(any_labelled(labels_val, tasks))
    perturbed = dict(perturbed or {}) if config.speed_perturbation else {}
    identity = training_identity(
        store, perturbed, train, val, network_config, config, statistics, seed, device
    )
    checkpoint = folder / CHECKPOINT
    state = resumable_state(checkpoint, identity) if resume else None
    if state is None:
        shutil.rmtree(folder / "logs", ignore_errors=True)
    with _surroundings(n_threads, device):
        network = _initial_network(
            replace(network_config, tasks=tasks), store.n_channels, statistics, train, seed
        )
        if prepare is not None:
            prepare(network)
        learner = SupervisedLearner(
            network.to(device),
            _loss(config, tasks).to(device),
            _train_batches(store, train, config, statistics, perturbed, seed),
            prediction_batches(store, list(val.clip_id), val),
            val,
            untrained,
            config,
            seed,
        )
        loop = Loop(
            learner,
            learner.optimizer(),
            device=device,
            precision=config.precision,
            gradient_clip=config.gradient_clip,
        )
        if state is None:
            learner.progress.watch(network)
        else:
            loop.load_state_dict(state)
            logger.info("training goes on after epoch %d", loop.epoch)
        if not learner.finished(loop):
            learner.log = EpochLog(folder / "logs", _title(folder, seed), config.max_epochs, loop.step)
            try:
                loop.run(lambda state: save_checkpoint(checkpoint, identity, state))
            finally:
                learner.log.close()
    progress = learner.progress
    return Trained(
        network_config=network_config,
        training_config=config,
        seed=seed,
        countries=labels_train.countries,
        state=progress.best_state,
        n_channels=store.n_channels,
        history=progress.history,
        best_epoch=progress.best_epoch,
        priors=priors(labels_train, tasks),
        n_labelled={task: int(labelled(labels_train, task).sum()) for task in network_config.tasks},
        untrained=untrained,
        features_digest=store.features_digest,
        strf_history={name: torch.stack(values).numpy() for name, values in progress.strf.items()},
    )


class EpochSource(Protocol):
    """The batches of Train, epoch by epoch."""

    def epoch(self, number: int) -> Batches[Batch]:
        """Return the batches of an epoch, counted from 1: the same ones whenever they are asked for."""


class SupervisedLearner:
    """A network with its loss, as `exvo.training.loop.Loop` trains it.

    Parameters
    ----------
    network, loss : nn.Module, CombinedLoss
        On the device.
    train : EpochSource
    val_batches : Batches
        Of the clips of ``val``.
    val : Labels
    untrained : sequence of str
        As `exvo.training.outputs.without_labels` gives it.
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
        """Return the optimizer of the config; with AdamW, vectors (biases, gains, rates, scales) do not decay."""
        # A network that was trained before says which of its parameters learn at a share of the rate.
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
        """Seed an epoch at its first step; return the learning rate of the step."""
        if loop.place == 0:
            seed_torch(self.seed, loop.epoch + 1)
            self.network.train()
            self.sums = torch.zeros(1 + len(self.combined_loss.tasks), device=loop.device)
            self.counts = torch.zeros(len(self.sums), dtype=torch.int64)
        place = (loop.epoch + (loop.place + 0.5) / loop.n_batches) / self.config.max_epochs
        self.learning_rate = learning_rate(place, self.config)
        return self.learning_rate

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch [shape=()]."""
        outputs = self.network(batch.frames, batch.lengths)
        total, losses = self.combined_loss(outputs, batch.targets, batch.labelled)
        # Summed on the device: reading a value back would wait for it.
        self.sums += torch.stack([total.detach(), *losses.values()])
        self.counts += torch.tensor([True, *(task in batch.labelled for task in losses)])
        return total

    def report(self, loop: Loop) -> None:
        """Validate the epoch and add it to the progress."""
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
        """Return whether no epoch comes next; an epoch that has begun is finished."""
        return loop.place == 0 and self.progress.finished(self.config.max_epochs, self.config.patience)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress."""
        return self.progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a progress."""
        self.progress.load_state_dict(state)

    def _means(self) -> dict[str, float]:
        """Return the mean losses over the batches that have labels, and the learned log variances."""
        means = (self.sums.cpu() / self.counts).tolist()  # NaN for a task without labels
        names = ["loss", *(f"loss_{task}" for task in self.combined_loss.tasks)]
        log_variances = self.combined_loss.log_variances.items()
        return dict(zip(names, means, strict=True)) | {f"s_{task}": s.item() for task, s in log_variances}


def validate(
    network: nn.Module, loss: CombinedLoss, batches: Batches[Batch], labels: Labels, untrained: Sequence[str]
) -> dict[str, float]:
    """Return loss and metrics on the labelled clips of Val, NaN where there are none, and times.

    ``val_loading_seconds`` is for batches, ``val_network_seconds`` for forward passes.
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
    """Return the learning rate at a place in the training, 0 its beginning and 1 its end."""
    if config.schedule == "constant":
        return config.learning_rate
    warmup = config.warmup_fraction
    if place < warmup:
        return config.learning_rate * place / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (place - warmup) / max(1 - warmup, 1e-9)))


def _loss(config: TrainingConfig, tasks: Sequence[str]) -> CombinedLoss:
    return CombinedLoss(
        tasks,
        combination=config.combination,
        weights=config.loss_weights,
        emotion_loss=config.emotion_loss,
        age_loss=config.age_loss,
        initial_log_variance=config.initial_log_variance,
    )


def _train_batches(
    store: ClipStore,
    train: Labels,
    config: TrainingConfig,
    statistics: Mapping[str, Sequence[float]] | None,
    perturbed: Mapping[float, ClipStore],
    seed: int,
) -> EpochSource:
    if isinstance(store, VectorStore):
        return VectorBatches(store, train, batch_size=config.batch_size, seed=seed)
    return TrainBatches(
        store,
        train,
        batch_size=config.batch_size,
        seed=seed,
        max_batch_frames=config.max_batch_frames,
        crop_frames=config.crop_frames,
        spec_augment=config.spec_augment,
        fill=np.asarray([0.0] * store.n_channels if statistics is None else statistics["mean"], np.float32),
        perturbed=perturbed,
    )


def _title(folder: Path, seed: int) -> str:
    """Return what is trained in ``.../<system>/<seed>``, or as a trial in ``tuning/<number>`` below it."""
    names = folder.resolve().parts
    if names[-2] == TRIALS:
        return f"{names[-4]}, seed {seed}, trial {names[-1]}"
    return f"{names[-2]}, seed {seed}"


def _initial_network(
    config: NetworkConfig,
    n_channels: int,
    statistics: Mapping[str, Sequence[float]] | None,
    train: Labels,
    seed: int,
) -> nn.Module:
    """Return the network before its first step."""
    ages = train.age[~np.isnan(train.age)]
    age_mean, age_std = (float(ages.mean()), float(ages.std())) if len(ages) else (0.0, 1.0)
    return config.network(n_channels, len(train.countries), statistics, age_mean, age_std, seed)


@contextmanager
def _surroundings(n_threads: int, device: torch.device) -> Iterator[None]:
    """Set threads and deterministic operations; leave them and the random numbers as they were."""
    devices = [device.index or 0] if device.type == "cuda" else []
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with torch_threads(n_threads), torch.random.fork_rng(devices):
            if device.type == "cuda":  # the operations used are deterministic on a CPU as they are
                torch.use_deterministic_algorithms(True, warn_only=True)
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
