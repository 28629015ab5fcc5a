"""No stage clips, and none fails at what lies beyond full scale."""

import numpy as np
import pytest

from exvo.audio.denoise import DenoiseConfig, denoise_clips
from exvo.audio.full_scale import within_full_scale
from exvo.audio.stage_denoised import denoised_clips
from exvo.audio.store import SAMPLE_RATE, Clip, encode


def test_what_overshoots_is_scaled_and_what_does_not_is_left_alone():
    loud = np.array([0.5, -2.0, 1.0], np.float32)
    audio, gain_db = within_full_scale(loud)
    np.testing.assert_allclose(audio, [0.25, -1.0, 0.5])
    assert gain_db == pytest.approx(-6.0206, abs=1e-4) and audio.dtype == np.float32
    for signal in (loud[:1], np.array([1.0, -1.0], np.float32), loud[:0]):
        same, gain_db = within_full_scale(signal)
        assert same is signal and gain_db == 0.0


def test_a_peak_that_noise_had_opposed_does_not_break_the_denoised_stage():
    """A tone in noise after a pause, cut off at full scale: without the noise its peak lies beyond."""
    rng = np.random.default_rng(0)
    tone = 0.4 * np.sin(2 * np.pi * 300 * np.arange(16_000) / SAMPLE_RATE)
    tone[:6000] = 0
    cut_off = np.clip(15 * (tone + 0.3 * rng.standard_normal(16_000)), -1, 1).astype(np.float32) * 0.97
    (plain,), _ = denoise_clips([cut_off], SAMPLE_RATE, DenoiseConfig())
    peak = np.abs(plain).max()
    assert peak > 1.0, "the clip has to overshoot, or this test shows nothing"
    (clip,) = denoised_clips([Clip("a", cut_off)], DenoiseConfig())
    np.testing.assert_allclose(clip.audio, plain / peak, atol=1e-6)
    assert clip.measures["gain_db"] == pytest.approx(-20 * np.log10(peak), abs=1e-4)
    encode(clip.audio, "a", 16)
