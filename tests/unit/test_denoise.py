"""The denoise stage: exact gain, transform, noise found, SNR gained against logmmse, independence of the batch.

What is said of quality is measured after the high-pass filter, in the order of the workflow.
"""

import math

import numpy as np
import pytest
from scipy.signal import butter, fftconvolve, firwin, lfilter, sosfiltfilt
from scipy.special import iv

from exvo.audio import denoise
from exvo.audio.denoise import (
    DenoiseConfig,
    DenoiseMeasures,
    _apply_gain,
    denoise_clips,
    fast_gain,
    mmse_stsa_gain,
)
from exvo.audio.highpass import HighpassConfig, design_highpass, highpass_clips
from exvo.audio.noise_tracker import NoiseConfig, track_noise
from exvo.audio.pauses import band_levels, band_sd_db, evidence_frames, find_pauses
from exvo.audio.stft import Buffers, Stft

_NUMPY_ERRORS = np.geterr()
from logmmse import logmmse  # noqa: E402

np.seterr(**_NUMPY_ERRORS)  # logmmse makes every underflow an error, in everybody's code

SAMPLE_RATE = 16_000
CONFIG = DenoiseConfig()


def make_burst(rng, seconds):
    """A glottal-like harmonic source with gliding, trembling pitch through three formants; unit power."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    low, high = rng.uniform(120, 500, 2)
    pitch = low * (high / low) ** (time / seconds) * (1 + 0.03 * np.sin(2 * np.pi * rng.uniform(4, 7) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    burst = sum((pitch * k < 7500) / k * np.cos(k * phase + rng.uniform(0, 6)) for k in range(1, 60))
    for formant, width in ((rng.uniform(500, 900), 90), (rng.uniform(1100, 1800), 120), (2600, 160)):
        radius, angle = math.exp(-math.pi * width / SAMPLE_RATE), 2 * math.pi * formant / SAMPLE_RATE
        burst = lfilter([1 - radius], [1, -2 * radius * math.cos(angle), radius**2], burst)
    burst *= np.clip(np.minimum(time / 0.02, (seconds - time) / 0.06), 0, 1)
    return burst / np.sqrt(np.mean(burst**2))


def make_voice(rng, *, leading, pauses):
    """Laughter-like bursts with pauses between, or one long burst; 0.3 s of silence before, or none."""
    parts = [np.zeros(int(0.3 * SAMPLE_RATE) if leading else 0)]
    for _ in range(rng.integers(2, 5) if pauses else 1):
        parts.append(
            rng.uniform(0.5, 1) * make_burst(rng, rng.uniform(*((0.15, 0.5) if pauses else (1.2, 2.5))))
        )
        parts.append(np.zeros(int(rng.uniform(0.08, 0.3) * SAMPLE_RATE) if pauses else 0))
    voice = np.concatenate(parts)
    return 0.5 * voice / np.abs(voice).max()


def coloured(rng, n_samples, slope):
    """Gaussian noise whose amplitude falls with the frequency to the power of ``slope`` (0.5: pink, 1: brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20 * n_samples / SAMPLE_RATE) ** slope
    return np.fft.irfft(spectrum, n_samples)


COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0}


def add_noise(rng, voice, colour, snr_db):
    noise = coloured(rng, len(voice), COLOURS[colour])
    noise *= np.sqrt(np.mean(voice**2) / np.mean(noise**2) * 10 ** (-snr_db / 10))
    return (voice + noise).astype(np.float32)


def through_highpass(voices, noisy):
    """What the stage before makes of noisy clips, and of the voice in them: the same filter and gain."""
    filtered, measures = highpass_clips(noisy, SAMPLE_RATE, HighpassConfig())
    taps = design_highpass(HighpassConfig(), SAMPLE_RATE)
    gains = [10 ** (measure.gain_db / 20) for measure in measures]
    return [g * fftconvolve(v, taps, "same") for g, v in zip(gains, voices, strict=True)], filtered


def snr_db(voice, output):
    voice = voice[: len(output)]
    return 10 * math.log10(np.sum(voice**2) / np.sum((voice - output.astype(np.float64)) ** 2))


def make_voices(leading, n_clips=10, seed=0):
    rng = np.random.default_rng(seed)
    return [make_voice(rng, leading=leading, pauses=i % 2 == 0) for i in range(n_clips)]


# The gain


