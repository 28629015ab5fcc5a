"""A feature fusion: one network on the utterance embeddings or the features of several systems.

It is trained on Train, and Val selects its epoch, as for a system; it is evaluated like a system. The network omits a
system whose stage has no audio of a clip. A clip without any audio gets the prior of the training set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exvo.corpus.table import Corpus
from exvo.networks.fusion_network import FeatureFusionConfig
from exvo.systems.train import SequenceShard, audible, network_configs, train_folder
from exvo.training.clip_vectors import UtteranceStore


def train_feature_fusion(
    files: Sequence[SequenceShard],
    corpus: Corpus,
    fusion: Mapping[str, Any],
    seed: int,
    folder: str | Path,
    *,
    n_threads: int = 1,
) -> None:
    """Train one seed and write the folder of the trained model, as `exvo.systems.train.train_folder` does.

    Parameters
    ----------
    files : sequence of (frames path, index path)
        Vectors of each system, from `exvo.features.vectors.write_vectors`.
    corpus, seed, folder, n_threads
        As in `exvo.systems.train.train_folder`.
    fusion : mapping
        ``tasks`` and ``training`` of the fusion; stored with the weights, as are other keys.
    """
    store = UtteranceStore(files)
    fusion = {**fusion, "encoder": FeatureFusionConfig.kind}
    train = audible(store, corpus.labels, "Train")
    train_folder(
        store,
        corpus,
        fusion,
        network_configs(fusion, FeatureFusionConfig, {"widths": store.widths}),
        store.moments(train.clip_id),
        seed,
        folder,
        train=train,
        n_threads=n_threads,
    )
