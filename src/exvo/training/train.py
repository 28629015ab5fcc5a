"""Training of a sequence network on clips of any length, resumable after any epoch.

Whatever is fitted saw Train only; Val chooses the epoch.
"""

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from exvo.corpus.labels import Labels
from exvo.evaluation.metrics import labelled, score, selection_score
from exvo.networks.losses import CombinedLoss
from exvo.networks.torch_setup import torch_threads
from exvo.training.batches import Batches, TrainBatches, as_targets
from exvo.training.checkpoint import (
    CHECKPOINT,
    TRIALS,
    WholeCheckpoints,
    load_progress,
    training_identity,
)
from exvo.training.frames import FrameStore
from exvo.training.loop import EpochEnd, Progress, SequenceModule
from exvo.training.outputs import answers, any_labelled, without_labels
from exvo.training.priors import priors
from exvo.training.trained import (
    NetworkConfig,
    TrainedSequence,
    TrainingConfig,
    network_outputs,
    prediction_batches,
)

logger = logging.getLogger(__name__)

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def train_sequence(
    store: FrameStore,
    labels_train: Labels,
    labels_val: Labels,
    network_config: NetworkConfig,
    training_config: TrainingConfig,
    statistics: Mapping[str, Sequence[float]] | None,
    seed: int,
    folder: str | Path,
    *,
    perturbed: Mapping[float, FrameStore] | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
    n_threads: int = 1,
    resume: bool = True,
) -> TrainedSequence:
    """Train a sequence network; keep its best epoch on Val.

    The best epoch is the one of the highest `selection_score`; among equal ones, and while none has a defined score,
    the one of the lowest validation loss. Without any label on Val it is the last. Clips without a label of any of
    the tasks are left out of the batches: they would take no part in a loss.

    Parameters
    ----------
    store : FrameStore
    labels_train, labels_val : Labels
        Of clips that have audio.
    network_config : NetworkConfig
    training_config : TrainingConfig
        Its ``loss_weight_grid`` is for `exvo.training.loss_weights`, and not looked at here.
    statistics : mapping or None
        ``mean`` and ``std`` of every channel over the frames of Train; None for a network that reads none, whose
        masked frames are then 0.
    seed : int
        Of the initial weights, batches, augmentation and dropout. The same seed, machine and ``n_threads`` give the
        same bits, with or without an interruption.
    folder : str or Path
        Receives the checkpoint of the last epoch (``checkpoints/``) and logs for people (``logs/``).
    perturbed : mapping of float to FrameStore, optional
        The clips of Train at other speeds, needed with ``speed_perturbation``.
    prepare : callable, optional
        What is done to the network before its first step, such as loading weights to start from. What it does
        must follow from ``network_config``, by which an interrupted training is known.
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
    progress = Progress(identity, has_val=len(val) > 0)
    checkpoint = folder / CHECKPOINT
    first_step = load_progress(checkpoint, progress) if resume else 0

    network = _initial_network(
        replace(network_config, tasks=tasks), store.n_channels, statistics, train, seed
    )
    if prepare is not None:
        prepare(network)
    if not progress.history:
        shutil.rmtree(folder / "logs", ignore_errors=True)
        progress.watch(network)
    if not progress.finished(config):
        loss = CombinedLoss(
            tasks,
            combination=config.combination,
            weights=config.loss_weights,
            emotion_loss=config.emotion_loss,
        )
        batches = TrainBatches(
            store,
            train,
            batch_size=config.batch_size,
            seed=seed,
            max_batch_frames=config.max_batch_frames,
            crop_frames=config.crop_frames,
            spec_augment=config.spec_augment,
            fill=np.asarray(
                [0.0] * store.n_channels if statistics is None else statistics["mean"], np.float32
            ),
            perturbed=perturbed,
        )
        val_batches = prediction_batches(store, val.clip_id, val)
        end = EpochEnd(
            progress,
            config,
            lambda *parts: validate(*parts, val_batches, val, untrained),
            checkpoint,
            _title(folder, seed),
        )
        module = SequenceModule(network, loss, batches, config, progress, seed)
        with _surroundings(n_threads, device):
            trainer = _trainer(config, device, end, folder, first_step, len(batches.epoch(progress.epoch)))
            trainer.fit(module, ckpt_path=checkpoint if progress.history else None, weights_only=True)
    return TrainedSequence(
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
        strf_history={name: torch.stack(values).numpy() for name, values in progress.strf.items()},
    )


def validate(
    network: nn.Module, loss: CombinedLoss, batches: Batches, labels: Labels, untrained: Sequence[str]
) -> dict[str, float]:
    """Return loss and metrics on the labelled clips of Val, NaN where there are none, and times.

    ``val_loading_seconds`` is for batches, ``val_network_seconds`` for forward passes.
    """
    before, start = batches.seconds, time.perf_counter()
    outputs = network_outputs(network, batches)
    loading = batches.seconds - before
    forward = time.perf_counter() - start - loading
    emotion, age, country = answers(outputs, len(labels), len(labels.countries), untrained)
    scores = score(labels, SimpleNamespace(clip_id=labels.clip_id, emotion=emotion, age=age, country=country))
    total = np.nan
    if outputs:
        device = next(network.parameters()).device
        with torch.no_grad():
            on_device = [{k: v.to(device) for k, v in part.items()} for part in (outputs, as_targets(labels))]
            total = float(loss(*on_device)[0])
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


def _trainer(
    config: TrainingConfig,
    device: torch.device,
    end: EpochEnd,
    folder: Path,
    first_step: int,
    n_batches: int,
) -> lightning.Trainer:
    logs = folder / "logs"
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=_LIGHTNING_PRECISION[config.precision],
        max_epochs=config.max_epochs,
        gradient_clip_val=config.gradient_clip or None,
        callbacks=[end],
        # A resumed TensorBoard log drops the steps of the broken epoch; a CSV log has no such way.
        logger=[
            CSVLogger(logs, name="csv", version=f"from_epoch_{end.progress.epoch:03d}"),
            TensorBoardLogger(
                logs, name="tensorboard", version="", default_hp_metric=False, purge_step=first_step
            ),
        ],
        # On a cluster, lightning would take the job for one of its own and watch its signals.
        plugins=[WholeCheckpoints(), LightningEnvironment()],
        reload_dataloaders_every_n_epochs=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        # Several jobs share a terminal: see `exvo.training.loop.tell_watchers`.
        enable_progress_bar=False,
        log_every_n_steps=min(10, n_batches),
        # The operations used are deterministic on a CPU as they are.
        deterministic="warn" if device.type == "cuda" else False,
        default_root_dir=folder,
    )


@contextmanager
def _surroundings(n_threads: int, device: torch.device) -> Iterator[None]:
    """Leave threads, random numbers and lightning's log as they were."""
    logs = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [log.level for log in logs]
    deterministic = torch.are_deterministic_algorithms_enabled()
    devices = [device.index or 0] if device.type == "cuda" else []
    try:
        for log in logs:
            log.setLevel(logging.WARNING)
        with torch_threads(n_threads), torch.random.fork_rng(devices), warnings.catch_warnings():
            # Of lightning's own use of torch.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        torch.use_deterministic_algorithms(deterministic)
