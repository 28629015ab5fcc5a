"""Predictions of a trained network for clips, with or without audio.

This module imports no network, so that an edit of one network does not retrain the others.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from exvo.evaluation.predictions import Predictions
from exvo.networks.torch_setup import device_name, torch_threads
from exvo.training.batches import Batch, Batches, whole_batches
from exvo.training.frames import ClipStore
from exvo.training.outputs import task_arrays
from exvo.training.results import predictions_or_priors
from exvo.training.trained import Trained
from exvo.training.vectors import VectorStore, check_features, vector_batches

# Maximum number of clips and of frames, padding included, in a batch of prediction: 160 s of log-mel. For frames with
# thousands of channels, the limit is 50 MB.
_PREDICT_CLIPS = 64
_PREDICT_FRAMES = 16_000
_PREDICT_NUMBERS = 12_800_000


def predict_clips(
    trained: Trained, store: ClipStore, clip_ids: np.ndarray, n_threads: int = 1
) -> Predictions:
    """Predict clips; clips without audio get the prior of the training set.

    Parameters
    ----------
    trained : Trained
    store : ClipStore
        Store with a row for every clip.
    clip_ids : np.ndarray [shape=(n,), str]
    n_threads : int
        Threads of PyTorch during the call.

    Returns
    -------
    Predictions
        In the order of ``clip_ids``.
    """

    def predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return predict_arrays(trained, store, clip_ids[rows], n_threads=n_threads)

    return predictions_or_priors(
        clip_ids, store.has_audio(clip_ids), trained.priors, trained.countries, predict
    )


def predict_arrays(
    trained: Trained, store: ClipStore, clip_ids: Sequence[str], *, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict clips with audio.

    Parameters
    ----------
    trained : Trained
    store : ClipStore
    clip_ids : sequence of str
        All with audio.
    n_threads : int
        Threads of PyTorch during the call.

    Returns
    -------
    emotion : np.ndarray [shape=(n_clips, 10), float64]
        0 for an emotion without labels in Train.
    age : np.ndarray [shape=(n_clips,), float64]
        In years.
    country : np.ndarray [shape=(n_clips, n_countries), float64]
        Probabilities.
        A task that the system does not predict, or without labels in Train, is NaN.
    """
    check_features(store, trained.n_channels, trained.features_digest)
    network = trained.network().to(device_name(trained.training_config.device))
    with torch_threads(n_threads):
        outputs = network_outputs(network, prediction_batches(store, clip_ids))
    return task_arrays(outputs, len(clip_ids), len(trained.countries), trained.untrained)


def prediction_batches(store: ClipStore, clip_ids: Sequence[str]) -> Batches[Batch]:
    """Return batches of complete clips for prediction."""
    if isinstance(store, VectorStore):
        return vector_batches(store, clip_ids)
    max_frames = min(_PREDICT_FRAMES, _PREDICT_NUMBERS // store.n_channels)
    return whole_batches(store, clip_ids, batch_size=_PREDICT_CLIPS, max_batch_frames=max_frames)


@torch.no_grad()
def network_outputs(network: nn.Module, batches: Batches[Batch]) -> dict[str, Tensor]:
    """Return the outputs of a network for the clips of all batches, in the order of the clips, on the CPU."""
    device = next(network.parameters()).device
    parts = [(batch.rows, network(batch.frames.to(device), batch.lengths.to(device))) for batch in batches]
    return in_order(parts)


def in_order(parts: Sequence[tuple[Tensor, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """Concatenate the outputs of batches in the order of the clips, in float32 on the CPU.

    Parameters
    ----------
    parts : sequence of (rows, outputs)
        For each batch, the rows of its clips and its outputs by task, including those of padding.
    """
    if not parts:
        return {}
    place = torch.argsort(torch.cat([rows.cpu() for rows, _ in parts]))
    return {
        task: torch.cat([out[task][: len(rows)].float().cpu() for rows, out in parts])[place]
        for task in parts[0][1]
    }
