"""The denoise stage: exact gain, transform, SNR gained against logmmse, independence of the batch."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter
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


def add_noise(rng, voice, colour, snr_db):
    noise = rng.standard_normal(len(voice))
    if colour == "pink":
        spectrum = np.fft.rfft(noise)
        spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20 * len(voice) / SAMPLE_RATE))
        noise = np.fft.irfft(spectrum, len(voice))
    noise *= np.sqrt(np.mean(voice**2) / np.mean(noise**2) * 10 ** (-snr_db / 10))
    return (voice + noise).astype(np.float32)


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
    noisy = [add_noise(rng, voice, colour, snr) for voice in voices]
    ours, measures = denoise_clips(noisy, SAMPLE_RATE, CONFIG)
    theirs = [logmmse(clip.copy(), SAMPLE_RATE) for clip in noisy]
    gained = np.mean([snr_db(v, o) for v, o in zip(voices, ours, strict=True)]) - snr
    gained_by_logmmse = np.mean([snr_db(v, o) for v, o in zip(voices, theirs, strict=True)]) - snr
    assert gained >= gained_by_logmmse
    assert gained > 6
    assert np.median([m.snr_before_db for m in measures]) == pytest.approx(snr, abs=2)
    assert np.median([m.snr_after_db for m in measures]) == pytest.approx(snr + gained, abs=2.5)


@pytest.mark.parametrize("leading", [True, False], ids=["silence_first", "burst_at_0"])
@pytest.mark.parametrize("colour", ["white", "pink"])
def test_clip_at_40_db_comes_out_at_30_db_or_more(leading, colour):
    rng = np.random.default_rng(2)
    voices = make_voices(leading)
    ours, _ = denoise_clips([add_noise(rng, v, colour, 40) for v in voices], SAMPLE_RATE, CONFIG)
    assert min(snr_db(v, o) for v, o in zip(voices, ours, strict=True)) >= 30


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
