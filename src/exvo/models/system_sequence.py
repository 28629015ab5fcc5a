"""Train one seed of a system that reads sequences: from feature shards to the folder of a trained system.

Clips without audio take no part in training; they get the Train prior as their prediction, and the quality table
flags them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from exvo.corpus.table import Corpus
from exvo.models.embedding_network import EmbeddingNetworkConfig
from exvo.models.results import predictions_or_priors, write_results
from exvo.models.sequence_checkpoint import remove_checkpoints
from exvo.models.sequence_data import FrameStore
from exvo.models.sequence_network import SequenceConfig
from exvo.models.sequence_storage import save_sequence
from exvo.models.sequence_training import train_sequence
from exvo.models.sequence_tuning import tune_loss_weights
from exvo.models.trained_sequence import NetworkConfig, TrainedSequence, TrainingConfig, predict_sequence
from exvo.predictions import Predictions, concatenate

ShardPaths = Sequence[tuple[str | Path, str | Path]]


def sequence_configs(system: Mapping[str, object]) -> tuple[NetworkConfig, TrainingConfig]:
    """Return the network and the training choices of a system of the config, whose ``training`` holds both.

    Raises
    ------
    ValueError
        Where a key is of neither.
    """
    options = dict(system["training"])
    network = {"tasks": system["tasks"]}
    if system["encoder"] == "hubert":
        kind = EmbeddingNetworkConfig
        network["n_layers"] = len(system["feature_config"]["layers"] or [None])
    else:
        kind = SequenceConfig
    names = {field.name for field in fields(kind)} - set(network)
    training_names = {field.name for field in fields(TrainingConfig)}
    unknown = sorted(set(options) - names - training_names)
    if unknown:
        raise ValueError(f"training: the encoder {system['encoder']} has no key {', '.join(unknown)}")
    network |= {key: value for key, value in options.items() if key in names}
    training = {key: value for key, value in options.items() if key in training_names}
    return kind.from_dict(network), TrainingConfig.from_dict(training)


def train_sequence_system(
    shards: ShardPaths,
    statistics_path: str | Path | None,
    corpus: Corpus,
    system: Mapping[str, object],
    seed: int,
    folder: str | Path,
    *,
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
        ``encoder``, ``tasks``, ``training`` and ``feature_config``, as `exvo.systems.System.spec` gives them.
    seed : int
    folder : str or Path
        Receives model.safetensors, config.json, history.csv, val.parquet, test.parquet and metrics.json,
        strf_history.parquet and tuning.csv where there is such a thing, and logs.
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
    network_config, config = sequence_configs(system)
    data = (store, train, val, network_config)
    statistics = (
        None if statistics_path is None else json.loads(Path(statistics_path).read_text(encoding="utf-8"))
    )
    rest = (statistics, seed, folder)
    options = {
        "perturbed": {factor: FrameStore(paths) for factor, paths in (perturbed or {}).items()},
        "n_threads": n_threads,
    }
    if config.tune is not None:
        config = tune_loss_weights(*data, config, *rest, **options)
    trained = train_sequence(*data, config, *rest, **options)
    save_sequence(folder, trained, system)
    answers = concatenate(
        [predict_clips(trained, store, by_split[split].clip_id, n_threads) for split in ("Val", "Test")]
    )
    n_epochs = len(trained.history)
    write_results(folder, corpus.labels, answers, best_epoch=trained.best_epoch, n_epochs=n_epochs)
    remove_checkpoints(folder)


def predict_clips(
    trained: TrainedSequence, store: FrameStore, clip_ids: np.ndarray, n_threads: int = 1
) -> Predictions:
    """Predict clips; those without audio get the Train prior.

    Parameters
    ----------
    trained : TrainedSequence
    store : FrameStore
        With a row for every clip.
    clip_ids : np.ndarray [shape=(n,), str]
    n_threads : int

    Returns
    -------
    Predictions
        In the order of ``clip_ids``.
    """

    def predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return predict_sequence(trained, store, clip_ids[rows], n_threads=n_threads)

    return predictions_or_priors(
        clip_ids, store.has_audio(clip_ids), trained.priors, trained.countries, predict
    )
