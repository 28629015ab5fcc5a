import numpy as np
import pytest
from scipy.signal import firwin, resample_poly

from exvo.audio import perturb
from exvo.audio.perturb import HALF_WIDTH, change_speed, perturb_shard
from exvo.audio.store import Clip, read_shard, write_shard


def sine(hz, n=16000):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(n) / 16000)).astype(np.float32)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_pitch_and_length_change_together(factor):
    found = change_speed(sine(1000.0), factor)
    assert len(found) == int(np.ceil(16000 / factor))
    expected = 0.5 * np.sin(2 * np.pi * 1000.0 * factor * np.arange(len(found)) / 16000)
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=2e-3)


@pytest.mark.parametrize("up, down", [(10, 9), (10, 11), (1, 2), (2, 1), (3, 7), (100, 99)])
@pytest.mark.parametrize("n", [1, 5, 300, 20_011])
def test_resampling_is_scipy_s_with_the_same_filter(up, down, n, monkeypatch):
    monkeypatch.setattr(perturb, "ROWS_AT_ONCE", 500)
    signal = np.random.default_rng(n).standard_normal(n)
    rate = max(up, down)
    taps = firwin(2 * HALF_WIDTH * rate + 1, (1 - 2.6 / HALF_WIDTH) / rate, window=("kaiser", 8.0))
    expected = resample_poly(signal, up, down, window=taps)
    np.testing.assert_allclose(change_speed(signal, down / up), expected, rtol=1e-6, atol=1e-6)


def test_what_would_go_beyond_half_the_rate_is_removed():
    found = change_speed(sine(7900.0), 1.1)
    assert np.abs(found[500:-500]).max() < 0.02


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_short_clips_are_handled(n):
    assert len(change_speed(sine(100.0, n), 0.9)) == int(np.ceil(n / 0.9))
    np.testing.assert_array_equal(change_speed(sine(100.0, n), 1.0), sine(100.0, n))


@pytest.mark.parametrize("factor", [0, -1.1, 2**0.5])
def test_other_factors_are_refused(factor):
    with pytest.raises(ValueError, match="factor"):
        change_speed(sine(100.0), factor)


def test_only_train_clips_are_perturbed_and_never_clipped(tmp_path):
    square = np.sign(sine(300.0)).astype(np.float32)
    clips = [Clip("a", square), Clip("b", sine(100.0)), Clip("c", None, "missing", "no recording raw/c.*")]
    write_shard(tmp_path / "s.parquet", clips, {}, bits=16)
    perturb_shard(tmp_path / "s.parquet", tmp_path / "t.parquet", 0.9, {"a", "c"})
    found = read_shard(tmp_path / "t.parquet")
    assert [(clip.clip_id, clip.status) for clip in found] == [("a", "ok"), ("c", "missing")]
    # The overshoot at the edges of a square wave is scaled, not cut off: it is there in the result.
    assert np.abs(found[0].audio).max() == pytest.approx(1.0, abs=1e-4)
    assert np.median(np.abs(found[0].audio)) < 0.95
