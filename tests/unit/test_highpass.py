import numpy as np
import pytest

from exvo.audio.highpass import HighpassConfig, clip_rate, design_highpass, highpass_clips
from exvo.report.figures.highpass import plot_highpass_response

RATE = 16000
CONFIG = HighpassConfig()
PEAK = 10 ** (-1 / 20)
TAPS = design_highpass(CONFIG, RATE)
HALF = len(TAPS) // 2


def sine(hz, n_samples, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(n_samples) / RATE)


def filter_without_gain(signal):
    (filtered,), (measures,) = highpass_clips([signal], RATE, CONFIG)
    return filtered / 10 ** (measures.gain_db / 20)


def response_db(taps, hz, sample_rate):
    """Direct evaluation of the z transform on the unit circle, independent of the FFT in the library."""
    n = np.arange(len(taps)) - len(taps) // 2
    gains = [
        abs(np.cos(2 * np.pi * chunk[:, None] / sample_rate * n) @ taps) for chunk in np.array_split(hz, 40)
    ]
    return 20 * np.log10(np.concatenate(gains) + 1e-15)


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        (CONFIG, RATE),
        (CONFIG, 48000),
        (HighpassConfig(stop_hz=20, pass_hz=90, stop_db=80, pass_ripple_db=0.01), RATE),
        (HighpassConfig(stop_hz=30, pass_hz=200, stop_db=25, pass_ripple_db=0.5), 8000),
    ],
)
def test_response_holds_the_specification_on_a_dense_grid(config, rate):
    taps = design_highpass(config, rate)
    low = np.linspace(0, config.stop_hz, 2001)
    high = np.concatenate(
        [np.linspace(config.pass_hz, 4 * config.pass_hz, 4001), np.linspace(config.pass_hz, rate / 2, 8001)]
    )
    assert response_db(taps, low, rate).max() <= -config.stop_db + 1e-6
    assert np.abs(response_db(taps, high, rate)).max() <= config.pass_ripple_db + 1e-9


def test_default_filter_is_sixty_db_down_to_20_hz_and_flat_from_70_hz():
    assert response_db(TAPS, np.linspace(0, 20, 501), RATE).max() <= -60
    assert np.abs(response_db(TAPS, np.linspace(70, 8000, 4001), RATE)).max() <= 0.1
    assert len(TAPS) < 1400  # under 90 ms


def test_filter_is_of_odd_length_and_symmetric():
    assert len(TAPS) % 2 == 1
    np.testing.assert_array_equal(TAPS, TAPS[::-1])
    assert abs(TAPS.sum()) < 1e-12


def test_highpass_removes_5_hz():
    # A voice-band tone beside it keeps the clip from being silent.
    n_samples = 4 * RATE
    both = filter_without_gain(sine(5, n_samples) + sine(1000, n_samples, 0.1))
    rest = both - sine(1000, n_samples, 0.1)
    inside = slice(HALF, -HALF)
    assert np.abs(rest[inside]).max() <= 0.5 * 1e-3


@pytest.mark.parametrize("hz", [70, 100, 1000, 7000])
def test_highpass_passes_voice_with_neither_change_nor_delay(hz):
    tone = sine(hz, 2 * RATE)
    inside = slice(HALF, -HALF)
    tolerance = 0.5 * (10 ** (0.1 / 20) - 1)
    np.testing.assert_allclose(filter_without_gain(tone)[inside], tone[inside], atol=tolerance)


def test_an_impulse_stays_where_it_was():
    for at in (0, 1, 700, 7000, 15999):
        click = np.zeros(RATE)
        click[at] = 0.5
        (filtered,), _ = highpass_clips([click], RATE, CONFIG)
        assert np.abs(filtered).argmax() == at


def test_a_clip_is_convolved_as_if_in_one_piece():
    rng = np.random.default_rng(0)
    for n_samples in (5, HALF, 20000, 100_001):
        signal = rng.normal(size=n_samples) * 0.1
        whole = np.convolve(signal - signal.mean(), TAPS)[HALF : HALF + n_samples]
        np.testing.assert_allclose(filter_without_gain(signal), whole, atol=1e-7)


def test_an_offset_leaves_no_thump_at_the_edges():
    tone = sine(200, RATE, 0.01)
    np.testing.assert_allclose(filter_without_gain(tone + 0.6), filter_without_gain(tone), atol=1e-6)
    _, (measures,) = highpass_clips([tone + 0.6], RATE, CONFIG)
    assert measures.dc_removed == pytest.approx(0.6, abs=1e-6)


@pytest.mark.parametrize("n_samples", [0, 1, 2, 3, HALF, 2 * HALF, 2 * HALF + 1, 6985, 6986, 6987, 30000])
def test_length_is_kept(n_samples):
    signal = np.random.default_rng(1).normal(size=n_samples).astype(np.float32)
    (filtered,), (measures,) = highpass_clips([signal], RATE, CONFIG)
    assert filtered.shape == (n_samples,)
    assert filtered.dtype == np.float32
    assert np.isfinite(filtered).all()
    if n_samples == 0:
        assert np.isnan(
            [measures.dc_removed, measures.gain_db, measures.clip_rate_in, measures.peak_in_dbfs]
        ).all()
    elif n_samples == 1:  # a single sample is its own mean
        assert filtered[0] == 0