def test_gain_equals_the_bessel_form_evaluated_directly():
    xi, gamma = np.meshgrid(np.logspace(-2.5, 2.5, 60), np.logspace(-4, 2.5, 70))
    v = xi / (1 + xi) * gamma
    direct = (
        math.gamma(1.5) * np.sqrt(v) / gamma * np.exp(-v / 2) * ((1 + v) * iv(0, v / 2) + v * iv(1, v / 2))
    )
    np.testing.assert_allclose(mmse_stsa_gain(xi, gamma), direct, rtol=1e-12)


def test_gain_equals_the_confluent_hypergeometric_form():
    # Ephraim & Malah 1984, eq. 7 in its other form: Gamma(1.5) sqrt(v) / gamma * M(-0.5; 1; -v), here from
    # its power series.
    for v in (1e-6, 0.01, 0.7, 3.0, 12.0):
        term, total = 1.0, 1.0
        for k in range(200):
            term *= (-0.5 + k) / (1 + k) * -v / (k + 1)
            total += term
        gamma = 2 * v  # so that xi = 1
        expected = math.gamma(1.5) * math.sqrt(v) / gamma * total
        assert mmse_stsa_gain(1.0, gamma) == pytest.approx(expected, rel=1e-9)


def test_gain_tends_to_the_wiener_filter_at_high_xi():
    xi = np.logspace(3, 8, 30)
    np.testing.assert_allclose(mmse_stsa_gain(xi, xi), xi / (1 + xi), rtol=1e-3)
    np.testing.assert_allclose(mmse_stsa_gain(xi[-1:], xi[-1:]), xi[-1:] / (1 + xi[-1:]), rtol=1e-7)


def test_gain_is_finite_at_the_ends():
    assert np.isfinite(mmse_stsa_gain([1e-3, 1e-3, 1e9], [1e-12, 1e12, 1e12])).all()


def test_fast_gain_is_within_1e_5_of_the_exact_gain():
    xi, gamma = (
        a.astype(np.float32) for a in np.meshgrid(np.logspace(-2.5, 8, 200), np.logspace(-6, 8, 300))
    )
    fast = fast_gain(xi, gamma)
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast, mmse_stsa_gain(xi, gamma), rtol=1e-5)


def decision_directed(gamma, alpha, xi_min):
    """Return xi by Ephraim & Malah 1984, eq. 51, frame by frame as it is written; starts at gamma - 1."""
    xi = np.empty_like(gamma)
    before = np.maximum(gamma[0] - 1, 0)  # gain squared times gamma of the frame before
    for now, found in zip(gamma, xi, strict=True):
        found[:] = np.maximum(alpha * before + (1 - alpha) * np.maximum(now - 1, 0), xi_min)
        before = mmse_stsa_gain(found, now) ** 2 * now
    return xi


