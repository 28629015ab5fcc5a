"""What a trained network that reads sequences answers for clips, with or without audio.

It knows no kind of network: training of one kind rests on it, and an edit of another kind trains nothing again.
"""

import numpy as np

from exvo.evaluation.predictions import Predictions
from exvo.training.frames import FrameStore
from exvo.training.results import predictions_or_priors
from exvo.training.trained import TrainedSequence, predict_sequence


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
