"""Span masks of masked prediction: which frames of a clip an encoder has to guess."""

import numpy as np


def span_mask(n_frames: int, share: float, span: int, rng: np.random.Generator) -> np.ndarray:
    """Mask a share of the frames of a clip by spans that may overlap and run over its ends.

    HuBERT draws a number of spans, and on short clips the share that they cover scatters between none and all. Here
    spans are laid down in random order until exactly the share is covered (ours); the last one is cut.

    Parameters
    ----------
    n_frames : int
        At least 2: one frame stays seen and one is masked, whatever the share.
    share : float
        Of the frames, rounded to whole frames.
    span : int
        Length of a span in frames; a shorter one where the share is shorter.
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
        raise ValueError(f"mask: a clip of {n_frames} frame(s) cannot be masked in part")
    n_masked = min(max(round(share * n_frames), 1), n_frames - 1)
    span = min(span, n_masked)
    # The place, in the random order, of the span that starts (or would have started) span - 1 frames before 0, ...
    turn = rng.permutation(n_frames + span - 1)
    covered = np.lib.stride_tricks.sliding_window_view(turn, span).min(axis=1)
    mask = np.zeros(n_frames, dtype=bool)
    mask[np.argsort(covered, kind="stable")[:n_masked]] = True
    # The last span keeps its first frames; seen from either end alike.
    return mask[::-1].copy() if rng.random() < 0.5 else mask
