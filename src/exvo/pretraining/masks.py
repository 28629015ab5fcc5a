"""Span masks of masked prediction: the frames of a clip that an encoder has to predict."""

import numpy as np


def span_mask(n_frames: int, share: float, span: int, rng: np.random.Generator) -> np.ndarray:
    """Mask a share of the frames of a clip with spans that may overlap and extend beyond its ends.

    HuBERT draws a number of spans, which can cover any share of a short clip, from none to all. Here spans are placed
    in random order until exactly the given share is covered, and the last one is shortened (ours).

    Parameters
    ----------
    n_frames : int
        At least 2. At least one frame is masked and at least one is not, for any share.
    share : float
        Share of masked frames, rounded to an integer number of frames.
    span : int
        Length of a span in frames, at most the number of masked frames.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n_frames,), bool]

    Raises
    ------
    ValueError
        Where a clip has fewer than 2 frames.
    """
    if n_frames < 2:
        raise ValueError(
            f"mask: a clip of {n_frames} frame(s) cannot be partly masked; at least 2 are needed"
        )
    n_masked = min(max(round(share * n_frames), 1), n_frames - 1)
    span = min(span, n_masked)
    # The rank, in the random order, of the spans that start at frames -(span - 1), ..., n_frames - 1.
    turn = rng.permutation(n_frames + span - 1)
    covered = np.lib.stride_tricks.sliding_window_view(turn, span).min(axis=1)
    mask = np.zeros(n_frames, dtype=bool)
    mask[np.argsort(covered, kind="stable")[:n_masked]] = True
    # The shortened span keeps its first frames, so the mask is reversed half of the time.
    return mask[::-1].copy() if rng.random() < 0.5 else mask
