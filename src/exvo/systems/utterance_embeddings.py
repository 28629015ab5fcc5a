"""Utterance embeddings of clips by a trained system: what the heads of its network read.

Of the organisers' network they are the outputs of the last shared layer; of the others, each task's vector after
self-attentive pooling, side by side.
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
    """Return a function from a shard and clips to their embeddings, for `exvo.features.vectors.write_vectors`.

    Parameters
    ----------
    model : str or Path
        Folder of the trained system.
    kinds : sequence of types
        Configs of the networks that it may hold: ``KINDS`` of its encoder's module.

    Returns
    -------
    callable
        Embeddings [shape=(n_clips, width)]; ValueError where the features are not those of training.
    """
    trained = load_trained(model, kinds)
    network = trained.network().to(device_name(trained.training_config.device))
    return partial(_embeddings, trained, network)


def _embeddings(trained: Trained, network: nn.Module, shard: Shard, clip_ids: Sequence[str]) -> np.ndarray:
    if trained.network_config.reads_vectors:
        store = VectorStore([shard], clip_ids)
        check_features(store, trained.n_channels, trained.features_digest)
        return embed(network, prediction_batches(store, clip_ids))
    # Each clip by itself: in a batch its last bits would depend on the other clips, and so on the shards and on every
    # new clip, and so would the weights of a feature fusion.
    return embed(network, whole_batches(FrameStore([shard]), clip_ids, batch_size=1, max_batch_frames=1))


@torch.no_grad()
def embed(network: nn.Module, batches: Batches[Batch]) -> np.ndarray:
    """Return the utterance embeddings of clips.

    Parameters
    ----------
    network : nn.Module
        With a method ``embed``, ready to predict.
    batches : Batches

    Returns
    -------
    np.ndarray [shape=(n_clips, width), float32]
        In the order of the clips that the batches are of.
    """
    device = next(network.parameters()).device
    embedding = cast(Callable[[Tensor, Tensor], Tensor], network.embed)
    parts = [
        (batch.rows, {"embedding": embedding(batch.frames.to(device), batch.lengths.to(device))})
        for batch in batches
    ]
    return in_order(parts)["embedding"].numpy()
