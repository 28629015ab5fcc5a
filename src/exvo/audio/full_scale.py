"""Bring audio that overshoots back to full scale: scaled as a whole, for clipping would distort it.

What comes out of a filter or a decoder can be higher than what went in: between the samples, where parts are removed
that had opposed a peak, or where a lossy codec overshoots.
"""

import numpy as np


def within_full_scale(audio: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale a signal down to full scale where its peak lies beyond.

    Parameters
    ----------
    audio : np.ndarray [shape=(n_samples,), float32]
        Finite.

    Returns
    -------
    audio : np.ndarray [shape=(n_samples,), float32]
        In [-1, 1]; the signal itself where it is there already.
    gain_db : float
        In dB; 0 or below.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    if peak <= 1.0:
        return audio, 0.0
    gain = 1.0 / peak
    return (audio * gain).astype(np.float32), 20 * float(np.log10(gain))
