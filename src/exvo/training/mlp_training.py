"""Training of the organisers' multitask network on utterance-level features.

Whatever is fitted (moments, weights, priors) saw Train only; Val chooses the epoch. An epoch goes through
Train in a new order, gathered in blocks of `_BLOCK_BATCHES` batches; nothing in the loop waits for the
device.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from exvo.corpus.labels import Labels
from exvo.evaluation.metrics import labelled, score, selection_score
from exvo.networks.mlp import (
    MultitaskMlp,
    Target,
    batch_weights,
    combined_loss,
    masked_losses,
    task_target,
)
from exvo.networks.torch_setup import torch_threads
from exvo.training.organisers_step import OrganisersStep
from exvo.training.outputs import any_labelled, without_labels
from exvo.training.priors import priors
from exvo.training.standardise import Standardisation, names_digest
from exvo.training.trained_mlp import (
    MlpConfig,
    TrainedMlp,
    answers,
    make_network,
    network_outputs,
    placement,
    predict_mlp,
)

__all__ = ["MlpConfig", "TrainedMlp", "predict_mlp", "train_mlp"]

logger = logging.getLogger(__name__)

_BLOCK_BATCHES = 64  # 13 MB of features at 8 x 6,373


def train_mlp(
    features: np.ndarray,
    labels: Labels,
    val_features: np.ndarray,
    val_labels: Labels,
    config: MlpConfig,
    seed: int,
    *,
    feature_names: Sequence[str] | None = None,
    n_threads: int = 1,
    overwrite: bool = False,
) -> TrainedMlp:
    """Train the organisers' network; keep its best epoch on Val.

    The best epoch is the one of the highest `selection_score`; among equal ones, and while none has a defined
    score, the one of the lowest validation loss. Without any label on Val it is the last.

    Clips without a label of any of the tasks are left out of the batches (they would take no part in a loss);
    they do count in the standardisation.

    Parameters
    ----------
    features, val_features : np.ndarray [shape=(n_clips, n_features), float32]
        Finite; a memory map will do.
    labels, val_labels : Labels
        Of the same clips in the same order.
    config : MlpConfig
    seed : int
        Of the initial weights and the order of the clips. The same seed, machine and ``n_threads`` give the
        same bits.
    feature_names : sequence of str, optional
        Kept as a digest, so that prediction can refuse other features.
    n_threads : int
        Threads of PyTorch during the call. One is quickest wherever other jobs share the cores: at batches of
        eight, threads mostly wait for each other.
    overwrite : bool
        Standardise the features in place where possible: saves one copy of each.

    Raises
    ------
    ValueError
        If a feature is not finite (the message names row and column), sizes disagree, no clip of Train has a
        label of a task, or the config asks for what the device cannot do.
    """
    _check(features, labels, "Train")
    _check(val_features, val_labels, "Val")
    device, product_type = placement(config)
    untrained = without_labels(labels, config.tasks)
    tasks = tuple(task for task in config.tasks if task not in untrained)
    if not tasks:
        raise ValueError(f"labels: no clip of Train has a label of {' or '.join(config.tasks)}")
    targets = {task: task_target(labels, task) for task in tasks}
    val_rows = np.flatnonzero(any_labelled(val_labels, tasks))
    val_labels = val_labels.take(val_rows)
    standardisation = Standardisation.fit(features, config.max_sd)
    with torch_threads(n_threads):
        inputs = standardisation.apply(features, overwrite=overwrite)
        inputs = torch.from_numpy(inputs).to(device, product_type)
        val_all = len(val_rows) == len(val_features)
        val_inputs = val_features if val_all else val_features[val_rows]
        val_inputs = standardisation.apply(val_inputs, overwrite=overwrite or not val_all)
        val_inputs = torch.from_numpy(val_inputs).to(device, product_type)

        network = initial_network(standardisation, labels, tasks, config, seed).to(device)
        step = OrganisersStep(
            network,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            product_type=product_type,
        )
        rows = np.flatnonzero(any_labelled(labels, tasks))
        shuffle = np.random.default_rng(seed)
        history: list[dict[str, float]] = []
        best, best_epoch, state = (-np.inf, -np.inf), 0, {}
        for epoch in range(1, config.max_epochs + 1):
            start = time.perf_counter()
            order = shuffle.permutation(rows)
            record = {"epoch": epoch, **_train_epoch(step, inputs, targets, order, config.batch_size)}
            record |= {f"s_{task}": network.log_variances[task].item() for task in tasks}
            record |= _validate(network, val_inputs, val_labels, untrained)
            history.append(record)
            logger.info("epoch %d in %.2f s: %s", epoch, time.perf_counter() - start, record)
            quality = (record["val_selection"], -np.nan_to_num(record["val_loss"], nan=np.inf))
            if quality > best or not len(val_rows) or not state:
                best, best_epoch = quality, epoch
                state = {
                    # contiguous: the parameters are transposed views of the step's arrays
                    name: value.detach().to("cpu", copy=True).contiguous()
                    for name, value in network.state_dict().items()
                }
            elif epoch - best_epoch >= config.patience:
                break
    return TrainedMlp(
        config=config,
        seed=seed,
        countries=labels.countries,
        state=state,
        standardisation=standardisation,
        history=history,
        best_epoch=best_epoch,
        priors=priors(labels, tasks),
        n_labelled={task: int(labelled(labels, task).sum()) for task in config.tasks},
        untrained=untrained,
        features_digest=None if feature_names is None else names_digest(feature_names),
    )


def _check(features: np.ndarray, labels: Labels, split: str) -> None:
    if features.ndim != 2 or len(features) != len(labels):
        raise ValueError(
            f"{split}: features of shape {features.shape} for the labels of {len(labels)} clips; "
            "one row per clip, in the same order"
        )


def initial_network(
    standardisation: Standardisation, labels: Labels, tasks: Sequence[str], config: MlpConfig, seed: int
) -> MultitaskMlp:
    """Return the network before its first step.

    The age output starts at Train's mean age (ours): with steps of 0.001 it would otherwise spend whole
    epochs on the way to about 30 years. The weights that read a feature constant on Train start at 0, and
    stay there: their gradient is 0. Such a feature would otherwise reach Val and Test through weights that
    nothing trained.
    """
    network = make_network(
        config,
        tasks,
        len(standardisation.mean),
        len(labels.countries),
        torch.Generator().manual_seed(seed),
    )
    with torch.no_grad():
        network.trunk[0].weight[:, torch.from_numpy(standardisation.constant)] = 0
        if "age" in tasks:
            network.heads["age"][-1].bias.fill_(np.nanmean(labels.age))
    return network


def _train_epoch(
    step: OrganisersStep, inputs: Tensor, targets: Mapping[str, Target], order: np.ndarray, batch_size: int
) -> dict[str, float]:
    """Go through the clips once; return each task's mean loss over the batches that have a label of it."""
    starts = np.arange(0, len(order), batch_size)
    known = {task: targets[task].known[order] for task in step.tasks}
    has_label = np.stack([np.add.reduceat(k.any(axis=1), starts) > 0 for k in known.values()], axis=1)
    present = [list(compress(step.tasks, row)) for row in has_label]
    ready = {
        task: (
            torch.from_numpy(targets[task].values[order]),
            torch.from_numpy(batch_weights(known[task], batch_size)),
        )
        for task in step.tasks
    }
    values, weights = step.stack(ready)
    totals = torch.zeros(len(step.tasks), device=inputs.device)
    for start, batch, tasks in zip(
        starts.tolist(), _batches(inputs, order, batch_size), present, strict=True
    ):
        rows = slice(start, start + batch_size)
        totals += step(batch, values[:, rows], weights[:, rows], tasks)
    means = totals.cpu().numpy() / np.maximum(has_label.sum(axis=0), 1)
    return {f"loss_{task}": float(mean) for task, mean in zip(step.tasks, means, strict=True)}


