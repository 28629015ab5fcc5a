"""Train one seed of an ``mlp`` system: from feature shards to the folder of a trained system.

Clips without audio take no part in training; they get the Train prior as their prediction, and the quality
table flags them.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from exvo.audio.store import WITHOUT_AUDIO
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import Predictions, concatenate
from exvo.features.store import Utterances, read_statuses, read_utterances
from exvo.training.mlp_storage import save_trained
from exvo.training.mlp_training import MlpConfig, TrainedMlp, predict_mlp, train_mlp
from exvo.training.outputs import any_labelled
from exvo.training.results import predictions_or_priors, write_results


def mlp_config(system: Mapping[str, object]) -> MlpConfig:
    """Return the training choices of a system of the config."""
    training = {**system["training"], "hidden": tuple(system["training"]["hidden"])}
    return MlpConfig(tasks=tuple(system["tasks"]), **training)


def train_mlp_system(
    shards: Sequence[str | Path],
    corpus: Corpus,
    system: Mapping[str, object],
    seed: int,
    folder: str | Path,
    *,
    n_threads: int = 1,
) -> None:
    """Train, predict Val and Test and write the folder of the trained system.

    Parameters
    ----------
    shards : sequence of str or Path
        Utterance-level features of the system's stage.
    corpus : Corpus
    system : mapping
        ``tasks`` and ``training`` of the system, as `exvo.workflow.plan.System.spec` gives them.
    seed : int
    folder : str or Path
        Receives model.safetensors, config.json, history.csv, val.parquet, test.parquet and metrics.json.
    n_threads : int

    Raises
    ------
    ValueError
        Where Train has no clip with audio and a label of the system's tasks.
    """
    folder = Path(folder)
    config = mlp_config(system)
    labels = corpus.labels
    statuses = read_statuses(shards)
    no_audio = np.array([statuses.get(clip_id) in WITHOUT_AUDIO for clip_id in labels.clip_id], dtype=bool)
    train_labels = labels.take((labels.split == "Train") & ~no_audio)
    val_labels = labels.take((labels.split == "Val") & ~no_audio & any_labelled(labels, config.tasks))
    # Only what is trained and validated on is read, and standardised in place: each matrix is in memory once.
    train, val = read_utterances(shards, [train_labels.clip_id, val_labels.clip_id])
    trained = train_mlp(
        train.values,
        train_labels,
        val.values,
        val_labels,
        config,
        seed,
        feature_names=train.names,
        n_threads=n_threads,
        overwrite=True,
    )
    del train, val
    save_trained(folder, trained, system)
    answers = _predict_shards(trained, shards, set(labels.clip_id[labels.split != "Train"]), n_threads)
    n_epochs = len(trained.history)
    write_results(folder, corpus.labels, answers, best_epoch=trained.best_epoch, n_epochs=n_epochs)


def predict_utterances(trained: TrainedMlp, features: Utterances, *, n_threads: int = 1) -> Predictions:
    """Predict clips; those without audio get the Train prior.

    Parameters
    ----------
    trained : TrainedMlp
    features : Utterances
        Of ``n`` clips.
    n_threads : int
    """

    def predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Only where clips lack audio is a copy made of the features.
        values = features.values if rows.all() else features.values[rows]
        return predict_mlp(trained, values, feature_names=features.names, n_threads=n_threads)

    has_audio = ~np.isin(features.status.astype(str), WITHOUT_AUDIO)
    return predictions_or_priors(features.clip_id, has_audio, trained.priors, trained.countries, predict)


def _predict_shards(
    trained: TrainedMlp, shards: Sequence[str | Path], clip_ids: Collection[str], n_threads: int
) -> Predictions:
    """Predict clips shard by shard, so that memory is that of one shard."""
    parts = []
    for path in shards:
        (features,) = read_utterances([path], [[name for name in read_statuses([path]) if name in clip_ids]])
        parts.append(predict_utterances(trained, features, n_threads=n_threads))
    return concatenate(parts)
