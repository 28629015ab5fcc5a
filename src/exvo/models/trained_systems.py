"""Trained systems that read sequences, read back and asked about clips.

Nothing here trains, so that prediction does without lightning, which takes seconds to import.
"""

from pathlib import Path

import numpy as np

from exvo.models.embedding_network import EmbeddingNetworkConfig
from exvo.models.fine_tuned_network import FineTunedConfig
from exvo.models.joint_network import JointConfig
from exvo.models.results import predictions_or_priors
from exvo.models.sequence_data import FrameStore
from exvo.models.sequence_network import SequenceConfig
from exvo.models.sequence_storage import load_sequence
from exvo.models.trained_sequence import TrainedSequence, predict_sequence
from exvo.predictions import Predictions

KINDS = (SequenceConfig, EmbeddingNetworkConfig, FineTunedConfig, JointConfig)


def load_system(folder: str | Path) -> TrainedSequence:
    """Read the network of a system that reads sequences, or of a joint fusion, of whatever kind it is."""
    return load_sequence(folder, KINDS)


def predict_clips(
    trained: TrainedSequence, store: FrameStore, clip_ids: np.ndarray, n_threads: int = 1
) -> Predictions:
    """Predict clips; those without audio get the Train prior.

    Parameters
    ----------
    trained : TrainedSequence
    store : FrameStore
        With a row for every clip.
    clip_ids : np.ndarray [shape=(n,), str]
    n_threads : int

    Returns
    -------
    Predictions
        In the order of ``clip_ids``.
    """

    def predict(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return predict_sequence(trained, store, clip_ids[rows], n_threads=n_threads)

    return predictions_or_priors(
        clip_ids, store.has_audio(clip_ids), trained.priors, trained.countries, predict
    )
