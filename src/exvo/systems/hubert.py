"""Train one seed of a system that reads a HuBERT: its embeddings as they are, or the encoder trained further."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from exvo.corpus.table import Corpus
from exvo.features.spec import feature_key, fine_tuned
from exvo.hubert.embeddings import kept_layers
from exvo.hubert.fine_tuned_network import FineTunedConfig, FineTunedNetwork
from exvo.hubert.weights import exact_source, load_hubert
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.systems.sequence import ShardPaths, sequence_configs, train_sequence_system


def train_hubert_system(
    shards: ShardPaths,
    corpus: Corpus,
    system: Mapping[str, object],
    seed: int,
    folder: str | Path,
    *,
    perturbed: Mapping[float, ShardPaths] | None = None,
    n_threads: int = 1,
) -> None:
    """Train, predict Val and Test and write the folder of the trained system.

    Parameters
    ----------
    shards : sequence of (frames path, index path)
        Embeddings; for an encoder that is fine-tuned, the frames of its front end.
    corpus, seed, folder, perturbed, n_threads
        As in `exvo.systems.sequence.train_sequence_system`.
    system : mapping
        As `exvo.workflow.systems.System.spec` gives it. It is kept with the SHA-256 of the weights, so that prediction uses
        the same and nothing else.

    Raises
    ------
    ValueError
        As `train_sequence_system` and `exvo.hubert.weights.load_hubert`.
    """
    where = feature_key(system["feature"])
    feature = exact_source(system["feature_config"], where)
    system = {**system, "feature_config": feature}
    prepare = None
    if fine_tuned(system):
        weights = load_hubert(feature, where)
        size = weights.model.config
        given = {
            "hubert": asdict(size),
            "weights": weights.sha256,
            "layers": kept_layers(feature["layers"], size),
        }
        configs = sequence_configs(system, FineTunedConfig, given)

        def prepare(network: FineTunedNetwork) -> None:
            network.load_encoder(weights.model)

    else:
        options = {name: value for name, value in system["training"].items() if name != "fine_tune"}
        given = {"n_layers": 1 if feature["layers"] is None else len(feature["layers"])}
        configs = sequence_configs({**system, "training": options}, EmbeddingNetworkConfig, given)
    train_sequence_system(
        shards,
        None,
        corpus,
        system,
        seed,
        folder,
        configs=configs,
        prepare=prepare,
        perturbed=perturbed,
        n_threads=n_threads,
    )
