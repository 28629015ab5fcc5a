"""Utterance embeddings of clips by a trained system: the inputs of the heads of its network.

For the organisers' network, these are the outputs of the last shared layer. For other networks, they are the vectors of
all tasks after self-attentive pooling, concatenated.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from exvo.features.vectors import Shard
from exvo.networks.torch_setup import device_name
from exvo.training.batches import Batch, Batches, whole_batches
from exvo.training.frames import FrameStore
from exvo.training.predict import in_order, prediction_batches
from exvo.training.storage import load_trained
from exvo.training.trained import NetworkConfig, Trained
from exvo.training.vectors import VectorStore, check_features


def utterance_embeddings_by(
    model: str | Path, kinds: Sequence[type[NetworkConfig]]
) -> Callable[[Shard, Sequence[str]], np.ndarray]:
    """Return a function that computes the embeddings of clips in a shard, for `exvo.features.vectors.write_vectors`.

    Parameters
    ----------
    model : str or Path
        Folder of the trained system.
    kinds : sequence of types
        Configs of the networks that are accepted: ``KINDS`` of the encoder's module.

    Returns
    -------
    callable
        Returns embeddings [shape=(n_clips, width)]; ValueError where the features differ from those of training.
    """
    trained = load_trained(model, kinds)
    network = trained.network().to(device_name(trained.training_config.device))
    return partial(_embeddings, trained, network)


def _embeddings(trained: Trained, network: nn.Module, shard: Shard, clip_ids: Sequence[str]) -> np.ndarray:
    if trained.network_config.reads_vectors:
        store = VectorStore([shard], clip_ids)
        check_features(store, trained.n_channels, trained.features_digest)
        return embed(network, prediction_batches(store, clip_ids))
    # Each clip by itself. In a batch, the last bits of an embedding would depend on the other clips of its shard, and
    # so would the weights of a feature fusion.
    return embed(network, whole_batches(FrameStore([shard]), clip_ids, batch_size=1, max_batch_frames=1))


@torch.no_grad()
def embed(network: nn.Module, batches: Batches[Batch]) -> np.ndarray:
    """Return the utterance embeddings of clips.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, with a method ``embed``.
    batches : Batches

    Returns
    -------
    np.ndarray [shape=(n_clips, width), float32]
        In the order of the clips.
    """
    device = next(network.parameters()).device
    embedding = cast(Callable[[Tensor, Tensor], Tensor], network.embed)
    parts = [
        (batch.rows, {"embedding": embedding(batch.frames.to(device), batch.lengths.to(device))})
        for batch in batches
    ]
    return in_order(parts)["embedding"].numpy()
