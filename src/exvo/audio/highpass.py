"""The dc stage: a linear-phase high-pass that removes DC and rumble, then a gain to a common peak.

The paper filters with a linear-phase FIR whose stop band lies below 20 Hz; the edge of its pass band, its
attenuation and the gain rule are ours (FACTS.md, Preprocessing 2). The filter is a Kaiser-window design
(Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", ISCAS 1974). Its group delay is
removed, so a burst starts at the same sample in the input and the output.

Every clip is cut into blocks of one fixed FFT size (overlap-save; Oppenheim & Schafer, "Discrete-Time Signal
Processing", 8.7.3). The blocks of many clips are transformed together, but each block is computed independently.
The output of a clip therefore does not depend on the other clips, to the bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from exvo.util.settings import Negative, Positive

BLOCKS_AT_ONCE = 16  # 1 MB of float64 at 8,192 samples per block: fits in the cache and bounds the memory
FULL_SCALE = 0.999  # |x| from here on counts as clipped: 0.01 dB below full scale
MIN_CLIPPED_PEAK = 0.1  # below -20 dBFS the steps of 16-bit audio flatten the tops of clean waves


@dataclass(frozen=True)
class HighpassConfig:
    """Settings of the stage dc.

    Attributes
    ----------
    stop_hz : float
        Upper edge of the stop band, in Hz (paper: 20).
    pass_hz : float
        Lower edge of the pass band, in Hz (ours: 70, below the pitch of any adult voice).
    stop_db : float
        Minimum attenuation in the stop band, in dB (ours).
    pass_ripple_db : float
        Maximum deviation from 0 dB in the pass band, in dB (ours).
    peak_dbfs : float
        Peak of every clip after the gain, in dB relative to full scale (ours).
    silence_dbfs : float
        A clip whose peak after the filter is lower is silence and gets no gain, in dB relative to full scale (ours).
        The default is half a step of 16-bit audio, below which there is only rounding noise.
    """

    stop_hz: Positive = 20.0
    pass_hz: Positive = 70.0
    stop_db: Positive = 60.0
    pass_ripple_db: Positive = 0.1
    peak_dbfs: Negative = -1.0
    silence_dbfs: Negative = -96.0

    def __post_init__(self) -> None:
        if not 0 < self.stop_hz < self.pass_hz:
            raise ValueError(f"highpass: needs 0 < stop_hz < pass_hz, got {self.stop_hz} and {self.pass_hz}")
        if not (self.stop_db > 0 and self.pass_ripple_db > 0):
            raise ValueError("highpass: stop_db and pass_ripple_db must be positive")
        if not self.silence_dbfs < self.peak_dbfs < 0:
            raise ValueError(
                f"highpass: needs silence_dbfs < peak_dbfs < 0, got {self.silence_dbfs} and {self.peak_dbfs}"
            )


@dataclass(frozen=True)
class HighpassMeasures:
    """Measurements of the dc stage on one clip; NaN where a quantity is undefined.

    Attributes
    ----------
    peak_in_dbfs : float
        Peak of the input, in dB relative to full scale; NaN for an empty or all-zero clip.
    dc_removed : float
        Mean of the input, full scale being 1; NaN for an empty clip.
    power_change_db : float
        Power after the filter over the power of the input including DC, in dB (at most about 0); NaN for a silent
        clip.
    gain_db : float
        Gain applied after the filter, in dB; NaN for a silent clip, to which no gain is applied.
    clip_rate_in, clip_rate_out : float
        Fraction of clipped samples before and after, as `clip_rate` counts them. The rate after the stage shows that
        the stage clips nothing; it does not mean that earlier clipping is repaired. NaN for an empty clip.
    """

    peak_in_dbfs: float
    dc_removed: float
    power_change_db: float
    gain_db: float
    clip_rate_in: float
    clip_rate_out: float


def design_highpass(config: HighpassConfig, sample_rate: int) -> np.ndarray:
    """Design a Kaiser-window high-pass that meets the specification.

    Parameters
    ----------
    config : HighpassConfig
        The edges and tolerances.
    sample_rate : int
        In Hz.

    Returns
    -------
    np.ndarray [shape=(n_taps,), float64]
        Symmetric taps, ``n_taps`` odd: the delay is ``(n_taps - 1) / 2`` samples. The gain at 0 Hz is 0.

    Raises
    ------
    ValueError
        If the pass band starts above the Nyquist frequency.

    Examples
    --------
    >>> taps = design_highpass(HighpassConfig(stop_hz=20, pass_hz=70, stop_db=60), 16000)
    >>> len(taps), bool(abs(taps.sum()) < 1e-12)
    (1341, True)
    >>> shifts = np.exp(-2j * np.pi * np.outer([20, 70, 1000], np.arange(len(taps))) / 16000)
    >>> [round(20 * float(np.log10(gain))) for gain in np.abs(shifts @ taps)]
    [-64, 0, 0]
    """
    if config.pass_hz >= sample_rate / 2:
        raise ValueError(
            f"highpass: pass_hz {config.pass_hz} is not below half the sample rate {sample_rate}"
        )
    # A window design has the same ripple in both bands, so the stricter tolerance applies.
    ripple = min(10 ** (-config.stop_db / 20), 1 - 10 ** (-config.pass_ripple_db / 20))
    level = -20 * np.log10(ripple)
    width = 2 * np.pi * (config.pass_hz - config.stop_hz) / sample_rate
    # Kaiser's formulas are estimates for one edge. A pass band this close to 0 Hz also receives side lobes from the
    # edge at the negative frequency. The design level is therefore raised until the response meets the specification.
    while not _meets(taps := _kaiser_highpass(level, width, config, sample_rate), config, sample_rate):
        level += 0.5
    return taps


def _kaiser_highpass(level: float, width: float, config: HighpassConfig, sample_rate: int) -> np.ndarray:
    """Return the high-pass of Kaiser's formulas for ``level`` dB and a transition of ``width`` rad per sample."""
    half = max(1, int(np.ceil((level - 7.95) / (2.285 * width) / 2)))
    if level > 50:
        beta = 0.1102 * (level - 8.7)
    else:
        beta = 0.5842 * max(level - 21, 0) ** 0.4 + 0.07886 * max(level - 21, 0)
    cutoff = (
        config.stop_hz + config.pass_hz
    ) / sample_rate  # of the low-pass, relative to the Nyquist frequency
    lowpass = np.kaiser(2 * half + 1, beta) * np.sinc(cutoff * np.arange(-half, half + 1))
    taps = -lowpass / lowpass.sum()  # unit gain at 0 Hz, so that the difference has a gain of 0 there
    taps[half] += 1
    return taps


