"""Denoise clips by the MMSE short-time spectral amplitude estimator, many clips at once.

Ephraim & Malah, "Speech enhancement using a minimum mean-square error short-time spectral amplitude
estimator", IEEE Trans. Acoust., Speech, Signal Process. 32(6), 1984. With the a priori SNR ``xi``, the a
posteriori SNR ``gamma`` (both power ratios) and ``v = xi / (1 + xi) * gamma``, each bin of the spectrum is
multiplied by their eq. 7,

    G = sqrt(pi) / 2 * sqrt(v) / gamma * [(1 + v) I0e(v / 2) + v I1e(v / 2)],

and keeps its noisy phase. ``xi`` follows their decision-directed rule, eq. 51. Four choices are ours:

- The rule runs over the clip from both ends, and ``xi`` is the geometric mean of both runs. This preserves onsets
  and lowers the residual noise.
- ``xi`` starts at ``gamma - 1``.
- No bin is amplified; eq. 7 exceeds 1 where ``gamma`` is far below ``xi``.
- The noise estimate is that of :mod:`exvo.audio.noise_tracker`.

Clips of similar length share a chunk, in which the recursion steps through time for all of them. The arithmetic
across clips is element-wise, or on complete vectors of transforms. A clip's output therefore does not depend on the
batch, to the last bit.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
import scipy.fft
from scipy.special import i0e, i1e

from exvo.audio.noise_tracker import NoiseConfig, track_noise
from exvo.audio.stft import Buffers, Stft
from exvo.util.settings import Bounds, NotNegative, Positive, Probability

CHUNK_BINS = 2_000_000  # bins in the spectra of a chunk, which bounds memory (about 25 bytes per bin)
CHUNK_CLIPS = 48  # rows of a time step, whose dozen arrays then stay in the second-level cache
GAMMA_MIN, GAMMA_MAX = 1e-6, 1e8  # keeps float32 in range; the gain is constant beyond either end
ALPHA_MIN = 1e-11  # the rule is computed in units of alpha, and float32 must hold their square


@dataclass(frozen=True)
class DenoiseConfig(NoiseConfig):
    """Settings of the stage denoised; those of the noise estimate are in the base class.

    Attributes
    ----------
    frame_ms : float
        Length of the Hann window, in ms.
    overlap : int
        Number of windows that cover each sample; 4 makes the hop a quarter of the window.
    alpha : float
        Weight of the previous frame in the decision-directed rule for the a priori SNR.
    xi_min_db : float
        Minimum a priori SNR, in dB; it sets how much noise remains in pauses.
    two_way : bool
        Whether the decision-directed rule runs from both ends of the clip (ours) instead of forward only (1984).
    noise_raise_db : float
        Added to the noise estimate, in dB (ours); an estimate that is too high costs less than one that is too low.
    min_ms : float
        Shorter clips come back unchanged, because noise and voice cannot be told apart in them, in ms.
    """

    frame_ms: Positive = 32.0
    overlap: Annotated[int, Bounds(at_least=3)] = 4
    alpha: Probability = 0.98
    xi_min_db: float = -25.0
    two_way: bool = True
    noise_raise_db: float = 1.0
    min_ms: NotNegative = 100.0


@dataclass(frozen=True)
class DenoiseMeasures:
    """Measurements of the denoise stage on one clip; NaN where the clip is silent or too short.

    Attributes
    ----------
    snr_before_db, snr_after_db : float
        Estimated SNR in dB, at least -20 dB. Before: the power above the noise over the noise power. After: the
        same power over the expected error of the output. The expected error is the posterior mean-square error of
        the 1984 model; it includes remaining noise and damage to the voice.
    noise_db : float
        Estimated noise power in dB relative to full scale.
    change_db : float
        Energy of the output relative to the input's, in dB.
    """

    snr_before_db: float = math.nan
    snr_after_db: float = math.nan
    noise_db: float = math.nan
    change_db: float = math.nan


def mmse_stsa_gain(xi: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Compute the exact gain, Ephraim & Malah 1984, eq. 7.

    Parameters
    ----------
    xi, gamma : np.ndarray, any shapes that broadcast
        A priori and a posteriori SNR as power ratios, positive.

    Returns
    -------
    np.ndarray
        The gain; for large ``xi`` that of the Wiener filter, ``xi / (1 + xi)``.

    Examples
    --------
    >>> mmse_stsa_gain(xi=[0.01, 1, 100], gamma=[1, 1, 100]).round(3).tolist()
    [0.089, 0.774, 0.993]
    """
    xi, gamma = np.asarray(xi, np.float64), np.asarray(gamma, np.float64)
    v = xi / (1 + xi) * gamma
    return math.sqrt(math.pi) / 2 * np.sqrt(v) / gamma * ((1 + v) * i0e(v / 2) + v * i1e(v / 2))


