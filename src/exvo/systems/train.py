"""Train one seed of a system or a feature fusion: from features to the folder of the trained model.

Training omits clips without audio. Their predictions are the prior of the training set, and the quality table lists
them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from exvo.corpus.labels import Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import Predictions, concatenate
from exvo.training.checkpoint import remove_checkpoints
from exvo.training.frames import ClipStore
from exvo.training.loss_weights import choose_loss_weights
from exvo.training.predict import predict_clips
from exvo.training.results import write_results
from exvo.training.storage import save_trained
from exvo.training.train import train_network
from exvo.training.trained import NetworkConfig, Trained, TrainingConfig

# Frames and index of a sequence shard.
SequenceShard = tuple[Path, Path]


def by_speed(paths: Iterable[str | Path]) -> dict[float, list[SequenceShard]]:
    """Return the feature shards of Train at other speeds, by speed: 0.9 for ``.../raw@0.9/0000.npy``."""
    shards = defaultdict(list)
    for frames in map(Path, paths):
        if frames.suffix == ".npy":
            shards[float(frames.parent.name.split("@")[1])].append((frames, frames.with_suffix(".parquet")))
    return dict(shards)


def network_configs(
    system: Mapping[str, Any], kind: type[NetworkConfig], given: Mapping[str, object] | None = None
) -> tuple[NetworkConfig, TrainingConfig]:
    """Return the settings of the network and of its training, which are together in ``training`` of a system.

    Parameters
    ----------
    system : mapping
        ``encoder``, ``tasks`` and ``training``.
    kind : type
        Class of the config of the network.
    given : mapping, optional
        Settings of the network that are not in the config file, such as widths of the features.

    Raises
    ------
    ValueError
        Where a key belongs to neither.
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


def audible(store: ClipStore, labels: Labels, split: str) -> Labels:
    """Return the labels of the clips with audio in a split."""
    part = labels.take(labels.split == split)
    return part.take(store.has_audio(part.clip_id))


def train_folder(
    store: ClipStore,
    corpus: Corpus,
    system: Mapping[str, Any],
    configs: tuple[NetworkConfig, TrainingConfig],
    statistics: Mapping[str, Sequence[float]] | None,
    seed: int,
    folder: str | Path,
    *,
    train: Labels | None = None,
    val: Labels | None = None,
    predict: Callable[[Trained], Predictions] | None = None,
    perturbed: Mapping[float, ClipStore] | None = None,
    prepare: Callable[[Any], None] | None = None,
    n_threads: int = 1,
) -> None:
    """Train, predict Val and Test, and write the folder of the trained model.

    A killed job resumes, when it is started again, from its last complete epoch.

    Parameters
    ----------
    store : ClipStore
    corpus : Corpus
    system : mapping
        ``encoder``, ``tasks`` and ``training``; stored with the weights, as are other keys.
    configs : (NetworkConfig, TrainingConfig)
    statistics : mapping or None
        As in `exvo.training.train.train_network`.
    seed : int
    folder : str or Path
        Folder for model.safetensors, config.json, history.csv, val.parquet, test.parquet, metrics.json and logs; also
        for strf_history.parquet with STRFs and tuning.csv with a grid of loss weights.
    train, val : Labels, optional
        Labels of the clips with audio; by default those with audio in ``store``.
    predict : callable, optional
        Returns the predictions for all clips of Val and Test; by default these are predicted from ``store``.
    perturbed, prepare, n_threads
        As in `exvo.training.train.train_network`.

    Raises
    ------
    ValueError
        Where Train has no clip with audio and a label of a task.
    """
    folder = Path(folder)
    labels = corpus.labels
    network_config, config = configs
    data = (
        store,
        audible(store, labels, "Train") if train is None else train,
        audible(store, labels, "Val") if val is None else val,
        network_config,
    )
    rest = (statistics, seed, folder)
    options: dict[str, Any] = {"perturbed": perturbed, "prepare": prepare, "n_threads": n_threads}
    if config.loss_weight_grid is not None:
        config = choose_loss_weights(*data, config, *rest, **options)
    trained = train_network(*data, config, *rest, **options)
    save_trained(folder, trained, system)
    if predict is None:
        wanted = [labels.clip_id[labels.split == split] for split in ("Val", "Test")]
        predictions = concatenate([predict_clips(trained, store, ids, n_threads) for ids in wanted])
    else:
        predictions = predict(trained)
    n_epochs = len(trained.history)
    write_results(folder, labels, predictions, best_epoch=trained.best_epoch, n_epochs=n_epochs)
    remove_checkpoints(folder)
