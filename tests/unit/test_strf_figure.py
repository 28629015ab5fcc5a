"""Figure 1 is written for any number of kernels, with what it should say on it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from exvo.networks.strf import StrfConfig
from exvo.report.figures.strf import plot_strf_kernels, plot_strf_paths, plot_strf_system


@pytest.fixture
def saved(monkeypatch):
    """The figures that were written, to look into."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1]
    )
    return figures


def test_kernels_are_sorted_by_rate_then_scale_and_titled_in_physical_units(tmp_path, saved):
    rates = 2 * math.pi * np.array([0.10, 0.04, 0.04])  # at a 20 ms hop: 5, 2 and 2 Hz
    scales = 2 * math.pi * np.array([0.125, 0.25, -0.0625])
    plot_strf_kernels(rates, scales, StrfConfig(support_frames=11), tmp_path / "kernels.png", hop_ms=20)
    panels = [axes for axes in saved[0].axes if axes.images and axes.get_title()]
    titles = [axes.get_title() for axes in panels]
    assert titles == ["2.0 Hz, -0.062 c/ch", "2.0 Hz, +0.250 c/ch", "5.0 Hz, +0.125 c/ch"]
    assert panels[0].images[0].get_extent() == [-110, 110, -15.5, 15.5]
    assert imread(tmp_path / "kernels.png").std() > 0.01


def test_a_drawn_kernel_has_time_across_and_channels_up(tmp_path, saved):
    plot_strf_kernels(np.array([math.pi / 4]), np.zeros(1), StrfConfig(), tmp_path / "kernel.png")
    drawn = saved[0].axes[0].images[0].get_array()
    middle_row, middle_column = drawn[15], drawn[:, 15]
    assert (middle_column > 0).all()  # no ripple along channels
    assert (np.diff(np.sign(middle_row)) != 0).sum() >= 6  # and one along time


@pytest.mark.parametrize("n_kernels", [1, 7])
def test_kernels_of_any_number_are_drawn(tmp_path, saved, n_kernels):
    rng = np.random.default_rng(0)
    path = tmp_path / "kernels.png"
    plot_strf_kernels(rng.uniform(0, 1.5, n_kernels), rng.uniform(-1.5, 1.5, n_kernels), StrfConfig(), path)
    assert sum(bool(axes.images and axes.get_title()) for axes in saved[0].axes) == n_kernels
    assert path.stat().st_size > 0


@pytest.mark.parametrize("n_points", [1, 5])
def test_paths_run_from_the_first_to_the_last_epoch(tmp_path, saved, n_points):
    rng = np.random.default_rng(0)
    rates, scales = rng.uniform(0, 1.5, (2, n_points, 4))
    plot_strf_paths((rates, scales), tmp_path / "paths.png", 10)
    plane = next(axes for axes in saved[0].axes if "Paths" in axes.get_title())
    assert len(plane.lines) == 4
    for kernel, line in enumerate(plane.lines):
        np.testing.assert_allclose(line.get_xdata(), rates[:, kernel] / (2 * math.pi) * 100)
        np.testing.assert_allclose(line.get_ydata(), scales[:, kernel] / (2 * math.pi))
    assert (tmp_path / "paths.png").stat().st_size > 0


def test_a_history_that_was_lost_is_missed_by_name_with_what_to_do(tmp_path, monkeypatch):
    lost = SimpleNamespace(strf_history={})
    monkeypatch.setattr("exvo.training.storage.load_trained", lambda folder, kinds: lost)
    with pytest.raises(ValueError, match=r"strf_history\.parquet.*missing; delete model\.safetensors"):
        plot_strf_system(tmp_path, tmp_path / "kernels.png", tmp_path / "paths.png")
