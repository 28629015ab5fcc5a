"""Pauses of one clip: frames in which every band is at its lowest steady level, and how strong that evidence is.

Stationary noise scatters around its level by a known amount. The power of one bin is exponentially distributed, so
its logarithm has a standard deviation of ``10 / ln 10 * pi / sqrt(6)`` = 5.57 dB. The mean over a band scatters less,
the wider the band. The level of breath drifts, so its frames scatter more.
"""

import numpy as np

BAND_EDGES_HZ = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)  # a pause is quiet in each of these bands
BAND_SD_DB = (
    4.55  # SD of a band's level in stationary noise, times the square root of its bins; see `band_sd_db`
)
TOLERANCE_SD, TOLERANCE_DB = (
    3.0,
    0.5,
)  # SD plus dB by which a pause frame may exceed the mean of the pauses
MIN_PAUSE_FRAMES = 4  # fewer pause frames than this give no estimate


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
        In dB: the mean of the logarithm over the band and over three frames. All bins have equal weight. The energy
        would depend on the few loudest bins of coloured noise, and selecting its chance minima would underestimate
        the noise.
    widths : np.ndarray, shape=(n_bands,)
        Number of bins in each band.
    """
    n_bins = power.shape[1]
    edges = [round(hz / bin_hz) for hz in BAND_EDGES_HZ if hz / bin_hz < n_bins - 1]
    widths = np.diff([*edges, n_bins])
    levels = 10 / np.log(10) * np.add.reduceat(np.log(power), edges, axis=1) / widths
    return mean_of_three(levels), widths


def mean_of_three(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row and its two neighbours. The first and the last row are repeated at the ends."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def band_sd_db(widths: np.ndarray) -> np.ndarray:
    """Return the standard deviation of a band's level in stationary Gaussian noise, in dB.

    Parameters
    ----------
    widths : np.ndarray, shape=(n_bands,)
        Number of bins in each band.

    Returns
    -------
    np.ndarray, shape=(n_bands,)
        SD of the levels from `band_levels`. The powers of neighbouring bins under a Hann window have a correlation of
        4 / 9, and those of frames that overlap by half 1 / 36. This gives ``5.57 * sqrt(1.94 / 2.9 / width)``.
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
        Share of the frames, quietest in each band, whose mean starts the search.

    Returns
    -------
    np.ndarray, shape=(n_frames,), bool
        All False where fewer than four frames qualify.
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
    """Count pause frames, reduced where they scatter more than stationary noise.

    Parameters
    ----------
    levels, sd
        As for `find_pauses`.
    pause : np.ndarray, shape=(n_frames,), bool

    Returns
    -------
    float
        The number of frames, divided by the mean ratio of their variance to that of stationary noise if above 1.
    """
    if not pause.any():
        return 0.0
    ratio = float(np.mean((levels[pause].std(axis=0) / sd) ** 2))
    return float(pause.sum()) / max(ratio, 1.0)