# Arrays without dimensions: numpy adds them in half the time of Python numbers.
_ONE = np.array(1, np.float32)
# gamma * G depends on v alone, and its square is v * (v + r(v)) with r falling smoothly from pi / 4 to 1 / 2. This is
# r(v) = c0 + a1 / (v + c1 + a2 / (v + c2 + a3 / (v + c3))), fitted to minimise the largest relative error of the gain,
# which is 4e-6. A ratio of polynomials needs more operations, and numpy divides about as fast as it multiplies.
_C0, _C1 = np.array(0.4986929444, np.float32), np.array(5.0783102843, np.float32)
_C2, _C3 = np.array(-9.6637273991, np.float32), np.array(9.4025890868, np.float32)
_A1, _A2 = np.array(0.1882279435, np.float32), np.array(-14.3927509159, np.float32)
_A3 = np.array(121.4690118779, np.float32)


def _amplitude_power(
    xi: np.ndarray, gamma: np.ndarray, unit: np.ndarray, wiener: np.ndarray, v: np.ndarray, out: np.ndarray
) -> None:
    """Write ``xi / (unit + xi)`` to ``wiener`` and ``gamma * G ** 2``, which eq. 51 uses, to ``out``.

    ``unit`` is the value of ``xi`` for an a priori SNR of 1. ``v`` is overwritten.
    """
    np.add(xi, unit, v)
    np.divide(xi, v, wiener)
    np.multiply(wiener, gamma, v)
    np.add(v, _C3, out)
    np.divide(_A3, out, out)
    out += v
    out += _C2
    np.divide(_A2, out, out)
    out += v
    out += _C1
    np.divide(_A1, out, out)
    out += v
    out += _C0
    out *= wiener


