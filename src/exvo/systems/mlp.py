"""A system with the organisers' network on utterance-level features, one vector per clip.

It reads any feature: functionals, or the mean and SD over time of log-mel or HuBERT frames.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exvo.audio.store import WITHOUT_AUDIO
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import Predictions, concatenate
from exvo.features.store import read_statuses
from exvo.features.vectors import Shard, as_shards
from exvo.networks.mlp import MlpConfig
from exvo.systems.train import network_configs, train_folder
from exvo.training.outputs import any_labelled
from exvo.training.predict import predict_clips
from exvo.training.trained import Trained
from exvo.training.vectors import VectorStore

# Configs of the networks that a folder can have.
KINDS = (MlpConfig,)


def train_system(
    features: Sequence[str | Path],
    corpus: Corpus,
    system: Mapping[str, Any],
    seed: int,
    folder: str | Path,
    *,
    statistics: str | Path | None = None,
    perturbed: Sequence[str | Path] = (),
    n_threads: int = 1,
) -> None:
    """Train one seed and write the folder of the trained system, as `exvo.systems.train.train_folder` does.

    Parameters
    ----------
    features : sequence of path
        Shards of the feature and stage: tables of functionals, or frames and their indices.
    corpus, system, seed, folder, n_threads
        As in `exvo.systems.train.train_folder`.
    statistics, perturbed
        Not used: standardisation has the mean and SD of the vectors of Train.
    """
    shards = as_shards(features)
    configs = network_configs(system, MlpConfig)
    labels = corpus.labels
    status = read_statuses([shard[-1] for shard in shards])
    has_audio = np.array([status.get(clip_id) not in WITHOUT_AUDIO for clip_id in labels.clip_id], dtype=bool)
    train = labels.take((labels.split == "Train") & has_audio)
    val = labels.take((labels.split == "Val") & has_audio & any_labelled(labels, configs[0].tasks))
    # Only the vectors for training and validation are read, each once.
    store = VectorStore(shards, [*train.clip_id, *val.clip_id])
    train_folder(
        store,
        corpus,
        system,
        configs,
        store.moments(train.clip_id),
        seed,
        folder,
        train=train,
        val=val,
        predict=partial(
            _predict, shards=shards, wanted=set(labels.clip_id[labels.split != "Train"]), n_threads=n_threads
        ),
        n_threads=n_threads,
    )


def _predict(trained: Trained, shards: Sequence[Shard], wanted: set[str], n_threads: int) -> Predictions:
    """Predict clips shard by shard, so that memory holds one shard."""
    parts = []
    for shard in shards:
        store = VectorStore([shard], [clip_id for clip_id in read_statuses([shard[-1]]) if clip_id in wanted])
        parts.append(predict_clips(trained, store, store.clip_id, n_threads))
    return concatenate(parts)
