"""Synthetic bursts in noise of many kinds, after the high-pass filter: what the denoiser's benchmarks run on.

The clean burst and the noise pass the filter of the stage ``dc`` separately, so that both are known in the clip that
the denoiser gets. SNR is meant after the filter, over the whole clip.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve, lfilter, resample_poly

from exvo.audio.highpass import HighpassConfig, design_highpass
from exvo.corpus import synth
from exvo.corpus.labels import EMOTIONS

SAMPLE_RATE = 16_000
FRAME = 320  # samples of the frames by whose level silence is told, 20 ms
QUIET_DB = -25.0  # of the loudest frame; less is a pause
TAPS = design_highpass(HighpassConfig(), SAMPLE_RATE)
Noise = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class NoisyBurst:
    """A burst, the noise, and both together as the denoiser gets them; float64, float64, float32."""

    clean: np.ndarray
    noise: np.ndarray
    noisy: np.ndarray


def mix(burst: np.ndarray, noise: np.ndarray, snr_db: float) -> NoisyBurst:
    """Filter a burst and noise as the stage ``dc`` does and add them, to its peak of -1 dBFS."""
    clean, noise = (fftconvolve(signal, TAPS, "same") for signal in (burst, noise))
    noise = noise * math.sqrt(np.mean(clean**2) / np.mean(noise**2) * 10 ** (-snr_db / 10))
    gain = 10 ** (-1 / 20) / np.abs(clean + noise).max()
    return NoisyBurst(gain * clean, gain * noise, (gain * (clean + noise)).astype(np.float32))


def levels_db(signal: np.ndarray) -> np.ndarray:
    """Return the level of each 20 ms in dB."""
    frames = signal[: len(signal) // FRAME * FRAME].reshape(-1, FRAME)
    return 10 * np.log10(np.mean(frames.astype(np.float64) ** 2, axis=1) + 1e-12)


def without_ends(burst: np.ndarray) -> np.ndarray:
    """Return a clip from its first to its last frame that is no pause."""
    levels = levels_db(burst)
    loud = np.flatnonzero(levels > levels.max() + QUIET_DB)
    return burst[loud[0] * FRAME : (loud[-1] + 1) * FRAME]


def one_burst(rng: np.random.Generator) -> np.ndarray:
    """Return a synthetic burst of any kind, without the pauses at its ends."""
    voice = synth.voice_of(rng.uniform(20, 39), "China", bool(rng.integers(2)), rng)
    burst = synth.burst(voice, synth.style_of(rng.random(len(EMOTIONS)) ** 3, EMOTIONS, rng), rng)
    return without_ends(resample_poly(burst, SAMPLE_RATE, synth.SAMPLE_RATE))


def bursts_with_pauses(rng: np.random.Generator) -> np.ndarray:
    """Return bursts in 2 to 3 s, after 0.3 s of silence and with 0.15 to 0.4 s after each."""
    parts = [np.zeros(int(0.3 * SAMPLE_RATE))]
    while sum(map(len, parts)) < 2 * SAMPLE_RATE:
        silence = np.zeros(int(rng.uniform(0.15, 0.4) * SAMPLE_RATE))
        parts += [rng.uniform(0.5, 1) * one_burst(rng), silence]
    return np.concatenate(parts)[: 3 * SAMPLE_RATE]


def burst_without_pause(rng: np.random.Generator) -> np.ndarray:
    """Return one burst of at least 0.6 s that begins at sample 0 and never pauses."""
    while True:
        burst = one_burst(rng)
        levels = levels_db(burst)
        if len(burst) > 0.6 * SAMPLE_RATE and levels.min() > levels.max() + QUIET_DB:
            return burst


def breath(rng: np.random.Generator) -> np.ndarray:
    """Return a sigh or gasp: noise through three broad formants that rises and falls, in silence or not."""
    burst = rng.standard_normal(int(rng.uniform(0.6, 1.8) * SAMPLE_RATE))
    for formant, width in ((rng.uniform(400, 900), 150), (rng.uniform(1200, 2000), 200), (2800, 300)):
        radius, angle = math.exp(-math.pi * width / SAMPLE_RATE), 2 * math.pi * formant / SAMPLE_RATE
        burst += 3 * lfilter([1 - radius], [1, -2 * radius * math.cos(angle), radius**2], burst)
    time, peak = np.linspace(0, 1, len(burst)), rng.uniform(0.05, 0.5)
    burst *= np.minimum(time / peak, (1 - time) / (1 - peak)) ** rng.uniform(0.7, 2)
    silence = np.zeros(int(rng.choice([0, 0.2]) * SAMPLE_RATE))
    return np.concatenate([silence, burst, silence])


def coloured(slope: float) -> Noise:
    """Return noise whose amplitude falls with the frequency to the power of ``slope``, from 30 Hz on."""

    def noise(rng: np.random.Generator, n_samples: int) -> np.ndarray:
        hz = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE)
        spectrum = np.fft.rfft(rng.standard_normal(n_samples)) / np.maximum(hz, 30.0) ** slope
        return np.fft.irfft(spectrum, n_samples)

    return noise


def hum(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Return mains hum of 50 or 60 Hz with 28 harmonics, over pink noise 10 dB weaker."""
    time, mains = np.arange(n_samples) / SAMPLE_RATE, rng.choice([50.0, 60.0]) * (1 + 2e-4 * rng.normal())
    tones = sum(
        rng.uniform(0.3, 1) / k**0.8 * np.sin(2 * np.pi * mains * k * time + rng.uniform(0, 6.3))
        for k in range(1, 30)
    )
    under = coloured(0.5)(rng, n_samples)
    return tones / tones.std() + 0.3 * under / under.std()


