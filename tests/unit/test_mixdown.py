import numpy as np
import pytest

from exvo.audio.mixdown import mix_down

NOISE = np.random.default_rng(0).standard_normal((8000, 64)).astype(np.float32)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5, 8, 9, 16, 33, 64])
def test_each_channel_has_the_same_weight(n_channels):
    channels = NOISE[:, :n_channels]
    mono, note = mix_down(channels.astype(">f4"))
    assert note == "" and mono.dtype == np.float32
    np.testing.assert_allclose(mono, channels.astype(float).sum(axis=1) / n_channels, atol=1e-7)


@pytest.mark.parametrize("n_channels", [2, 3, 7])
def test_equal_channels_come_out_as_they_went_in(n_channels):
    mono, note = mix_down(np.repeat(NOISE[:, :1], n_channels, axis=1))
    np.testing.assert_array_equal(mono, NOISE[:, 0])
    assert note == ""


@pytest.mark.parametrize("correlation", [-0.85, -0.5, 0.0, 0.9])
def test_channels_that_cancel_in_part_are_averaged(correlation):
    other = correlation * NOISE[:, 0] + np.sqrt(1 - correlation**2) * NOISE[:, 1]
    mono, note = mix_down(np.stack([NOISE[:, 0], other], axis=1))
    np.testing.assert_allclose(mono, (NOISE[:, 0] + other) / 2, atol=1e-6)
    assert note == ""


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_channels_that_cancel_are_reported_and_the_strongest_stands_for_all(offset):
    channels = np.stack([0.9 * NOISE[:, 0], -NOISE[:, 0]], axis=1) + np.float32(offset)
    mono, note = mix_down(channels)
    np.testing.assert_array_equal(mono, channels[:, 1])
    assert note == "its 2 channels cancel in their mean, so channel 2 is used alone"


def test_one_voice_in_many_channels_of_which_two_cancel():
    channels = 1e-4 * NOISE[:, :6]
    channels[:, 0] += NOISE[:, 10]
    channels[:, 3] -= NOISE[:, 10]
    mono, note = mix_down(channels)
    assert "channel 1 is used" in note or "channel 4 is used" in note
    assert abs(np.corrcoef(mono, NOISE[:, 10])[0, 1]) > 0.999


def test_a_silent_channel_and_silence_give_no_note():
    mono, note = mix_down(np.stack([NOISE[:, 0], np.zeros(8000, np.float32)], axis=1))
    np.testing.assert_array_equal(mono, NOISE[:, 0] / 2)
    assert note == "" and mix_down(np.zeros((100, 2), np.float32))[1] == ""
    assert mix_down(np.zeros((0, 2), np.float32))[0].shape == (0,)


def test_what_is_no_number_stays_so():
    channels = NOISE[:, :2].copy()
    channels[5, 1] = np.nan
    mono, note = mix_down(channels)
    assert np.flatnonzero(np.isnan(mono)).tolist() == [5] and note == ""
