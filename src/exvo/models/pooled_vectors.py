"""What the heads of a trained system read of a clip: its representation in a joint fusion.

Of a sequence network these are the vectors after self-attentive pooling, of each task its own, side by side in the
order of the tasks; of the organisers' network the output of its last shared layer. The networks predict as ever while
the vectors are taken, so what is taken is what their answers rest on.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from exvo.features.store import read_utterances
from exvo.features.vectors import Shard, write_vectors
from exvo.models.answers import torch_threads
from exvo.models.decoder import MultitaskDecoder
from exvo.models.embedding_network import EmbeddingNetworkConfig
from exvo.models.fine_tuned_network import FineTunedConfig
from exvo.models.mlp_storage import load_trained
from exvo.models.organisers import OrganisersNetwork
from exvo.models.sequence_batches import Batches
from exvo.models.sequence_data import FrameStore
from exvo.models.sequence_network import SequenceConfig
from exvo.models.sequence_storage import load_sequence
from exvo.models.standardise import names_digest
from exvo.models.trained_mlp import TrainedMlp, make_network
from exvo.models.trained_sequence import in_order, prediction_batches

_KINDS = (SequenceConfig, EmbeddingNetworkConfig, FineTunedConfig)


def write_pooled_vectors(
    model: str | Path,
    shards: Sequence[Shard],
    frames_path: str | Path,
    index_path: str | Path,
    *,
    n_threads: int = 1,
) -> None:
    """Write the vectors of all clips by one trained system.

    Parameters
    ----------
    model : str or Path
        Folder of the trained system.
    shards : sequence of Shard
        Features of the system's stage, as it was trained on.
    frames_path, index_path : str or Path
        As `exvo.features.vectors.write_vectors`.
    n_threads : int
        Threads of PyTorch.

    Raises
    ------
    ValueError
        Where the features are not those of training.
    """
    with torch_threads(n_threads):
        write_vectors(shards, vectors_by(model), frames_path, index_path)


def vectors_by(model: str | Path) -> Callable[[Shard, Sequence[str]], np.ndarray]:
    """Return what gives a trained system's vectors of some clips, all with audio, of a shard of its features.

    Parameters
    ----------
    model : str or Path
        Folder of the trained system.
    """
    record = json.loads(Path(model, "config.json").read_text(encoding="utf-8"))
    if record["model"] == "organisers":
        trained = load_trained(model)
        # A generator of its own for weights that are replaced at once: the global one stays as it was.
        size = len(trained.standardisation.mean), len(trained.countries)
        network = make_network(trained.config, trained.trained_tasks, *size, torch.Generator())
        network.load_state_dict(trained.state)
        return partial(_trunk_vectors, trained, network)
    trained = load_sequence(model, _KINDS)
    return partial(_pooled_vectors, trained.network().to(trained.training_config.placement()))


def _trunk_vectors(
    trained: TrainedMlp, network: OrganisersNetwork, shard: Shard, clip_ids: Sequence[str]
) -> np.ndarray:
    (features,) = read_utterances(shard, [clip_ids])
    if trained.features_digest not in (None, names_digest(features.names)):
        raise ValueError(f"{shard[0]}: not the features that the model was trained on")
    inputs = torch.from_numpy(trained.standardisation.apply(features.values, overwrite=True))
    with torch.no_grad():
        return network.trunk(inputs).numpy()


def _pooled_vectors(network: nn.Module, shard: Shard, clip_ids: Sequence[str]) -> np.ndarray:
    return pooled(network, prediction_batches(FrameStore([shard]), clip_ids)).numpy()


@torch.no_grad()
def pooled(network: nn.Module, batches: Batches) -> Tensor:
    """Return the pooled vectors of clips, task by task side by side, on the CPU.

    Parameters
    ----------
    network : nn.Module
        With one `exvo.models.decoder.MultitaskDecoder`, wherever in it, ready to predict.
    batches : Batches

    Returns
    -------
    Tensor [shape=(n_clips, n_tasks * d_in), float32]
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
    try:
        parts = []
        for batch in batches:
            network(batch.frames.to(device), batch.lengths.to(device))
            parts.append((batch.rows, dict(taken)))
    finally:
        for hook in hooks:
            hook.remove()
    vectors = in_order(parts)
    return torch.cat([vectors[task] for task in decoder.tasks], dim=1)
