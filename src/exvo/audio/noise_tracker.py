"""Noise power of one clip, per block of frames and frequency bin, for the denoise stage.

A vocal burst may start at sample 0, so the opening frames cannot be trusted. As the whole clip is at hand,
its noise is found in four steps (all ours; the parts they build on are named):

1. *quiet*: the mean power of the quietest frames, wherever they are (opening frames, if the clip starts
   with silence);
2. *bound*: a clip without any pause has speech in its quietest frames. Minimum statistics (Martin 2001,
   IEEE Trans. Speech Audio Process. 9(5)) per bin find the gaps in time, and a low percentile over
   neighbouring bins the gaps between harmonics, for low voices also in longer frames; a few times that is
   the most the noise may be;
3. *pauses*: frames in which no band rises above what the noise of steps 1 and 2 explains; their mean power
   replaces it;
4. *updates*: in each block the pause frames nearby count most, so that the noise follows slow changes in
   the speech pauses.

Everything here sees one clip at a time: nothing can leak from one clip of a batch to another.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import rank_filter, uniform_filter1d

BAND_EDGES_HZ = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)  # a pause must be quiet in each of these bands
N_AVERAGED = 3  # frames averaged before the minimum over time is taken
FINE_MARGIN = (
    2.5  # long frames of noise are few, and their minimum is low by chance; only clearly lower gaps count
)
MIN_PAUSE_FRAMES = 4  # fewer pause frames than this are no estimate
RATIO_CAP = 8.0  # one strong bin must not decide for its band


@dataclass(frozen=True)
class NoiseConfig:
    """How the noise of a clip is found.

    Attributes
    ----------
    quiet_fraction : float
        Share of the frames, in (0, 1], whose mean is the first estimate of the noise.
    valley_fraction : float
        Share of the averaged periodograms, in (0, 1], lowest in a bin, which make the minimum statistics.
    valley_width_hz : float
        Width in hertz of the neighbourhood in which gaps between harmonics are looked for; wider than the
        widest spacing expected of low voices.
    valley_percentile : float
        Percentile (0 to 100) over that neighbourhood.
    fine_factor : int
        The gaps are also looked for in frames so many times as long, where the harmonics of low voices stand apart;
        1 looks in the frames of the denoiser only.
    bound_db : float
        The most that the noise may lie above the minimum statistics, in dB. Lower protects steady voices,
        higher finds more noise.
    pause_margin : float
        How far a band's power may exceed the noise in a pause, as a share of the noise (widened in narrow
        bands).
    follow_ms : float
        Time constant, in milliseconds, at which the weight of a pause falls with its distance.
    block_ms : float
        The noise is constant over blocks of this many milliseconds.
    prior_frames : float
        The weight of the clip's overall noise in each block, in pause frames (every second one is looked at).
    noise_floor_db : float
        Lowest noise assumed in any bin, in dB relative to full scale (of white noise with that power in
        each bin).
    """

    quiet_fraction: float = 0.1
    valley_fraction: float = 0.1
    valley_width_hz: float = 1200.0
    valley_percentile: float = 15.0
    fine_factor: int = 4
    bound_db: float = 8.5
    pause_margin: float = 0.5
    follow_ms: float = 500.0
    block_ms: float = 128.0
    prior_frames: float = 16.0
    noise_floor_db: float = -110.0


def track_noise(
    power: np.ndarray,
    config: NoiseConfig,
    *,
    bin_hz: float,
    frames_per_block: int,
    floor: float,
    fine: np.ndarray | None = None,
) -> np.ndarray:
    """Estimate the noise power of one clip over time.

    Parameters
    ----------
    power : np.ndarray, shape=(n_frames, n_bins)
        Power spectrum of each frame.
    config : NoiseConfig
        The choices above.
    bin_hz : float
        Distance between bins in hertz.
    frames_per_block : int
        Frames for which one estimate holds.
    floor : float
        Lowest noise power, in the unit of ``power``; frames with less than a tenth of it are digital
        silence and say nothing of the noise.
    fine : np.ndarray, shape=(n_fine_frames, factor * (n_bins - 1) + 1), optional
        Power spectrum of frames ``factor`` times as long, in the unit of ``power``: noise has the same mean in both.

    Returns
    -------
    np.ndarray, shape=(n_blocks, n_bins)
        Noise power in blocks of ``frames_per_block`` frames, in the unit of ``power``, at least ``floor``.
    """
    n_frames, n_bins = power.shape
    n_blocks = -(-n_frames // frames_per_block)
    live = power.mean(axis=1) > 0.1 * floor
    heard = power if live.all() else power[live]
    if len(heard) < MIN_PAUSE_FRAMES:
        return np.full((n_blocks, n_bins), floor, power.dtype)
    floored = _at_least(heard, 1e-3 * floor)
    valley = _valley(floored, config, bin_hz)
    if fine is not None:
        live_fine = fine.mean(axis=1) > 0.1 * floor
        fine = fine if live_fine.all() else fine[live_fine]
        if len(fine):
            gaps = _valley(_at_least(fine, 1e-3 * floor), config, bin_hz, len(valley))
            valley = np.minimum(valley, FINE_MARGIN * gaps)
    bound = np.maximum(10 ** (config.bound_db / 10) * valley, floor)
    noise = np.minimum(np.maximum(_quiet(floored, config), floor), bound)
    for _ in range(2):
        pause = _is_pause(floored, noise, config, bin_hz)
        if pause.sum() < MIN_PAUSE_FRAMES:
            break
        noise = np.minimum(np.maximum(heard[pause].mean(axis=0), floor), bound)

    pauses = np.zeros(n_frames, bool)
    pauses[live] = pause
    updated = _follow_pauses(power, pauses, noise, config, frames_per_block)
    return np.clip(updated, floor, bound).astype(power.dtype)


def _at_least(power: np.ndarray, floor: float) -> np.ndarray:
    # numpy compares with a row in half the time that it takes with a number
    return np.maximum(power, np.full(power.shape[1], floor, power.dtype))


def _quiet(power: np.ndarray, config: NoiseConfig) -> np.ndarray:
    # The mean of the logarithm ranks frames by all bins alike; the energy would rank by the few loudest
    # bins of coloured noise, and picking its chance minima there underestimates it.
    level = np.log(power).mean(axis=1)
    n_quiet = min(len(power), max(MIN_PAUSE_FRAMES, int(config.quiet_fraction * len(power))))
    return power[np.argsort(level, kind="stable")[:n_quiet]].mean(axis=0)


def _valley(power: np.ndarray, config: NoiseConfig, bin_hz: float, n_out: int | None = None) -> np.ndarray:
    n_frames, n_bins = power.shape
    n_out = n_bins if n_out is None else n_out
    every = (n_bins - 1) // (n_out - 1)
    n_averaged = min(N_AVERAGED, n_frames)
    n_means = n_frames // n_averaged
    used = power[: n_means * n_averaged]
    means = used[::n_averaged].copy()
    for i in range(1, n_averaged):
        means += used[i::n_averaged]
    means /= power.dtype.type(n_averaged)
    n_low = max(1, round(config.valley_fraction * n_means))
    if n_low == 1:
        low = np.log(means.min(axis=0))
    else:
        low = np.log(np.sort(means, axis=0)[:n_low].mean(axis=0))

    # Coloured noise slopes within the neighbourhood, steeply at low frequencies: take the slope out first.
    octave, square = _octaves(n_bins)
    slope = (octave * low).sum() / square * octave
    half = max(1, int(config.valley_width_hz / bin_hz / 2))
    width = 2 * half * every + 1
    rank = int(config.valley_percentile / 100 * (width - 1))
    gaps = rank_filter(low - slope, rank, size=width, mode="nearest")[::every]
    smooth = uniform_filter1d(gaps, 2 * half + 1, mode="nearest")
    return np.exp(slope[::every] + smooth).astype(power.dtype)


@cache
def _octaves(n_bins: int) -> tuple[np.ndarray, float]:
    """Return how many octaves each bin lies above their mean, and the sum of the squares."""
    octave = np.log2(np.maximum(np.arange(n_bins), 1))
    octave = octave - octave.mean()
    return octave, (octave * octave).sum()


def _is_pause(power: np.ndarray, noise: np.ndarray, config: NoiseConfig, bin_hz: float) -> np.ndarray:
    n_bins = len(noise)
    edges = [round(hz / bin_hz) for hz in BAND_EDGES_HZ if hz / bin_hz < n_bins - 1]
    widths = np.diff([*edges, n_bins])
    ratio = power / noise
    np.minimum(ratio, np.full(n_bins, RATIO_CAP, power.dtype), out=ratio)
    bands = np.add.reduceat(ratio, edges, axis=1) / widths
    # Three frames' mean: what one frame of noise does by chance is not speech, what three do is.
    padded = np.concatenate([bands[:1], bands, bands[-1:]])
    smooth = sum(padded[i : i + len(bands)] for i in range(3)) / 3
    return (smooth < 1 + config.pause_margin * np.sqrt(1 + 8 / widths)).all(axis=1)


def _follow_pauses(
    power: np.ndarray, pauses: np.ndarray, noise: np.ndarray, config: NoiseConfig, frames_per_block: int
) -> np.ndarray:
    rows = np.flatnonzero(pauses)
    blocks, firsts, n_pauses = np.unique(rows // frames_per_block, return_index=True, return_counts=True)
    n_blocks = -(-len(power) // frames_per_block)
    distance = np.abs(np.arange(n_blocks)[:, None] - blocks)
    nearness = np.exp(-config.block_ms / config.follow_ms) ** distance
    total = nearness @ np.add.reduceat(power[rows], firsts, axis=0).astype(np.float64)
    weight = nearness @ n_pauses.astype(np.float64)
    prior = config.prior_frames
    return (total + prior * noise) / (weight + prior)[:, None]
