"""What the heads of a trained sequence network read of a clip: its vectors after self-attentive pooling.

Each task has one of its own; they stand side by side in the order of the tasks. The network predicts as ever while they
are taken, so what is taken is what its answers rest on.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exvo.features.vectors import Shard
from exvo.hubert.fine_tuned_network import FineTunedConfig
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.networks.heads import MultitaskDecoder
from exvo.training.batches import Batches, whole_batches
from exvo.training.frames import FrameStore
from exvo.training.storage import load_sequence
from exvo.training.trained import in_order


def utterance_embeddings_by(model: str | Path) -> Callable[[Shard, Sequence[str]], np.ndarray]:
    """Return what gives a trained network's vectors of clips: for `exvo.features.vectors.write_vectors`.

    Parameters
    ----------
    model : str or Path
        Folder of the trained system.

    Returns
    -------
    callable
        Vectors [shape=(n_clips, n_tasks * d)], d being the width of an encoded frame.
    """
    trained = load_sequence(model, (ConformerNetworkConfig, EmbeddingNetworkConfig, FineTunedConfig))
    return partial(_vectors, trained.network().to(trained.training_config.placement()))


def _vectors(network: nn.Module, shard: Shard, clip_ids: Sequence[str]) -> np.ndarray:
    # Each clip by itself: beside others its last bits would change with them, and so with the shards and with every
    # new clip, and with them the weights of a feature fusion.
    return pooled(
        network, whole_batches(FrameStore([shard]), clip_ids, batch_size=1, max_batch_frames=1)
    ).numpy()


@torch.no_grad()
def pooled(network: nn.Module, batches: Batches) -> Tensor:
    """Return the pooled vectors of clips, task by task side by side, on the CPU.

    Parameters
    ----------
    network : nn.Module
        With one `exvo.networks.heads.MultitaskDecoder`, wherever in it, ready to predict.
    batches : Batches

    Returns
    -------
    Tensor [shape=(n_clips, n_tasks * d), float32]
        In the order of the clips that the batches are of.
    """
    (decoder,) = (module for module in network.modules() if isinstance(module, MultitaskDecoder))
    device = next(network.parameters()).device
    taken: dict[str, Tensor] = {}
    hooks = [
        pooling.register_forward_hook(
            lambda _module, _inputs, output, task=task: taken.update({task: output})
        )
        for task, pooling in decoder.poolings.items()
    ]
    parts = []
    try:
        for batch in batches:
            network(batch.frames.to(device), batch.lengths.to(device))
            parts.append((batch.rows, dict(taken)))
    finally:
        for hook in hooks:
            hook.remove()
    vectors = in_order(parts)
    return torch.cat([vectors[task] for task in decoder.tasks], dim=1)