@pytest.mark.parametrize("alpha", [0.98, 0.5, 0.0])
@pytest.mark.parametrize("two_way", [True, False])
def test_the_recursion_over_clips_is_that_of_eq_51_clip_by_clip(alpha, two_way):
    n_frames, n_bins, per_block = [21, 13, 13, 2], 5, 4
    rng = np.random.default_rng(11)
    gamma = (10 ** rng.uniform(-3, 5, (24, 4, n_bins))).astype(np.float32)
    noise = rng.uniform(1, 2, (6, 4, n_bins)).astype(np.float32)
    spectra = np.ones(gamma.shape, np.complex64)
    active = [sum(n > t for n in n_frames) for t in range(len(gamma))]
    config = DenoiseConfig(alpha=alpha, two_way=two_way)
    error = _apply_gain(spectra, gamma, noise, active, per_block, config, Buffers())
    for i, n in enumerate(n_frames):
        own = gamma[:n, i].astype(np.float64)
        xi = decision_directed(own, alpha, 10 ** (config.xi_min_db / 10))
        if two_way:
            xi = np.sqrt(xi * decision_directed(own[::-1], alpha, 10 ** (config.xi_min_db / 10))[::-1])
        gain, wiener = np.minimum(mmse_stsa_gain(xi, own), 1), xi / (1 + xi)
        np.testing.assert_allclose(spectra[:n, i].real, gain, rtol=5e-5)
        np.testing.assert_array_equal(spectra[n:, i], 1)
        expected = (wiener + own * (gain - wiener) ** 2) * noise[np.arange(n) // per_block, i]
        np.testing.assert_allclose(error[i], expected.sum(axis=0), rtol=1e-3)


# The transform


@pytest.mark.parametrize("n_samples", [1, 100, 512, 5000, 16001])
def test_transform_gives_the_signal_back_at_unit_gain(n_samples):
    signals = [np.random.default_rng(0).standard_normal(n).astype(np.float32) for n in (n_samples, 777)]
    stft, buffers = Stft(hop_length=128, overlap=4), Buffers()
    for batch in (signals, signals[::-1]):  # the second in arrays that hold the first
        back = stft.inverse(stft.forward(batch, buffers), [len(s) for s in batch], buffers)
        for signal, result in zip(batch, back, strict=True):
            np.testing.assert_allclose(result, signal, atol=3e-6)


def test_output_has_no_delay():
    voice = make_voices(leading=True, n_clips=1)[0]
    output = denoise_clips([voice], SAMPLE_RATE, CONFIG)[0][0]
    lags = range(-3, 4)
    correlation = [np.dot(voice[100:-100], output[100 + lag : len(output) - 100 + lag]) for lag in lags]
    assert lags[int(np.argmax(correlation))] == 0


# Quality


@pytest.mark.parametrize("leading", [True, False], ids=["silence_first", "burst_at_0"])
@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("snr", [0, 5, 10, 15])
def test_snr_gained_is_at_least_logmmse_s(leading, colour, snr):
    rng = np.random.default_rng(1)
    voices = make_voices(leading)
    voices, noisy = through_highpass(voices, [add_noise(rng, voice, colour, snr) for voice in voices])
    before = np.mean([snr_db(v, n) for v, n in zip(voices, noisy, strict=True)])
    ours, measures = denoise_clips(noisy, SAMPLE_RATE, CONFIG)
    theirs = [logmmse(clip.copy(), SAMPLE_RATE) for clip in noisy]
    gained = np.mean([snr_db(v, o) for v, o in zip(voices, ours, strict=True)]) - before
    gained_by_logmmse = np.mean([snr_db(v, o) for v, o in zip(voices, theirs, strict=True)]) - before
    assert gained >= gained_by_logmmse
    assert gained > 6
    assert np.median([m.snr_before_db for m in measures]) == pytest.approx(before, abs=2)
    assert np.median([m.snr_after_db for m in measures]) == pytest.approx(before + gained, abs=2.5)


@pytest.mark.parametrize(("snr", "least"), [(5, 7), (15, 7), (25, 5.5)])
def test_snr_gained_on_pink_noise_with_pauses(snr, least):
    rng = np.random.default_rng(1)
    voices = make_voices(leading=True)[::2]
    voices, noisy = through_highpass(voices, [add_noise(rng, voice, "pink", snr) for voice in voices])
    ours, _ = denoise_clips(noisy, SAMPLE_RATE, CONFIG)
    gained = [snr_db(v, o) - snr_db(v, n) for v, o, n in zip(voices, ours, noisy, strict=True)]
    assert np.mean(gained) > least


@pytest.mark.parametrize("leading", [True, False], ids=["silence_first", "burst_at_0"])
@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
def test_clip_at_40_db_comes_out_at_30_db_or_more(leading, colour):
    rng = np.random.default_rng(2)
    voices = make_voices(leading)
    voices, noisy = through_highpass(voices, [add_noise(rng, v, colour, 40) for v in voices])
    ours, _ = denoise_clips(noisy, SAMPLE_RATE, CONFIG)
    assert min(snr_db(v, o) for v, o in zip(voices, ours, strict=True)) >= 30


@pytest.mark.parametrize("leading", [True, False], ids=["silence_first", "burst_at_0"])
def test_clean_bursts_are_left_as_they_are(leading):
    clean = make_voices(leading, n_clips=20, seed=12)
    _, clips = through_highpass(clean, [voice.astype(np.float32) for voice in clean])
    ours, _ = denoise_clips(clips, SAMPLE_RATE, CONFIG)
    assert min(snr_db(clip.astype(np.float64), o) for clip, o in zip(clips, ours, strict=True)) >= 34.7


def make_breath(rng, seconds):
    """A sigh or gasp: noise through three broad formants, rising and falling."""
    breath = rng.standard_normal(int(seconds * SAMPLE_RATE))
    for formant, width in ((rng.uniform(400, 900), 150), (rng.uniform(1200, 2000), 200), (2800, 300)):
        radius, angle = math.exp(-math.pi * width / SAMPLE_RATE), 2 * math.pi * formant / SAMPLE_RATE
        breath += 3 * lfilter([1 - radius], [1, -2 * radius * math.cos(angle), radius**2], breath)
    time, peak = np.linspace(0, 1, len(breath)), rng.uniform(0.05, 0.5)
    envelope = np.minimum(time / peak, (1 - time) / (1 - peak)) ** rng.uniform(0.7, 2)
    return 0.5 * envelope * breath / np.abs(breath).max()


@pytest.mark.parametrize("snr", [20, 40, None])
def test_breath_without_a_pause_keeps_its_energy(snr):
    rng = np.random.default_rng(13)
    clips = [make_breath(rng, rng.uniform(0.6, 1.8)) for _ in range(20)]
    noisy = [clip.astype(np.float32) if snr is None else add_noise(rng, clip, "pink", snr) for clip in clips]
    _, filtered = through_highpass(clips, noisy)
    _, measures = denoise_clips(filtered, SAMPLE_RATE, CONFIG)
    assert min(measure.change_db for measure in measures) > -0.5


# The noise


BANDS_HZ = ((94, 250), (250, 500), (500, 1000), (1000, 2000), (2000, 7900))


def power_spectrum(signal):
    frames = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float64), 512)[::128]
    return (np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2).mean(axis=0)


