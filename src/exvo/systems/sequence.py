"""Train one seed of a system that reads sequences: from feature shards to the folder of a trained system.

Clips without audio take no part in training; they get the Train prior as their prediction, and the quality table
flags them.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from torch import nn

from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import concatenate
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.training.checkpoint import remove_checkpoints
from exvo.training.frames import FrameStore
from exvo.training.loss_weights import choose_loss_weights
from exvo.training.predict import predict_clips
from exvo.training.results import write_results
from exvo.training.storage import save_sequence
from exvo.training.train import train_sequence
from exvo.training.trained import NetworkConfig, TrainingConfig

ShardPaths = Sequence[tuple[str | Path, str | Path]]


def shards_by_speed(paths: Iterable[str | Path]) -> dict[float, ShardPaths]:
    """Return the feature shards of Train at other speeds by speed: of ``.../raw@0.9/0000.npy``, 0.9."""
    shards = defaultdict(list)
    for frames in map(Path, paths):
        if frames.suffix == ".npy":
            shards[float(frames.parent.name.split("@")[1])].append((frames, frames.with_suffix(".parquet")))
    return dict(shards)


def sequence_configs(
    system: Mapping[str, object],
    kind: type[NetworkConfig] = ConformerNetworkConfig,
    given: Mapping[str, object] | None = None,
) -> tuple[NetworkConfig, TrainingConfig]:
    """Return the network and the training choices of a system of the config, whose ``training`` holds both.

    Parameters
    ----------
    system : mapping
        ``encoder``, ``tasks`` and ``training``.
    kind : type
        Config of the network.
    given : mapping, optional
        What the network is given besides.

    Raises
    ------
    ValueError
        Where a key is of neither.
    """
    options = dict(system["training"])
    given = {"tasks": system["tasks"], **(given or {})}
    names = {field.name for field in fields(kind)} - set(given)
    training_names = {field.name for field in fields(TrainingConfig)}
    unknown = sorted(set(options) - names - training_names)
    if unknown:
        raise ValueError(f"training: the encoder {system['encoder']} has no key {', '.join(unknown)}")
    network, training = ({k: options[k] for k in options if k in part} for part in (names, training_names))
    return kind.from_dict({**network, **given}), TrainingConfig.from_dict(training)


def train_sequence_system(
    shards: ShardPaths,
    statistics_path: str | Path | None,
    corpus: Corpus,
    system: Mapping[str, object],
    seed: int,
    folder: str | Path,
    *,
    configs: tuple[NetworkConfig, TrainingConfig] | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
    perturbed: Mapping[float, ShardPaths] | None = None,
    n_threads: int = 1,
) -> None:
    """Train, predict Val and Test and write the folder of the trained system.

    A job that was killed goes on, when it is started again, from the last epoch it had finished.

    Parameters
    ----------
    shards : sequence of (frames path, index path)
        Sequences of the system's stage and feature.
    statistics_path : str or Path or None
        As `exvo.features.logmel.logmel_statistics` wrote it; None for embeddings, which need none.
    corpus : Corpus
    system : mapping
        ``encoder``, ``tasks`` and ``training``, as `exvo.workflow.systems.System.spec` gives them; all of it is kept.
    seed : int
    folder : str or Path
        Receives model.safetensors, config.json, history.csv, val.parquet, test.parquet and metrics.json,
        strf_history.parquet and tuning.csv where there is such a thing, and logs.
    configs : optional
        Of the network and its training; without, those of a Conformer, from the system.
    prepare : callable, optional
        As in `train_sequence`.
    perturbed : mapping of float to shards, optional
        The clips of Train at other speeds.
    n_threads : int

    Raises
    ------
    ValueError
        Where Train has no clip with audio and a label of the system's tasks.
    """
    folder = Path(folder)
    store = FrameStore(shards)
    by_split = {split: corpus.labels.take(corpus.labels.split == split) for split in ("Train", "Val", "Test")}
    train, val = (by_split[s].take(store.has_audio(by_split[s].clip_id)) for s in ("Train", "Val"))
    network_config, config = configs or sequence_configs(system)
    data = (store, train, val, network_config)
    statistics = (
        None if statistics_path is None else json.loads(Path(statistics_path).read_text(encoding="utf-8"))
    )
    rest = (statistics, seed, folder)
    options = {
        "perturbed": {factor: FrameStore(paths) for factor, paths in (perturbed or {}).items()},
        "prepare": prepare,
        "n_threads": n_threads,
    }
    if config.loss_weight_grid is not None:
        config = choose_loss_weights(*data, config, *rest, **options)
    trained = train_sequence(*data, config, *rest, **options)
    save_sequence(folder, trained, system)
    answers = concatenate(
        [predict_clips(trained, store, by_split[split].clip_id, n_threads) for split in ("Val", "Test")]
    )
    n_epochs = len(trained.history)
    write_results(folder, corpus.labels, answers, best_epoch=trained.best_epoch, n_epochs=n_epochs)
    remove_checkpoints(folder)