def _batches(inputs: Tensor, order: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    """Yield the inputs of each batch: views of blocks that are gathered at once."""
    block_size = batch_size * _BLOCK_BATCHES
    block = inputs.new_empty((min(block_size, len(order)), inputs.shape[1]))
    for rows in torch.from_numpy(order).to(inputs.device).split(block_size):
        gathered = block[: len(rows)]
        torch.index_select(inputs, 0, rows, out=gathered)
        yield from gathered.split(batch_size)


def _validate(
    network: MultitaskMlp, inputs: Tensor, labels: Labels, untrained: Sequence[str]
) -> dict[str, float]:
    """Return loss and metrics on the labelled clips of Val; NaN where there are none."""
    outputs = network_outputs(network, inputs)
    emotion, age, country = answers(outputs, len(labels), len(labels.countries), untrained)
    scores = score(labels, SimpleNamespace(clip_id=labels.clip_id, emotion=emotion, age=age, country=country))
    losses = {}
    if outputs:
        targets = {}
        for task in network.tasks:
            target = task_target(labels, task)
            weights = batch_weights(target.known, len(labels))
            targets[task] = tuple(torch.from_numpy(a).to(inputs.device) for a in (target.values, weights))
        losses = masked_losses(outputs, targets)
    with torch.no_grad():
        loss = float(combined_loss(losses, network.log_variances)) if losses else np.nan
    return {
        "val_loss": loss,
        "val_ccc": scores.ccc,
        "val_uar": scores.uar,
        "val_mae": scores.mae,
        "val_s_mtl": scores.s_mtl,
        "val_selection": selection_score(scores, network.tasks),
    }