def _meets(taps: np.ndarray, config: HighpassConfig, sample_rate: int) -> bool:
    """Return whether the response meets the specification, on a grid finer than its side lobes."""
    n_fft = 1 << int(np.ceil(np.log2(32 * len(taps))))
    hz = np.append(np.arange(n_fft // 2 + 1) * sample_rate / n_fft, [config.stop_hz, config.pass_hz])
    edges = np.exp(-2j * np.pi * hz[-2:, None] / sample_rate * np.arange(len(taps))) @ taps
    gain_db = 20 * np.log10(np.abs(np.append(np.fft.rfft(taps, n_fft), edges)) + 1e-15)
    stopped = np.all(gain_db[hz <= config.stop_hz] <= -config.stop_db)
    return bool(stopped and np.all(np.abs(gain_db[hz >= config.pass_hz]) <= config.pass_ripple_db))


def highpass_clips(
    signals: Sequence[np.ndarray], sample_rate: int, config: HighpassConfig
) -> tuple[list[np.ndarray], list[HighpassMeasures]]:
    """Remove DC and rumble from clips and scale each to the same peak.

    The mean of a clip is removed before the filter, which reads zeros outside the clip. Otherwise an offset would
    leave a thump of half the length of the filter at either end. A clip may be shorter than the filter, or empty. A
    clip below ``config.silence_dbfs`` after filtering is set to zeros.

    Parameters
    ----------
    signals : sequence of np.ndarray [shape=(n_samples,), float]
        Clips of any length, full scale being 1. They are not modified.
    sample_rate : int
        Sample rate of every clip, in Hz.
    config : HighpassConfig
        The filter and the level.

    Returns
    -------
    filtered : list of np.ndarray [shape=(n_samples,), float32]
        In the order of ``signals``, with their lengths and without delay.
    measures : list of HighpassMeasures
        Measurements of each clip.

    Raises
    ------
    ValueError
        If a clip is not one-dimensional floating point, or holds a sample that is not finite; the message
        gives its index.

    Examples
    --------
    A tone of 200 Hz under an offset and rumble at 10 Hz. The peak is brought to -1 dBFS, 0.891 of full scale.

    >>> import numpy as np
    >>> time = np.arange(16000) / 16000
    >>> tone, rumble = (np.sin(2 * np.pi * hz * time) for hz in (200, 10))
    >>> (clip,), (measures,) = highpass_clips([0.05 + 0.1 * tone + 0.2 * rumble], 16000, HighpassConfig())
    >>> round(measures.dc_removed, 3), round(float(np.abs(clip).max()), 3)
    (0.05, 0.891)
    >>> middle = slice(4000, 12000)
    >>> [round(2 * float(np.mean(clip[middle] * wave[middle])), 2) for wave in (tone, rumble)]
    [0.85, 0.0]
    """
    checked = [check_signal(signal, index) for index, signal in enumerate(signals)]
    means = [float(signal.mean(dtype=np.float64)) if signal.size else np.nan for signal in checked]
    filtered = _convolve(checked, means, design_highpass(config, sample_rate))
    measures = [_set_peak(*parts, config=config) for parts in zip(filtered, checked, means, strict=True)]
    return filtered, measures


def check_signal(signal: np.ndarray, index: int) -> np.ndarray:
    """Return a clip as an array; raise ValueError unless it is one-dimensional, floating point and finite."""
    signal = np.asarray(signal)
    if signal.ndim != 1 or signal.dtype.kind != "f":
        raise ValueError(
            f"clip {index}: expected one-dimensional floating-point samples, "
            f"got {signal.dtype} of shape {signal.shape}"
        )
    if not np.isfinite(signal).all():
        raise ValueError(f"clip {index}: holds samples that are NaN or infinite")
    return signal


def _convolve(signals: list[np.ndarray], offsets: list[float], taps: np.ndarray) -> list[np.ndarray]:
    """Filter ``signal - offset`` for each clip, without delay (overlap-save in float64)."""
    n_taps, half = len(taps), len(taps) // 2
    n_fft = 1 << int(np.ceil(np.log2(4 * n_taps)))  # at most a quarter of a block is overlap
    hop = n_fft - n_taps + 1
    response = np.fft.rfft(taps, n_fft)
    outputs = [np.empty(len(signal), np.float32) for signal in signals]
    blocks = np.zeros((BLOCKS_AT_ONCE, n_fft))
    jobs = [(clip, start) for clip, signal in enumerate(signals) for start in range(0, len(signal), hop)]
    for batch in _batches(jobs):
        for row, (clip, start) in zip(blocks, batch, strict=False):
            # The output [start, start + hop) needs the input half a filter to either side of it.
            first, last = max(0, start - half), min(len(signals[clip]), start + hop + half)
            before, after = first - (start - half), last - (start - half)
            row[:before] = 0
            np.subtract(signals[clip][first:last], offsets[clip], out=row[before:after], dtype=np.float64)
            row[after:] = 0
        spectra = np.fft.rfft(blocks[: len(batch)])
        spectra *= response
        made = np.fft.irfft(spectra, n_fft)
        for row, (clip, start) in zip(made, batch, strict=True):
            piece = outputs[clip][start : start + hop]
            piece[:] = row[n_taps - 1 : n_taps - 1 + len(piece)]
    return outputs


def _batches(jobs: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield the jobs in order, ``BLOCKS_AT_ONCE`` at a time."""
    for first in range(0, len(jobs), BLOCKS_AT_ONCE):
        yield jobs[first : first + BLOCKS_AT_ONCE]


def _set_peak(
    filtered: np.ndarray, signal: np.ndarray, mean: float, *, config: HighpassConfig
) -> HighpassMeasures:
    """Scale ``filtered`` to the peak in place, or to zeros if it is silent; return the measurements."""
    peak_in, peak = _peak(signal), _peak(filtered)
    silent = peak < 10 ** (config.silence_dbfs / 20)
    gain = 0.0 if silent else 10 ** (config.peak_dbfs / 20) / peak
    power_change_db = np.nan
    if not silent:
        power_change_db = 10 * np.log10(_power(filtered) / _power(signal))
    filtered *= np.float32(gain)
    return HighpassMeasures(
        peak_in_dbfs=20 * np.log10(peak_in) if peak_in > 0 else np.nan,
        dc_removed=mean,
        power_change_db=power_change_db,
        gain_db=np.nan if silent else 20 * np.log10(gain),
        clip_rate_in=clip_rate(signal),
        clip_rate_out=clip_rate(filtered),
    )


def _peak(signal: np.ndarray) -> float:
    """Return the largest magnitude, 0 for an empty clip."""
    return max(float(signal.max()), -float(signal.min())) if signal.size else 0.0


def _power(signal: np.ndarray) -> float:
    """Return the mean square, summed pairwise in float64."""
    return float(np.square(signal, dtype=np.float64).mean())


def clip_rate(signal: np.ndarray) -> float:
    """Estimate the fraction of clipped samples in a clip.

    It counts samples of magnitude 0.999 and more, and runs of at least three samples within half a 16-bit step of
    the largest or smallest value. A clip attenuated after clipping still has such flat tops. In a clean wave of 70 Hz
    or more, only two samples come this close to the peak. Runs count only if the peak is at least -20 dBFS and the
    clip is not constant. Clipping before a lossy codec or a resampler mostly leaves no flat tops, so the rate is a
    lower bound.

    Parameters
    ----------
    signal : np.ndarray [shape=(n_samples,), float]
        One clip, full scale being 1.

    Returns
    -------
    float
        In [0, 1]; NaN for an empty clip.
    """
    if not signal.size:
        return np.nan
    high, low = float(signal.max()), float(signal.min())
    clipped = np.zeros(len(signal), bool)
    half_step = 0.5 / 32768
    if high >= FULL_SCALE:
        clipped |= signal >= FULL_SCALE
    if low <= -FULL_SCALE:
        clipped |= signal <= -FULL_SCALE
    if high > low:
        if high >= MIN_CLIPPED_PEAK:
            _mark_runs(signal >= high - half_step, clipped)
        if low <= -MIN_CLIPPED_PEAK:
            _mark_runs(signal <= low + half_step, clipped)
    return np.count_nonzero(clipped) / len(clipped)


def _mark_runs(extreme: np.ndarray, clipped: np.ndarray) -> None:
    """Set ``clipped`` where three or more samples in a row are ``extreme``."""
    if np.count_nonzero(extreme) < 3:
        return
    run = extreme[:-2] & extreme[1:-1] & extreme[2:]
    for shift in range(3):
        clipped[shift : shift + len(run)] |= run
