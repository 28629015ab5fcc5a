"""Pauses of one clip: frames in which every band is at its lowest steady level, and what they prove.

Noise that is stationary scatters around its level by a known amount: the logarithm of one bin's power has a standard
deviation of ``10 / ln 10 * pi / sqrt(6)`` = 5.57 dB (the power is exponentially distributed), the mean over a band the
less, the wider the band. Frames of breath drift, and so scatter more.
"""

import numpy as np

BAND_EDGES_HZ = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)  # a pause must be quiet in each of these bands
BAND_SD_DB = 4.55  # of a band's level in stationary noise, times the root of its bins; see `band_sd_db`
TOLERANCE_SD, TOLERANCE_DB = 3.0, 0.5  # a pause frame may lie so many SD and dB over the mean of the pauses
MIN_PAUSE_FRAMES = 4  # fewer pause frames than this are no estimate


def band_levels(power: np.ndarray, bin_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the level of each band in each frame.

    Parameters
    ----------
    power : np.ndarray, shape=(n_frames, n_bins)
        Power spectra, positive.
    bin_hz : float
        Distance between bins in hertz.

    Returns
    -------
    levels : np.ndarray, shape=(n_frames, n_bands)
        In dB: the mean of the logarithm over the band and over three frames. It ranks frames by all bins alike; the
        energy would rank by the few loudest bins of coloured noise, and choosing its chance minima there
        underestimates it.
    widths : np.ndarray, shape=(n_bands,)
        Bins of each band.
    """
    n_bins = power.shape[1]
    edges = [round(hz / bin_hz) for hz in BAND_EDGES_HZ if hz / bin_hz < n_bins - 1]
    widths = np.diff([*edges, n_bins])
    levels = 10 / np.log(10) * np.add.reduceat(np.log(power), edges, axis=1) / widths
    return mean_of_three(levels), widths


def mean_of_three(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row and its two neighbours; the first and the last are their own neighbours."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def band_sd_db(widths: np.ndarray) -> np.ndarray:
    """Return the standard deviation of a band's level in stationary Gaussian noise, in dB.

    Parameters
    ----------
    widths : np.ndarray, shape=(n_bands,)
        Bins of each band.

    Returns
    -------
    np.ndarray, shape=(n_bands,)
        Of levels as `band_levels` gives them. Neighbouring bins under a Hann window correlate by 4 / 9 in power, and
        frames that overlap by half by 1 / 36, which makes ``5.57 * sqrt(1.94 / 2.9 / width)``.
    """
    return BAND_SD_DB / np.sqrt(widths)


def find_pauses(levels: np.ndarray, sd: np.ndarray, quiet_fraction: float) -> np.ndarray:
    """Find the frames in which every band is at its lowest steady level.

    Parameters
    ----------
    levels : np.ndarray, shape=(n_frames, n_bands)
        Levels of the bands in dB.
    sd : np.ndarray, shape=(n_bands,)
        Their standard deviations in stationary noise, in dB.
    quiet_fraction : float
        Share of the frames from whose mean the search starts, in each band.

    Returns
    -------
    np.ndarray, shape=(n_frames,), bool
        No frame at all where fewer than four fit together.
    """
    n_quiet = max(MIN_PAUSE_FRAMES, int(quiet_fraction * len(levels)))
    quiet = np.partition(levels, n_quiet - 1, axis=0)[:n_quiet].mean(axis=0)
    for _ in range(3):
        pause = (levels < quiet + TOLERANCE_SD * sd + TOLERANCE_DB).all(axis=1)
        if pause.sum() < MIN_PAUSE_FRAMES:
            return np.zeros(len(levels), bool)
        quiet = levels[pause].mean(axis=0)
    return pause


def evidence_frames(levels: np.ndarray, pause: np.ndarray, sd: np.ndarray) -> float:
    """Count pause frames, for less where they scatter more than stationary noise.

    Parameters
    ----------
    levels, sd
        As for `find_pauses`.
    pause : np.ndarray, shape=(n_frames,), bool

    Returns
    -------
    float
        The number of frames over the mean ratio of their variance to that of stationary noise, where that is over 1.
    """
    if not pause.any():
        return 0.0
    ratio = float(np.mean((levels[pause].std(axis=0) / sd) ** 2))
    return float(pause.sum()) / max(ratio, 1.0)
