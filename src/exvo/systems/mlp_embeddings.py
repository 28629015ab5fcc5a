"""What the heads of a trained organisers' network read of a clip: the output of its last shared layer."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from exvo.features.store import read_utterances
from exvo.features.vectors import Shard
from exvo.networks.mlp import MultitaskMlp
from exvo.training.mlp_storage import load_trained
from exvo.training.standardise import names_digest
from exvo.training.trained_mlp import TrainedMlp, make_network, standardised_blocks


def mlp_embeddings_by(model: str | Path) -> Callable[[Shard, Sequence[str]], np.ndarray]:
    """Return what gives a trained network's vectors of clips: for `exvo.features.vectors.write_vectors`.

    Parameters
    ----------
    model : str or Path
        Folder of the trained system.

    Returns
    -------
    callable
        Vectors [shape=(n_clips, last of ``hidden``)]; ValueError where the features are not those of training.
    """
    trained = load_trained(model)
    size = len(trained.standardisation.mean), len(trained.countries)
    # A generator of its own for weights that are replaced at once: the global one stays as it was.
    network = make_network(trained.config, trained.trained_tasks, *size, torch.Generator())
    network.load_state_dict(trained.state)
    return partial(_vectors, trained, network)


@torch.no_grad()
def _vectors(trained: TrainedMlp, network: MultitaskMlp, shard: Shard, clip_ids: Sequence[str]) -> np.ndarray:
    (features,) = read_utterances(shard, [clip_ids])
    if trained.features_digest not in (None, names_digest(features.names)):
        raise ValueError(f"{shard[0]}: not the features that the model was trained on")
    blocks = standardised_blocks(trained, features.values)
    return torch.cat([network.trunk(block)[:n_clips] for block, n_clips in blocks]).numpy()
