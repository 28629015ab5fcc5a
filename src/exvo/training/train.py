"""Training of a multitask network on clips, for any network and features.

Only Train is used for fitting; Val selects the epoch. An epoch depends on the weights, the state of the optimizer and
its number only. The number determines the batches, the seed of dropout at the first batch, and the learning rate.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from exvo.corpus.labels import Labels
from exvo.evaluation.metrics import labelled
from exvo.networks.losses import CombinedLoss
from exvo.networks.torch_setup import isolated
from exvo.training.batches import TrainBatches
from exvo.training.checkpoint import (
    CHECKPOINT,
    TRIALS,
    resumable_state,
    save_checkpoint,
    training_identity,
)
from exvo.training.epoch_log import EpochLog
from exvo.training.frames import ClipStore
from exvo.training.learner import EpochSource, SupervisedLearner
from exvo.training.loop import Loop
from exvo.training.outputs import any_labelled, without_labels
from exvo.training.predict import prediction_batches
from exvo.training.priors import priors
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
    """Train a network, and keep its best epoch on Val.

    The best epoch has the highest `selection_score`. Among equal scores, and as long as no score is defined, it has the
    lowest validation loss. Without labels on Val, it is the last epoch. Batches omit clips without a label of any task,
    because these have no loss.

    Parameters
    ----------
    store : ClipStore
    labels_train, labels_val : Labels
        Labels of clips with audio.
    network_config : NetworkConfig
    training_config : TrainingConfig
        Its ``loss_weight_grid`` is not used here, but in `exvo.training.loss_weights`.
    statistics : mapping or None
        ``mean`` and ``std`` of every channel over Train. None for a network without standardisation; masked frames are
        then 0.
    seed : int
        Seed of the initial weights, batches, augmentation and dropout. The same seed, machine and ``n_threads`` give
        the same bits, with or without an interruption.
    folder : str or Path
        Folder for the checkpoint of the last epoch (``checkpoints/``) and for logs (``logs/``).
    perturbed : mapping of float to ClipStore, optional
        Training clips at other speeds, needed with ``speed_perturbation``.
    prepare : callable, optional
        Prepares the network before its first step, for example by loading pre-trained weights. Its effect must be
        determined by ``network_config``, by which an interrupted training is recognised.
    n_threads : int
        Threads of PyTorch during the call.
    resume : bool
        Resume from the checkpoint in ``folder``, if it has the same data, settings, code and seed.

    Raises
    ------
    ValueError
        If no clip of Train has a label of a task, or the config does not fit the device or the data.
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
            prediction_batches(store, list(val.clip_id)),
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
            logger.info("training resumes after epoch %d", loop.epoch)
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
    """Return the title of a training in ``.../<system>/<seed>``, or of a trial in ``tuning/<number>`` below it."""
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
    """Set the threads and deterministic operations, and restore them and the random state afterwards."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with isolated(n_threads, device):
            # On a CPU, the operations in use are deterministic without this.
            if device.type == "cuda":
                # Without it, matrix products of cuBLAS are not deterministic.
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True, warn_only=True)
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
