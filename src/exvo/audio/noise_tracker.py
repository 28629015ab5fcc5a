"""Noise power of one clip, per block of frames and frequency bin, for the denoise stage.

A vocal burst may start at sample 0, so the first frames are no reliable noise estimate. The complete clip is
available, so the noise is estimated in five steps (all ours, based on the sources given):

1. *Pauses*: frames in which every band is at its lowest steady level (:mod:`exvo.audio.pauses`).
2. *Evidence*: the number of pause frames, reduced where they scatter more than stationary noise. Breath drifts; noise
   does not.
3. *Bound*: an upper limit of the noise. A clip without a pause has voice even in its quietest frames. Minimum
   statistics (Martin 2001, IEEE Trans. Speech Audio Process. 9(5)) per bin find the gaps in time. A low percentile
   over the neighbouring bins finds the gaps between harmonics, for low voices also in longer frames. The bound is a
   multiple of the level in the gaps. It rises with the evidence for a pause, so that hum and tones count as noise
   only where there is a pause.
4. *Doubt*: without evidence, the noise is assumed to lie far below the voice. An estimate that is too low leaves the
   clip unchanged; an estimate that is too high damages it.
5. *Updates*: in each block, near pause frames have the largest weight, so that the estimate follows slow changes.

An earlier filter may have emptied complete bands (the high-pass stage, a telephone, a codec). The neighbourhood of
step 3 therefore lies once below and once above each bin, and the higher percentile is used.

All functions process one clip at a time, so that clips of a batch cannot affect each other.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
from scipy.ndimage import rank_filter, uniform_filter1d

from exvo.audio.pauses import (
    MIN_PAUSE_FRAMES,
    band_levels,
    band_sd_db,
    evidence_frames,
    find_pauses,
    mean_of_three,
)
from exvo.util.settings import Bounds, Count, NotNegative, Positive, PositiveShare

# Number of highest non-empty bands. Each is wide enough to separate stationary noise from breath by itself.
N_WIDE = 3
N_AVERAGED = 3  # frames averaged before the minimum over time is taken
# A clip has few long frames, so their minimum is low by chance; only clearly lower gaps count.
FINE_MARGIN = 2.5
NO_EVIDENCE_FRAMES = 6.0  # this many frames of breath can be as steady as noise by chance
LOUD_QUANTILE = 0.9  # quantile of the frame levels that represents the voice
EMPTY_DB = 50.0  # a band this far below the loudest is empty: leakage into it does not indicate pauses
LIFT_FROM_DB, LIFT_PER_DB = (
    5.0,
    20.0,
)  # rise of the bound with the power of the loud frames over that of the pauses
MOST_LIFT_DB = 100.0  # more than the attenuation of any filter
MOST_SLOPE = 12.0 / 10 * np.log(10)  # per octave; only a filter causes a steeper spectrum


@dataclass(frozen=True)
class NoiseConfig:
    """How the noise of a clip is estimated.

    Attributes
    ----------
    quiet_fraction : float
        Share of the frames, quietest in a band, from which the search for pauses starts.
    valley_fraction : float
        Share of the averaged periodograms, lowest in a bin, that make the minimum statistics.
    valley_width_hz : float
        Width of the neighbourhood that is searched for gaps between harmonics, half of it below a bin and half above,
        in Hz. It has to be wider than the spacing of the harmonics.
    valley_percentile : float
        Percentile over each half of that neighbourhood; the higher of the two counts.
    fine_factor : int
        Gaps are also searched for in frames this many times as long, which separates the harmonics of low voices; 1
        uses the denoiser's frames only.
    bound_db : float
        Maximum of the noise above the minimum statistics where no pause is found, in dB; lower values protect steady
        voices, higher values find more noise.
    safe_db : float
        Without evidence of a pause, the noise is assumed at least this far below the loud frames, in dB; higher values
        protect bursts without a pause, lower values remove noise where pauses are short.
    evidence_db : float
        Reduction of ``safe_db`` by each frame of stationary noise, in dB (every second frame is examined).
    follow_ms : float
        Time constant at which the weight of a pause falls with its distance, in ms.
    block_ms : float
        Length of the blocks over which the noise is constant, in ms.
    prior_frames : float
        Weight of the clip's overall noise in each block, in pause frames (every second frame is examined).
    noise_floor_db : float
        Minimum noise in any bin, in dB relative to full scale (as white noise with that power in each bin).
    """

    quiet_fraction: PositiveShare = 0.1
    valley_fraction: PositiveShare = 0.1
    valley_width_hz: Positive = 1200.0
    valley_percentile: Annotated[float, Bounds(at_least=0, at_most=100)] = 15.0
    fine_factor: Count = 4
    bound_db: float = 8.5
    safe_db: NotNegative = 40.0
    evidence_db: Positive = 2.0
    follow_ms: Positive = 500.0
    block_ms: Positive = 128.0
    prior_frames: NotNegative = 16.0
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
        Power spectrum of each frame; neighbouring frames overlap by about half.
    config : NoiseConfig
        Settings of the estimate.
    bin_hz : float
        Distance between bins in hertz.
    frames_per_block : int
        Frames per block; a block has one estimate.
    floor : float
        Lowest noise power, in the unit of ``power``. Frames with less than a tenth of it are digital silence and are
        not used.
    fine : np.ndarray, shape=(n_fine_frames, factor * (n_bins - 1) + 1), optional
        Power spectrum of frames ``factor`` times as long, scaled so that noise has the same mean as in ``power``.

    Returns
    -------
    np.ndarray, shape=(n_blocks, n_bins)
        Noise power in blocks of ``frames_per_block`` frames, in the unit of ``power``, at least ``floor``.
    """
    n_frames, n_bins = power.shape
    n_blocks = -(-n_frames // frames_per_block)
    live = power.mean(axis=1) > 0.1 * floor
    live_power = power if live.all() else power[live]
    if len(live_power) < MIN_PAUSE_FRAMES:
        return np.full((n_blocks, n_bins), floor, power.dtype)
    floored = _at_least(live_power, 1e-3 * floor)
    levels, widths = band_levels(floored, bin_hz)
    sd = band_sd_db(widths)

    loud = np.quantile(levels, LOUD_QUANTILE, axis=0)
    filled = np.flatnonzero(loud > loud.max() - EMPTY_DB)
    pause, evidence = _pauses_and_evidence(levels[:, filled], sd[filled], config)
    wide = [_pauses_and_evidence(levels[:, [band]], sd[[band]], config)[1] for band in filled[-N_WIDE:]]
    known = max(evidence, float(np.median(wide)))
    known_db = config.evidence_db * max(known - NO_EVIDENCE_FRAMES, 0.0)
    pause_db = config.evidence_db * max(evidence - NO_EVIDENCE_FRAMES, 0.0)
    if pause.any():
        noise, quiet = live_power[pause].mean(axis=0), levels[pause].mean(axis=0)
    else:
        noise, quiet = _quiet(floored, levels, widths, config)
    lift = 10 ** (min(pause_db, _lift_db(live_power, pause)) / 10)
    bound = np.maximum(lift * _bound(floored, fine, config, bin_hz, floor), floor)
    doubt_db = np.maximum(config.safe_db - (loud - quiet) - known_db, 0.0)
    doubt = np.repeat(10 ** (-doubt_db / 10), widths)
    noise = np.minimum(noise, bound)

    pauses = np.zeros(n_frames, bool)
    pauses[live] = pause
    updated = _follow_pauses(power, pauses, noise, config, frames_per_block)
    return np.maximum(np.minimum(updated, bound) * doubt, floor).astype(power.dtype)


def _pauses_and_evidence(levels: np.ndarray, sd: np.ndarray, config: NoiseConfig) -> tuple[np.ndarray, float]:
    pause = find_pauses(levels, sd, config.quiet_fraction)
    return pause, evidence_frames(levels, pause, sd)


def _at_least(power: np.ndarray, floor: float) -> np.ndarray:
    # numpy compares with a row in half the time of a comparison with a number
    return np.maximum(power, np.full(power.shape[1], floor, power.dtype))


def _quiet(
    power: np.ndarray, levels: np.ndarray, widths: np.ndarray, config: NoiseConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return power and levels of the quietest frames of a clip without a pause.

    A voice that fades in or out spans many dB in these frames, so the loudest frame would dominate their mean power.
    The returned power is instead that of stationary noise with the same mean logarithm.
    """
    n_quiet = min(len(power), max(MIN_PAUSE_FRAMES, int(config.quiet_fraction * len(power))))
    rows = np.argsort(levels @ widths, kind="stable")[:n_quiet]
    noise = np.exp(np.log(power[rows]).mean(axis=0) + np.euler_gamma)
    return noise, levels[rows].mean(axis=0)


def _lift_db(power: np.ndarray, pause: np.ndarray) -> float:
    """Return the largest rise of the bound in dB; 0 where the loud frames have little more power than the pauses."""
    if not pause.any():
        return 0.0
    total = mean_of_three(power.sum(axis=1))
    over_db = 10 * np.log10(np.quantile(total, LOUD_QUANTILE) / total[pause].mean())
    return min(LIFT_PER_DB * max(float(over_db) - LIFT_FROM_DB, 0.0), MOST_LIFT_DB)


def _bound(
    power: np.ndarray, fine: np.ndarray | None, config: NoiseConfig, bin_hz: float, floor: float
) -> np.ndarray:
    """Return the upper limit of the noise in each bin, from the gaps in time and between harmonics."""
    gaps = _gaps(power, config, bin_hz)
    if fine is not None:
        live = fine.mean(axis=1) > 0.1 * floor
        fine = fine if live.all() else fine[live]
        if len(fine):
            fine_gaps = _gaps(_at_least(fine, 1e-3 * floor), config, bin_hz, len(gaps))
            gaps = np.minimum(gaps, FINE_MARGIN * fine_gaps)
    return 10 ** (config.bound_db / 10) * gaps


def _gaps(power: np.ndarray, config: NoiseConfig, bin_hz: float, n_out: int | None = None) -> np.ndarray:
    n_frames, n_bins = power.shape
    every = 1 if n_out is None else (n_bins - 1) // (n_out - 1)
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

    # Coloured noise has a slope within the neighbourhood, steep at low frequencies, which is removed first.
    slope = _slope(low) * _octaves(n_bins)
    half = max(1, int(config.valley_width_hz / bin_hz / 2)) * every
    rank = int(config.valley_percentile / 100 * half)
    # Percentile over the bins from half // 2 below to half // 2 above. Shifted by half // 2, this is the neighbourhood
    # above or below a bin.
    low_percentile = rank_filter(low - slope, rank, size=half + 1, mode="reflect")
    shift = half // 2
    gaps = low_percentile.copy()
    gaps[: n_bins - shift] = low_percentile[shift:]
    gaps[shift:] = np.maximum(gaps[shift:], low_percentile[: n_bins - shift])
    smooth = uniform_filter1d(gaps[::every], half // every + 1, mode="nearest")
    return np.exp(slope[::every] + smooth).astype(power.dtype)


@cache
def _octaves(n_bins: int) -> np.ndarray:
    """Return the distance of each bin from the first bin above DC, in octaves."""
    return np.log2(np.maximum(np.arange(n_bins), 1))


def _slope(level: np.ndarray) -> float:
    """Return the median difference between bins an octave apart. Bins emptied by a filter do not affect it."""
    n_octaves = (len(level) - 1) // 2
    difference = level[2 : 2 * n_octaves + 1 : 2] - level[1 : n_octaves + 1]
    return float(np.clip(np.median(difference), -MOST_SLOPE, MOST_SLOPE)) if n_octaves else 0.0


def _follow_pauses(
    power: np.ndarray, pauses: np.ndarray, noise: np.ndarray, config: NoiseConfig, frames_per_block: int
) -> np.ndarray:
    rows = np.flatnonzero(pauses)
    n_blocks = -(-len(power) // frames_per_block)
    if not len(rows):
        return np.tile(noise, (n_blocks, 1))
    blocks, firsts, n_pauses = np.unique(rows // frames_per_block, return_index=True, return_counts=True)
    distance = np.abs(np.arange(n_blocks)[:, None] - blocks)
    nearness = np.exp(-config.block_ms / config.follow_ms) ** distance
    total = nearness @ np.add.reduceat(power[rows], firsts, axis=0).astype(np.float64)
    weight = nearness @ n_pauses.astype(np.float64)
    prior = config.prior_frames
    return (total + prior * noise) / (weight + prior)[:, None]
