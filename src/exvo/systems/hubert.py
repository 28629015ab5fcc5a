"""A system with a decoder on frozen HuBERT embeddings, or with a fine-tuned HuBERT.

The decoder has self-attentive pooling and a head per task. It also reads log-mel frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exvo.corpus.table import Corpus
from exvo.features.spec import feature_key, feature_kind, fine_tuned
from exvo.features.vectors import as_shards
from exvo.hubert.embeddings import kept_layers
from exvo.hubert.fine_tuned_network import FineTunedConfig, FineTunedNetwork
from exvo.hubert.weights import exact_source, load_hubert
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.systems.train import by_speed, network_configs, train_folder
from exvo.training.frames import FrameStore

# Configs of the networks that a folder can have.
KINDS = (EmbeddingNetworkConfig, FineTunedConfig)


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
        Shards of embeddings or log-mel: frames and their indices. For fine-tuning, shards of the front end's frames.
    corpus, seed, folder, n_threads
        As in `exvo.systems.train.train_folder`.
    system : mapping
        Stored with the SHA-256 of the weights, so that prediction uses the same weights and no others.
    statistics
        Not used: each frame is normalised by itself.
    perturbed : sequence of path
        Shards of Train at other speeds, for ``speed_perturbation``.

    Raises
    ------
    ValueError
        As `exvo.systems.train.train_folder` and `exvo.hubert.weights.load_hubert`.
    """
    prepare = None
    if feature_kind(system["feature"]) == "hubert":
        where = feature_key(system["feature"])
        system = {**system, "feature_config": exact_source(system["feature_config"], where)}
    if fine_tuned(system):
        weights = load_hubert(system["feature_config"], where)
        size = weights.model.config
        given: dict[str, Any] = {
            "hubert": asdict(size),
            "weights": weights.sha256,
            "layers": kept_layers(system["feature_config"]["layers"], size),
        }
        configs = network_configs(system, FineTunedConfig, given)

        def prepare(network: FineTunedNetwork) -> None:
            network.load_encoder(weights.model)

    else:
        options = {name: value for name, value in system["training"].items() if name != "fine_tune"}
        layers = system["feature_config"].get("layers")
        given = {"n_layers": 1 if layers is None else len(layers)}
        configs = network_configs({**system, "training": options}, EmbeddingNetworkConfig, given)
    train_folder(
        FrameStore(as_shards(features)),
        corpus,
        system,
        configs,
        None,
        seed,
        folder,
        prepare=prepare,
        perturbed={speed: FrameStore(shards) for speed, shards in by_speed(perturbed).items()},
        n_threads=n_threads,
    )