def taken_off_db(before, after, low, high):
    """How far the pause before the burst of `burst_in_noise` is attenuated between two frequencies."""
    bins = slice(round(low / 31.25), round(high / 31.25))
    spectra = [power_spectrum(signal[1000:9000])[bins].sum() for signal in (before, after)]
    return 10 * math.log10(spectra[0] / spectra[1])


def burst_in_noise(noise, snr_db=10):
    """A harmonic burst of half a second in the middle of two seconds of noise."""
    time = np.arange(8000) / SAMPLE_RATE
    burst = sum(np.sin(2 * np.pi * 300 * k * time) / k for k in range(1, 15)) * np.hanning(8000)
    clip = noise * np.sqrt(np.mean(burst**2) / np.mean(noise**2) * 10 ** (-snr_db / 10))
    clip[12000:20000] += burst
    return 0.3 * clip


@pytest.mark.parametrize("colour", COLOURS)
def test_noise_is_attenuated_after_the_highpass_as_without_it(colour):
    rng = np.random.default_rng(14)
    clips = [burst_in_noise(coloured(rng, 32000, COLOURS[colour])).astype(np.float32) for _ in range(4)]
    taken = []
    for signals in (clips, highpass_clips(clips, SAMPLE_RATE, HighpassConfig())[0]):
        outputs, _ = denoise_clips(signals, SAMPLE_RATE, CONFIG)
        rows = [
            [taken_off_db(x, y, *band) for band in BANDS_HZ] for x, y in zip(signals, outputs, strict=True)
        ]
        taken.append(np.median(rows, axis=0))
    assert taken[1].min() > 12
    np.testing.assert_allclose(taken[1], taken[0], atol=2)


def fir(*edges, pass_zero):
    taps = firwin(801, edges, pass_zero=pass_zero, fs=SAMPLE_RATE, window=("kaiser", 9))
    return lambda signal: fftconvolve(signal, taps, "same")


