"""Mel cepstra of stored log-mel frames: what the first clusters of HuBERT's pre-training are made of.

Source: Hsu et al., "HuBERT", IEEE/ACM TASLP 2021, section IV.B: 13 coefficients with their first and second
derivatives. Here they come from the log-mel frames that are on disk already, one vector per frame of the encoder.
"""

import numpy as np
import scipy.fft

# Log-mel frames of 10 ms that make one frame of the encoder.
STACK = 2
N_COEFFICIENTS = 13
# Sine lifter of Kaldi and HTK: without it, c0 (loudness) outweighs all other coefficients.
_LIFTER = 22
# Derivatives are slopes over so many frames to each side.
_REACH = 2


def mfcc(logmel: np.ndarray) -> np.ndarray:
    """Return cepstra with derivatives, averaged over pairs of frames.

    Parameters
    ----------
    logmel : np.ndarray [shape=(n_frames, n_mels)]
        Natural logarithm of the mel power, a frame every 10 ms, at least one.

    Returns
    -------
    np.ndarray [shape=(n_frames // 2, 39), float32]
        13 coefficients, their slopes and the slopes of these, per 10 ms. Frame ``s`` is the mean over the log-mel
        frames ``2 s`` and ``2 s + 1``.
    """
    cepstra = scipy.fft.dct(np.asarray(logmel, np.float32), norm="ortho", axis=1)[:, :N_COEFFICIENTS]
    order = np.arange(N_COEFFICIENTS)
    cepstra *= (1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER)).astype(np.float32)
    slopes = deltas(cepstra)
    return pair_means(np.concatenate([cepstra, slopes, deltas(slopes)], axis=1))


def deltas(values: np.ndarray) -> np.ndarray:
    """Return the slope of every column by least squares over five frames; the ends are repeated.

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
    """Return the means of frames 0 and 1, 2 and 3, ...; the last of an odd number is left out, as the encoder does.

    Parameters
    ----------
    values : np.ndarray [shape=(n_frames, n_columns)]
    """
    n_pairs = len(values) // STACK
    return values[: n_pairs * STACK].reshape(n_pairs, STACK, values.shape[1]).mean(axis=1)