def fan(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Return a fan: pink noise, a resonance below 400 Hz, tones of the blades, all of it swaying by 1 dB."""
    pink, time = coloured(0.5)(rng, n_samples), np.arange(n_samples) / SAMPLE_RATE
    radius, angle = 0.995, 2 * np.pi * rng.uniform(150, 400) / SAMPLE_RATE
    housing = lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], pink)
    blades = rng.uniform(80, 160)
    tones = sum(np.sin(2 * np.pi * blades * k * time + rng.uniform(0, 6.3)) / k for k in range(1, 5))
    sway = 1 + 0.1 * np.sin(2 * np.pi * rng.uniform(2, 6) * time)
    return (housing / housing.std() + pink / pink.std()) * sway + 0.7 * tones


def quiet_stretch(clip: np.ndarray) -> slice | None:
    """Return the quietest 0.6 s of a clip that are steady (within 6 dB) and 15 dB below its loudest 20 ms."""
    levels, n = levels_db(clip), 30
    means = {
        start: levels[start : start + n].mean()
        for start in range(len(levels) - n)
        if np.ptp(levels[start : start + n]) < 6
    }
    means = {start: mean for start, mean in means.items() if -75 < mean < levels.max() - 15}
    if not means:
        return None
    quietest = min(means, key=means.__getitem__)
    return slice(quietest * FRAME, (quietest + n) * FRAME)


def quiet_stretches(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the steady quiet stretches of clips that have one."""
    places = [(clip, quiet_stretch(clip)) for clip in clips]
    return [clip[place].astype(np.float64) for clip, place in places if place is not None]


def looped(stretches: list[np.ndarray]) -> Noise:
    """Return noise of one of some stretches, which runs forward and backward by turns."""

    def noise(rng: np.random.Generator, n_samples: int) -> np.ndarray:
        stretch = stretches[rng.integers(len(stretches))]
        loop = np.concatenate([stretch, stretch[::-1]])
        start = rng.integers(len(loop))
        return np.tile(loop, n_samples // len(loop) + 2)[start : start + n_samples]

    return noise


NOISES: dict[str, Noise] = {
    "white": coloured(0.0),
    "pink": coloured(0.5),
    "brown": coloured(1.0),
    "hum": hum,
    "fan": fan,
}


def noisy_bursts(
    noise: Noise, *, pauses: bool, snr_db: float, n_bursts: int, seed: int = 0
) -> Iterator[NoisyBurst]:
    """Yield the same bursts for every noise and SNR."""
    rng = np.random.default_rng(seed)
    bursts = [(bursts_with_pauses if pauses else burst_without_pause)(rng) for _ in range(n_bursts)]
    for burst in bursts:
        yield mix(burst, noise(rng, len(burst)), snr_db)