BAND_LIMITED = {  # what a recording went through, and where noise is left
    "telephone": (fir(300, 3400, pass_zero=False), [(400, 3300)]),
    "telephone, gentle slopes": (
        lambda signal: sosfiltfilt(butter(4, [300, 3400], "band", fs=SAMPLE_RATE, output="sos"), signal),
        [(300, 3400)],
    ),
    "bluetooth, 8 kHz": (fir(3800, pass_zero=True), [(100, 3700)]),
    "mp3, cut off at 7 kHz": (fir(7000, pass_zero=True), [(100, 6900)]),
    "notches": (
        lambda signal: fir(400, 700, 900, 1300, 2900, 3300, pass_zero=True)(signal),
        [(100, 300), (780, 820), (1400, 2800), (3400, 7900)],
    ),
    "rumble filter at 500 Hz": (fir(500, pass_zero=False), [(600, 7900)]),
    "one octave": (fir(1000, 2000, pass_zero=False), [(1100, 1900)]),
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", BAND_LIMITED)
def test_noise_beside_bands_that_a_filter_emptied_is_found(name, colour):
    limit, bands = BAND_LIMITED[name]
    rng = np.random.default_rng(15)
    clips = [
        limit(burst_in_noise(coloured(rng, 32000, COLOURS[colour]))).astype(np.float32) for _ in range(3)
    ]
    filtered, _ = highpass_clips(clips, SAMPLE_RATE, HighpassConfig())
    outputs, _ = denoise_clips(filtered, SAMPLE_RATE, CONFIG)
    for band in bands:
        taken = np.median([taken_off_db(x, y, *band) for x, y in zip(filtered, outputs, strict=True)])
        assert taken > 12, band


def test_mains_hum_in_pauses_is_removed():
    time = np.arange(32000) / SAMPLE_RATE
    rng = np.random.default_rng(16)
    hum = sum(np.sin(2 * np.pi * 50 * k * time + k * k) / k for k in range(1, 30))
    clip = burst_in_noise(hum + 0.05 * coloured(rng, 32000, 0.5)).astype(np.float32)
    filtered, _ = highpass_clips([clip], SAMPLE_RATE, HighpassConfig())
    (output,), _ = denoise_clips(filtered, SAMPLE_RATE, CONFIG)
    assert taken_off_db(filtered[0], output, 94, 1500) > 12


def levels_of(signal):
    frames = np.lib.stride_tricks.sliding_window_view(signal, 512)[::256] * np.hanning(512)
    return band_levels(np.abs(np.fft.rfft(frames)) ** 2, bin_hz=31.25)


def test_the_level_of_a_band_scatters_as_said_in_stationary_noise():
    levels, widths = levels_of(np.random.default_rng(17).standard_normal(60 * SAMPLE_RATE))
    assert widths.tolist() == [8, 8, 16, 32, 64, 129]
    np.testing.assert_allclose(levels[1:-1].std(axis=0), band_sd_db(widths), rtol=0.1)


def test_frames_of_stationary_noise_count_whole_and_drifting_breath_counts_less():
    noise = np.random.default_rng(18).standard_normal(SAMPLE_RATE)
    drift = 10 ** (np.abs(np.linspace(-1, 1, SAMPLE_RATE)) * 6 / 20)  # down by 6 dB and up again
    counts = []
    for signal in (noise, noise * drift):
        levels, widths = levels_of(signal)
        sd = band_sd_db(widths)
        counts.append(evidence_frames(levels, find_pauses(levels, sd, 0.1), sd))
    assert counts[0] > 40  # of 61
    assert counts[1] < counts[0] / 4


def test_without_evidence_of_a_pause_the_noise_lies_far_below_the_voice():
    breath = make_breath(np.random.default_rng(19), 0.5)
    frames = np.lib.stride_tricks.sliding_window_view(breath, 512)[::256] * np.hanning(512)
    power = (np.abs(np.fft.rfft(frames)) ** 2).astype(np.float32)
    noise = track_noise(power, NoiseConfig(), bin_hz=31.25, frames_per_block=4, floor=1e-12)
    loud = np.quantile(power.sum(axis=1), 0.9)
    assert 10 * np.log10(loud / noise.sum(axis=1).max()) > 30


def test_steady_vowel_without_a_pause_is_not_taken_for_noise():
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    vowel = 0.1 * sum(np.cos(2 * np.pi * 220 * k * time + k * k) / k for k in range(1, 30))
    noisy = add_noise(np.random.default_rng(3), vowel, "white", 25)
    output, measures = denoise_clips([noisy], SAMPLE_RATE, CONFIG)
    assert snr_db(vowel, output[0]) > 28
    assert measures[0].change_db > -0.2


@pytest.mark.parametrize("pitch", [80, 110, 150, 400])
def test_steady_voice_without_a_pause_at_40_db_comes_out_at_30_db_or_more_however_low(pitch):
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    voice = 0.1 * sum(np.cos(2 * np.pi * pitch * k * time + k * k) / k for k in range(1, 7800 // pitch))
    noisy = add_noise(np.random.default_rng(3), voice, "pink", 40)
    (output,), _ = denoise_clips([noisy], SAMPLE_RATE, CONFIG)
    assert snr_db(voice, output) >= 30
    if pitch < 100:  # the denoiser's own frames do not tell these harmonics apart
        (coarse,), _ = denoise_clips([noisy], SAMPLE_RATE, DenoiseConfig(fine_factor=1))
        assert snr_db(voice, coarse) < 20


def test_burst_that_begins_at_full_strength_keeps_its_onset():
    rng = np.random.default_rng(10)
    voice = 0.1 * make_burst(rng, 1.5)[SAMPLE_RATE // 5 :]
    output, _ = denoise_clips([add_noise(rng, voice, "white", 20)], SAMPLE_RATE, CONFIG)
    assert snr_db(voice[:800], output[0][:800]) > 20


def test_noise_that_rises_slowly_is_followed():
    rng = np.random.default_rng(4)
    voice = np.concatenate([make_voice(rng, leading=True, pauses=True) for _ in range(3)])
    rise = 10 ** (np.linspace(-3, 3, len(voice)) / 20)
    noisy = (voice + 0.02 * rise * rng.standard_normal(len(voice))).astype(np.float32)
    fixed = DenoiseConfig(prior_frames=1e9)
    (following, held), before = (
        (denoise_clips([noisy], SAMPLE_RATE, c)[0][0] for c in (CONFIG, fixed)),
        snr_db(voice, noisy),
    )
    assert snr_db(voice, following) > snr_db(voice, held)
    assert snr_db(voice, following) > before + 6


# Awkward clips


def test_lengths_are_kept_and_nothing_is_nan_on_silent_short_and_broken_clips():
    rng = np.random.default_rng(5)
    silence = np.zeros(20_000, np.float32)
    gated = silence.copy()
    gated[8000:12000] = 0.3 * rng.standard_normal(4000)
    broken = np.full(5000, np.nan)
    clips = [
        np.zeros(0),
        np.ones(1),
        rng.standard_normal(100),
        rng.standard_normal(1700),
        silence,
        gated,
        broken,
    ]
    clips += [np.ones(9000), 1e-7 * rng.standard_normal(9000), 1e4 * rng.standard_normal(9000)]
    with np.errstate(all="raise"):
        outputs, measures = denoise_clips(clips, SAMPLE_RATE, CONFIG)
    assert [len(o) for o in outputs] == [len(c) for c in clips]
    assert all(o.dtype == np.float32 and np.isfinite(o).all() for o in outputs)
    assert not outputs[4].any()
    assert not outputs[6].any()
    assert all(math.isnan(measures[i].snr_before_db) for i in (0, 1, 2, 4, 6))
    assert not np.abs(outputs[5][:7000]).max() > 0
    assert denoise_clips([], SAMPLE_RATE, CONFIG) == ([], [])


def test_burst_after_digital_silence_is_kept():
    rng = np.random.default_rng(6)
    clip = np.concatenate([np.zeros(8000), 0.1 * make_burst(rng, 1.0), np.zeros(8000)]).astype(np.float32)
    output, _ = denoise_clips([clip], SAMPLE_RATE, CONFIG)
    assert snr_db(clip.astype(np.float64), output[0]) > 30


@pytest.mark.parametrize("sample_rate", [8000, 44100, 48000])
def test_other_sample_rates_work(sample_rate):
    rng = np.random.default_rng(7)
    time = np.arange(2 * sample_rate) / sample_rate
    voice = 0.3 * np.sin(2 * np.pi * 300 * time) * (np.sin(2 * np.pi * time) > 0)
    output, _ = denoise_clips([add_noise(rng, voice, "white", 5)], sample_rate, CONFIG)
    assert snr_db(voice, output[0]) > 15


# Batches


def test_output_is_the_same_to_the_last_bit_in_any_batch_and_order():
    rng = np.random.default_rng(8)
    lengths = [1700, 4000, 16000, 16001, 30011, 52000, *rng.integers(2000, 40_000, 50)]
    clips = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in lengths]
    alone = [denoise_clips([clip], SAMPLE_RATE, CONFIG) for clip in clips]
    for order in (range(len(clips)), rng.permutation(len(clips)), rng.permutation(len(clips))[:11]):
        outputs, measures = denoise_clips([clips[i] for i in order], SAMPLE_RATE, CONFIG)
        for i, output, measure in zip(order, outputs, measures, strict=True):
            np.testing.assert_array_equal(output, alone[i][0][0])
            assert measure == alone[i][1][0]


def test_a_clip_keeps_its_samples_when_the_arrays_are_used_for_the_next(monkeypatch):
    rng = np.random.default_rng(10)
    clips = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (9000, 8000, 7000)]
    together = denoise_clips(clips, SAMPLE_RATE, CONFIG)[0]
    monkeypatch.setattr(denoise, "CHUNK_CLIPS", 1)
    for one, other in zip(denoise_clips(clips, SAMPLE_RATE, CONFIG)[0], together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_input_is_left_as_it_was():
    clip = np.random.default_rng(9).standard_normal(9000).astype(np.float32)
    for given in (clip, clip[:50]):
        before = given.copy()
        output = denoise_clips([given], SAMPLE_RATE, CONFIG)[0][0]
        output += 1
        np.testing.assert_array_equal(given, before)


def test_measures_of_nothing_are_nan():
    assert all(math.isnan(value) for value in vars(DenoiseMeasures()).values())
