"""The magnitude response of the high-pass filter of the dc stage, and its specification."""

from pathlib import Path

import numpy as np

from exvo.audio.highpass import HighpassConfig, design_highpass
from exvo.util.atomic import atomic_path

# Palette of Okabe and Ito, for all types of colour vision; the limits also differ by hatching.
RESPONSE, STOP, PASS = "#0072B2", "#D55E00", "#009E73"


def plot_highpass_response(config: HighpassConfig, sample_rate: int, path: Path | str) -> None:
    """Draw gain over frequency up to 200 Hz; regions outside the specification are hatched.

    Parameters
    ----------
    config : HighpassConfig
        The filter.
    sample_rate : int
        In Hz.
    path : Path or str
        Image to write; its ending names the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    taps = design_highpass(config, sample_rate)
    top_hz = min(max(200.0, 1.5 * config.pass_hz), sample_rate / 2)
    hz = np.linspace(0, top_hz, 2001)
    delays = np.arange(len(taps)) - len(taps) // 2
    # Symmetric taps: the response is real after removing the delay.
    gain_db = 20 * np.log10(np.abs(np.cos(2 * np.pi * np.outer(hz, delays) / sample_rate) @ taps) + 1e-8)
    floor = -config.stop_db - 30

    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    full, zoom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.4))
    for axes in (full, zoom):
        axes.plot(hz, gain_db, color=RESPONSE, label=f"response, {len(taps)} taps at {sample_rate} Hz")
        axes.grid(alpha=0.3)
        axes.set_ylabel("gain (dB)")
    limits = {"facecolor": "none", "linewidth": 0.0}
    stop_label = f"at least {config.stop_db:g} dB down, 0 to {config.stop_hz:g} Hz"
    full.fill_between(
        [0, config.stop_hz], -config.stop_db, 6, hatch="//", edgecolor=STOP, label=stop_label, **limits
    )
    ripple = config.pass_ripple_db
    pass_label = f"within {ripple:g} dB from {config.pass_hz:g} Hz"
    for axes, bottom, top in ((full, floor, 6), (zoom, -3 * ripple, 3 * ripple)):
        axes.fill_between(
            [config.pass_hz, top_hz],
            bottom,
            -ripple,
            hatch="\\\\",
            edgecolor=PASS,
            label=pass_label,
            **limits,
        )
        axes.fill_between([config.pass_hz, top_hz], ripple, top, hatch="\\\\", edgecolor=PASS, **limits)
        axes.set_ylim(bottom, top)
    full.set_title("High-pass filter of the dc stage; hatched: outside the specification")
    full.legend(loc="center right", framealpha=1)
    zoom.set_xlim(0, top_hz)
    zoom.set_xlabel("frequency (Hz)")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