def fast_gain(xi: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Compute :func:`mmse_stsa_gain` to a relative 1e-5, in the arguments' precision.

    Parameters
    ----------
    xi, gamma : np.ndarray, equal shapes and types
        A priori and a posteriori SNR as power ratios, positive.

    Returns
    -------
    np.ndarray, shape and type of the arguments
        The gain.
    """
    power = np.empty_like(xi)
    _amplitude_power(xi, gamma, _ONE, np.empty_like(xi), np.empty_like(xi), power)
    power /= gamma
    return np.sqrt(power, out=power)


def denoise_clips(
    signals: Sequence[np.ndarray], sample_rate: int, config: DenoiseConfig
) -> tuple[list[np.ndarray], list[DenoiseMeasures]]:
    """Denoise clips.

    Parameters
    ----------
    signals : sequence of np.ndarray, shape=(n_samples,)
        Clips of any length, including 0. A sample that is not a finite number counts as 0.
    sample_rate : int
        Sample rate of the clips in hertz.
    config : DenoiseConfig
        Settings of the stage.

    Returns
    -------
    clips : list of np.ndarray, shape=(n_samples,), float32
        The denoised clips, in the order and with the lengths of ``signals``, without delay. No bin is amplified, but
        a peak can slightly exceed that of the input, where the removed noise had cancelled part of it.
    measures : list of DenoiseMeasures
        What was seen of each clip.

    Examples
    --------
    A tone that starts after 0.5 s, in white noise at an SNR of 14 dB.

    >>> import numpy as np
    >>> time = np.arange(16000) / 16000
    >>> voice = np.where(time > 0.5, 0.3 * np.sin(2 * np.pi * 220 * time), 0)
    >>> noisy = voice + np.random.default_rng(0).normal(0, 0.03, len(voice))
    >>> (clean,), (measures,) = denoise_clips([noisy], 16000, DenoiseConfig())
    >>> [round(10 * float(np.log10(np.mean(voice**2) / np.mean((x - voice) ** 2)))) for x in (noisy, clean)]
    [14, 29]
    >>> round(measures.snr_before_db), round(measures.noise_db)
    (14, -30)
    """
    stft = Stft(max(1, round(config.frame_ms * sample_rate / 1000 / config.overlap)), config.overlap)
    clips = [_finite(np.array(signal, np.float32)) for signal in signals]
    measures = [DenoiseMeasures()] * len(clips)
    n_min = max(1, round(config.min_ms * sample_rate / 1000))
    # Longest first, so that the clips that have not ended at a time step are the first rows of a chunk.
    order = sorted(
        (i for i, c in enumerate(clips) if len(c) >= n_min and c.any()), key=lambda i: -len(clips[i])
    )
    with np.errstate(under="ignore"):  # weak bins may underflow, even if another library makes that an error
        buffers = Buffers()
        for chunk in _chunks(order, [stft.n_frames(len(c)) for c in clips], stft.n_fft // 2 + 1):
            done, chunk_measures = _denoise_chunk(
                [clips[i] for i in chunk], sample_rate, stft, config, buffers
            )
            for i, clip, measure in zip(chunk, done, chunk_measures, strict=True):
                clips[i], measures[i] = clip, measure
    return clips, measures


def _chunks(order: list[int], n_frames: list[int], n_bins: int) -> Iterator[list[int]]:
    start = 0
    while start < len(order):
        n_clips = max(1, min(CHUNK_CLIPS, CHUNK_BINS // (n_frames[order[start]] * n_bins)))
        yield order[start : start + n_clips]
        start += n_clips


def _denoise_chunk(
    signals: list[np.ndarray], sample_rate: int, stft: Stft, config: DenoiseConfig, buffers: Buffers
) -> tuple[list[np.ndarray], list[DenoiseMeasures]]:
    spectra = stft.forward(signals, buffers)
    n_frames = np.array([stft.n_frames(len(signal)) for signal in signals])
    per_block = 2 * max(1, round(config.block_ms * sample_rate / 1000 / stft.hop_length / 2))
    floor = 10 ** (config.noise_floor_db / 10) * float((stft.window.astype(np.float64) ** 2).sum())
    raised = np.float32(10 ** (config.noise_raise_db / 10))

    gamma = buffers.array("gamma", spectra.shape)
    noise = np.zeros((-(-len(spectra) // per_block), *spectra.shape[1:]), np.float32)
    total_power, noise_power = np.empty(len(signals)), np.empty(len(signals))
    for i, n in enumerate(n_frames):
        power = _power(spectra[:n, i])
        # Every second frame is enough: neighbouring frames share three quarters of their samples.
        tracked = track_noise(
            power[::2],
            config,
            bin_hz=sample_rate / stft.n_fft,
            frames_per_block=per_block // 2,
            floor=floor,
            fine=_fine_power(signals[i], stft, config.fine_factor),
        )
        noise[: len(tracked), i] = tracked
        blocks = np.minimum(per_block, n - per_block * np.arange(len(tracked)))
        noise_power[i] = (tracked.sum(axis=1, dtype=np.float64) * blocks).sum()
        total_power[i] = power.sum(axis=1).sum(dtype=np.float64)
        power /= np.repeat(tracked * raised, per_block, axis=0)[:n]
        np.clip(power, GAMMA_MIN, GAMMA_MAX, out=gamma[:n, i])

    active = (n_frames[None, :] > np.arange(len(spectra))[:, None]).sum(axis=1).tolist()
    error = _apply_gain(spectra, gamma, noise * raised, active, per_block, config, buffers)
    clips = stft.inverse(spectra, [len(signal) for signal in signals], buffers)
    measures = []
    for i, (before, after, n) in enumerate(zip(signals, clips, n_frames, strict=True)):
        voice = max(total_power[i] - noise_power[i], 0.01 * total_power[i])
        level = noise_power[i] / (n * spectra.shape[2]) * 10 ** (config.noise_floor_db / 10) / floor
        ratios = (
            voice / noise_power[i],
            voice / error[i].sum(dtype=np.float64),
            level,
            _energy(after) / _energy(before),
        )
        measures.append(DenoiseMeasures(*(10 * math.log10(max(ratio, 1e-30)) for ratio in ratios)))
    return clips, measures


def _power(spectra: np.ndarray) -> np.ndarray:
    # numpy computes the absolute value in half the time of summing the squares of both parts.
    power = np.abs(spectra)
    return np.square(power, power)


def _fine_power(signal: np.ndarray, stft: Stft, factor: int) -> np.ndarray | None:
    """Return power spectra of half-overlapping frames ``factor`` times as long; None for a shorter clip."""
    n_fft = factor * stft.n_fft
    if factor == 1 or len(signal) < n_fft:
        return None
    shape = (len(signal) - n_fft) // (n_fft // 2) + 1, n_fft
    strides = n_fft // 2 * signal.itemsize, signal.itemsize
    frames = np.lib.stride_tricks.as_strided(signal, shape, strides, writeable=False)
    return _power(scipy.fft.rfft(frames * _fine_window(stft, n_fft)))


@cache
def _fine_window(stft: Stft, n_fft: int) -> np.ndarray:
    """Return a Hann window with the energy of the denoiser's window, so that noise has the same mean power."""
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    hann *= np.sqrt((stft.window.astype(np.float64) ** 2).sum() / (hann.astype(np.float64) ** 2).sum())
    return hann


def _finite(signal: np.ndarray) -> np.ndarray:
    """Set samples that are not finite to 0, in place."""
    finite = np.isfinite(signal)
    if not finite.all():
        signal[~finite] = 0
    return signal


def _energy(signal: np.ndarray) -> float:
    return max(float(np.square(signal).sum()), 1e-30)


def _decision_directed(
    gamma: np.ndarray,
    active: Sequence[int],
    alpha: float,
    xi_min: float,
    steps: Sequence[int],
    out: np.ndarray,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the frame, the number of clips in it and their ``xi / alpha`` along ``steps`` (Ephraim & Malah, eq. 51).

    ``out``, shape=(n_frames or 1, n_clips, n_bins), receives ``xi / alpha`` of all frames, or of one at a time.
    """
    unit, share = np.array(1 / alpha, np.float32), np.array((1 - alpha) / alpha, np.float32)
    # numpy compares with an array in a third of the time of a comparison with a number
    limits = 0, xi_min / alpha
    arrays = [np.full(gamma.shape[1:], value, np.float32) for value in (*limits, 0, 0, 0)]
    n_before = 0
    for t in steps:
        n = active[t]
        now = gamma[t, :n]
        if n != n_before:
            nothing, lowest, previous, wiener, v = (array[:n] for array in arrays)
            np.maximum(gamma[t, n_before:n] - 1, 0, out=previous[n_before:])  # clips that begin here
            n_before = n
        xi = out[t % len(out), :n]
        np.subtract(now, _ONE, xi)
        np.maximum(xi, nothing, out=xi)
        xi *= share
        xi += previous
        np.maximum(xi, lowest, out=xi)
        yield t, n, xi
        _amplitude_power(xi, now, unit, wiener, v, previous)


def _apply_gain(
    spectra: np.ndarray,
    gamma: np.ndarray,
    noise: np.ndarray,
    active: Sequence[int],
    per_block: int,
    config: DenoiseConfig,
    buffers: Buffers,
) -> np.ndarray:
    """Apply the gain to the spectra in place; return the expected error, shape=(n_clips, n_bins)."""
    alpha, xi_min = max(config.alpha, ALPHA_MIN), 10 ** (config.xi_min_db / 10)
    forward = buffers.array("forward", gamma.shape)
    n_running = sum(n > 0 for n in active)
    steps = _decision_directed(gamma, active, alpha, xi_min, range(n_running), forward)
    if config.two_way:
        for _ in steps:
            pass
        back, backward = range(n_running - 1, -1, -1), np.empty_like(gamma[:1])
        steps = _decision_directed(gamma, active, alpha, xi_min, back, backward)
    error, in_block, *arrays = (np.zeros(gamma.shape[1:], np.float32) for _ in range(6))
    arrays.append(np.ones_like(error))
    unit = np.array(1 / alpha, np.float32)
    n_before = block = 0
    for t, n, xi in steps:
        if t // per_block != block:
            error += np.multiply(in_block, noise[block], out=in_block)
            in_block[:], block = 0, t // per_block
        if n != n_before:
            wiener, gain, v, both, one = (array[:n] for array in arrays)
            total, n_before = in_block[:n], n
        now, spectrum = gamma[t, :n], spectra[t, :n]
        if config.two_way:
            xi = np.multiply(forward[t, :n], xi, both)
            np.sqrt(xi, xi)
        _amplitude_power(xi, now, unit, wiener, v, gain)
        gain /= now
        np.sqrt(gain, gain)
        np.minimum(gain, one, out=gain)
        spectrum *= gain
        # The posterior mean-square error under the model, relative to the noise: w + gamma * (G - w) ** 2.
        gain -= wiener
        gain *= gain
        gain *= now
        gain += wiener
        total += gain
    return error + in_block * noise[block]
