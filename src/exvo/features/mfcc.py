"""MFCCs from stored log-mel frames, for the first clusters of HuBERT pre-training.

Source: Hsu et al., "HuBERT", IEEE/ACM TASLP 2021, section IV.B: 13 coefficients with their first and second
derivatives. Here they are computed from the stored log-mel frames, one vector per frame of the encoder.
"""

import numpy as np
import scipy.fft

# Log-mel frames of 10 ms per frame of the encoder.
STACK = 2
N_COEFFICIENTS = 13
# Sine lifter of Kaldi and HTK. Without it, c0 (loudness) dominates all other coefficients.
_LIFTER = 22
# Derivatives are slopes over this many frames to each side.
_REACH = 2


def mfcc(logmel: np.ndarray) -> np.ndarray:
    """Return MFCCs with derivatives, averaged over pairs of frames.

    Parameters
    ----------
    logmel : np.ndarray [shape=(n_frames, n_mels)]
        Natural logarithm of the mel power, one frame every 10 ms, at least one frame.

    Returns
    -------
    np.ndarray [shape=(n_frames // 2, 39), float32]
        13 coefficients, their slopes and the slopes of the slopes, per 10 ms. Frame ``s`` is the mean over the
        log-mel frames ``2 s`` and ``2 s + 1``.
    """
    cepstra = scipy.fft.dct(np.asarray(logmel, np.float32), norm="ortho", axis=1)[:, :N_COEFFICIENTS]
    order = np.arange(N_COEFFICIENTS)
    cepstra *= (1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER)).astype(np.float32)
    slopes = deltas(cepstra)
    return pair_means(np.concatenate([cepstra, slopes, deltas(slopes)], axis=1))


def deltas(values: np.ndarray) -> np.ndarray:
    """Return the least-squares slope of every column over five frames, with repeated end frames.

    Parameters
    ----------
    values : np.ndarray [shape=(n_frames, n_columns)]
    """
    n_frames = len(values)
    padded = np.pad(values, ((_REACH, _REACH), (0, 0)), mode="edge")

    def shifted(by: int) -> np.ndarray:
        return padded[_REACH + by : _REACH + by + n_frames]

    reach = range(1, _REACH + 1)
    return sum(k * (shifted(k) - shifted(-k)) for k in reach) / np.float32(2 * sum(k * k for k in reach))


def pair_means(values: np.ndarray) -> np.ndarray:
    """Return the means of frames 0 and 1, 2 and 3, ... An odd last frame is dropped, as in the encoder.

    Parameters
    ----------
    values : np.ndarray [shape=(n_frames, n_columns)]
    """
    n_pairs = len(values) // STACK
    return values[: n_pairs * STACK].reshape(n_pairs, STACK, values.shape[1]).mean(axis=1)
