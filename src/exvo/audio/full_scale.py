"""Scale audio that overshoots down to full scale, because clipping would distort it.

The output of a filter or decoder can have a higher peak than its input: between the samples, where a removed
component had cancelled part of a peak, or where a lossy codec overshoots.
"""

import numpy as np


def within_full_scale(audio: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale a signal down to full scale if its peak exceeds it.

    Parameters
    ----------
    audio : np.ndarray [shape=(n_samples,), float32]
        Finite.

    Returns
    -------
    audio : np.ndarray [shape=(n_samples,), float32]
        In [-1, 1]; the same array if no scaling is needed.
    gain_db : float
        Gain applied, in dB; 0 or below.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    if peak <= 1.0:
        return audio, 0.0
    gain = 1.0 / peak
    return (audio * gain).astype(np.float32), 20 * float(np.log10(gain))
