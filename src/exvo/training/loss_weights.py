"""Selection of the loss weights of a multitask network on Val, from the grid in the config."""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from exvo.corpus.labels import TASKS, Labels
from exvo.networks.losses import LossWeights
from exvo.training.checkpoint import TRIALS
from exvo.training.frames import ClipStore
from exvo.training.outputs import without_labels
from exvo.training.train import train_network
from exvo.training.trained import NetworkConfig, TrainingConfig
from exvo.util.atomic import atomic_path

logger = logging.getLogger(__name__)


def choose_loss_weights(
    store: ClipStore,
    labels_train: Labels,
    labels_val: Labels,
    network_config: NetworkConfig,
    training_config: TrainingConfig,
    statistics: Mapping[str, Sequence[float]] | None,
    seed: int,
    folder: str | Path,
    **options: Any,  # noqa: ANN401 (those of train_network)
) -> TrainingConfig:
    """Try loss weights in short trainings, and return the config with those of the best selection score on Val.

    The results of all trials are written to ``tuning.csv`` in ``folder``. Among equal scores, the first in the grid is
    selected, because validation losses with different weights cannot be compared.

    Parameters
    ----------
    training_config : TrainingConfig
        With ``loss_weight_grid``.
    store, labels_train, labels_val, network_config, statistics, seed, folder, **options
        As in `train_network`.

    Raises
    ------
    ValueError
        If the config has no grid, or its loss weights are learned.
    """
    grid = training_config.loss_weight_grid
    if grid is None:
        raise ValueError("loss_weight_grid: there is no grid to choose from")
    if training_config.combination != "weighted":
        raise ValueError("loss_weight_grid: loss weights are chosen only with combination: weighted")
    untrained = without_labels(labels_train, network_config.tasks)
    counted = [task for task in TASKS if task in network_config.tasks and task not in untrained]
    rows = []
    for number, values in enumerate(product(*(getattr(grid, task) for task in counted))):
        weights = replace(training_config.loss_weights, **dict(zip(counted, values, strict=True)))
        trial = replace(
            training_config,
            loss_weights=weights,
            max_epochs=grid.max_epochs,
            patience=grid.max_epochs,
            loss_weight_grid=None,
        )
        data = (store, labels_train, labels_val, network_config)
        trained = train_network(
            *data, trial, statistics, seed, Path(folder) / TRIALS / f"{number:03d}", **options
        )
        best = trained.history[trained.best_epoch - 1]
        rows.append(asdict(weights) | {k: best[k] for k in best if k == "epoch" or k.startswith("val_")})
        logger.info("loss weights %s: %s", values, rows[-1])
    with atomic_path(Path(folder) / "tuning.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    best = max(rows, key=lambda row: row["val_selection"])
    return replace(training_config, loss_weights=LossWeights(**{task: best[task] for task in TASKS}))