@pytest.mark.parametrize("amplitude", [1e-3, 0.2, 0.99, 30.0])
def test_peak_after_gain_is_minus_one_dbfs_whatever_comes_in(amplitude):
    signal = amplitude * np.random.default_rng(2).uniform(-1, 1, 24000).astype(np.float32)
    (filtered,), (measures,) = highpass_clips([signal], RATE, CONFIG)
    assert np.abs(filtered).max() == pytest.approx(PEAK, rel=1e-6)
    assert measures.clip_rate_out == 0
    assert measures.peak_in_dbfs == pytest.approx(20 * np.log10(np.abs(signal).max()), abs=1e-5)
    assert measures.power_change_db == pytest.approx(
        0, abs=0.1
    )  # white noise holds 0.6 % of its power down there


@pytest.mark.parametrize(
    "silence",
    [np.zeros(5000), np.full(5000, 0.3, np.float32), np.full(9, -0.7), 1e-5 * np.sin(np.arange(5000))],
)
def test_silence_and_pure_dc_stay_silent(silence):
    (filtered,), (measures,) = highpass_clips([silence], RATE, CONFIG)
    assert not filtered.any()
    assert np.isnan(measures.gain_db)
    assert np.isnan(measures.power_change_db)
    assert measures.clip_rate_in == measures.clip_rate_out == 0


def test_one_step_of_16_bit_audio_is_not_silence():
    quiet = np.random.default_rng(3).integers(-1, 2, 8000) / 32768
    (filtered,), (measures,) = highpass_clips([quiet], RATE, CONFIG)
    assert np.abs(filtered).max() == pytest.approx(PEAK, rel=1e-6)
    assert measures.gain_db > 80


def test_a_clip_comes_out_the_same_to_the_bit_alone_and_in_any_batch():
    rng = np.random.default_rng(4)
    lengths = [0, 1, 100, 1207, 7000, 16000, 31999, 65000, 200_000, 3, 50_000]
    clips = [rng.normal(size=n).astype(np.float32) * 0.1 for n in lengths]
    alone = [highpass_clips([clip], RATE, CONFIG) for clip in clips]
    for order in (np.arange(len(clips)), np.arange(len(clips))[::-1], rng.permutation(len(clips))):
        filtered, measures = highpass_clips([clips[i] for i in order], RATE, CONFIG)
        for place, i in enumerate(order):
            np.testing.assert_array_equal(filtered[place], alone[i][0][0])
            np.testing.assert_equal(vars(measures[place]), vars(alone[i][1][0]))


def test_clips_are_left_as_they_were():
    clip = np.random.default_rng(5).normal(size=4000)
    before = clip.copy()
    highpass_clips([clip], RATE, CONFIG)
    np.testing.assert_array_equal(clip, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_refused_with_the_index_of_its_clip(bad):
    clip = np.zeros(100)
    clip[50] = bad
    with pytest.raises(ValueError, match="clip 1"):
        highpass_clips([np.zeros(10), clip], RATE, CONFIG)


@pytest.mark.parametrize("bad", [np.zeros((2, 10)), np.zeros(10, np.int16)])
def test_a_clip_of_another_shape_or_kind_is_refused(bad):
    with pytest.raises(ValueError, match="clip 0"):
        highpass_clips([bad], RATE, CONFIG)


@pytest.mark.parametrize(
    "choices",
    [{"stop_hz": 80}, {"stop_hz": 0}, {"stop_db": -1}, {"peak_dbfs": 0}, {"peak_dbfs": -100}],
)
def test_choices_that_make_no_filter_are_refused(choices):
    with pytest.raises(ValueError, match="highpass"):
        HighpassConfig(**choices)


def test_a_pass_band_above_nyquist_is_refused():
    with pytest.raises(ValueError, match="half the sample rate"):
        design_highpass(HighpassConfig(pass_hz=500), 1000)


def test_clip_rate_counts_flat_tops_also_after_a_gain():
    tone = sine(200, RATE, 1.0)
    assert clip_rate(0.5 * tone) == 0
    expected = np.mean(np.abs(tone) >= 0.8)
    for gain in (1.25, 1.0, 0.5):
        assert clip_rate(np.clip(tone, -0.8, 0.8) * gain) == pytest.approx(expected, abs=0.01)
    one_side = np.clip(tone, -0.8, 1.0) * 0.5
    assert clip_rate(one_side) == pytest.approx(np.mean(tone <= -0.8), abs=0.01)


@pytest.mark.parametrize("hz", [70, 100, 440, 3000])
def test_clip_rate_of_clean_16_bit_tones_is_zero(hz):
    for amplitude in (0.01, 0.1, 0.5, 0.99):
        assert clip_rate(np.round(sine(hz, RATE, amplitude) * 32768) / 32768) == 0


def test_highpass_reports_clipping_before_and_none_after():
    _, (measures,) = highpass_clips([np.clip(sine(200, RATE, 3), -1, 1)], RATE, CONFIG)
    assert measures.clip_rate_in > 0.5
    assert measures.clip_rate_out < 0.01


def test_plot_of_the_response_is_written(tmp_path):
    path = tmp_path / "highpass.png"
    plot_highpass_response(CONFIG, RATE, path)
    assert path.read_bytes().startswith(b"\x89PNG")
