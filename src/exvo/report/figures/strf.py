"""Figure 1: the learned STRF kernels of a system, and their paths in training."""

import json
import math
from pathlib import Path

import numpy as np
import torch

from exvo.networks.strf import Strf, StrfConfig, rate_in_hz, scale_in_cpc
from exvo.util.atomic import atomic_path

# Both maps are ordered for all types of colour vision: purple to orange for signed values, blue to yellow for rank.
SIGNED, RANKED = "PuOr_r", "cividis"
COLUMNS = 6


def plot_strf_system(folder: Path | str, kernels_path: Path | str, paths_path: Path | str) -> None:
    """Draw the kernels of a trained system's best epoch, and their paths through all epochs.

    Parameters
    ----------
    folder : Path or str
        Of a trained system with an STRF front end.
    kernels_path, paths_path : Path or str
        Images to write.

    Raises
    ------
    ValueError
        If the history of the kernels is missing: the message says what to do.
    """
    # Imported here because the drawing functions need no trained system.
    from exvo.networks.conformer_network import ConformerNetworkConfig
    from exvo.training.storage import STRF_HISTORY, load_trained

    trained = load_trained(folder, [ConformerNetworkConfig])
    if not trained.strf_history:
        # The history is no output of the training rule, which also trains networks without kernels.
        raise ValueError(
            f"{folder}: {STRF_HISTORY}, a file of training, is missing; delete model.safetensors in this folder, and "
            "the next run trains the system again"
        )
    config = trained.network_config
    assert isinstance(config, ConformerNetworkConfig)
    system = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))["system"]
    hop_ms = system["feature_config"]["hop_ms"]
    rates, scales = trained.strf_history["rate"], trained.strf_history["scale"]
    best = trained.best_epoch
    plot_strf_kernels(rates[best], scales[best], config.strf, kernels_path, hop_ms=hop_ms)
    plot_strf_paths((rates, scales), paths_path, hop_ms)


def plot_strf_kernels(
    rates: np.ndarray, scales: np.ndarray, config: StrfConfig, path: Path | str, *, hop_ms: float = 10.0
) -> None:
    """Draw the real part of every kernel, ordered by rate, then scale.

    Parameters
    ----------
    rates, scales : np.ndarray [shape=(n_kernels,)]
        In rad per frame and rad per mel channel, as `Strf` learns them.
    config : StrfConfig
        Support of the kernels; ``n_kernels`` is taken from the arrays.
    path : Path or str
        Image to write; its ending names the format.
    hop_ms : float
        Hop between frames, in ms.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.lexsort((scales, rates))
    n_kernels = len(order)
    layer = Strf(StrfConfig(n_kernels, config.support_frames, config.support_channels))
    with torch.no_grad():
        layer.rate.copy_(torch.as_tensor(np.asarray(rates)[order]))
        layer.scale.copy_(torch.as_tensor(np.asarray(scales)[order]))
        real_parts = layer.kernels()[:n_kernels].numpy()
    hz, cycles = layer.rates_hz(hop_ms).tolist(), layer.scales_cpc().tolist()
    half_ms, half_channels = config.support_frames * hop_ms / 2, config.support_channels / 2
    extent = (-half_ms, half_ms, -half_channels, half_channels)
    peak = np.abs(real_parts).max()

    n_columns = min(COLUMNS, n_kernels)
    n_rows = math.ceil(n_kernels / n_columns)
    figure = Figure(figsize=(1.75 * n_columns + 1.2, 1.75 * n_rows + 1), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, kernel, rate, scale in zip(grid, real_parts, hz, cycles, strict=False):
        image = axes.imshow(
            kernel.T, origin="lower", aspect="auto", extent=extent, cmap=SIGNED, vmin=-peak, vmax=peak
        )
        axes.set_title(f"{rate:.1f} Hz, {scale:+.3f} c/ch", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in grid[n_kernels:]:
        axes.set_axis_off()
    for axes in grid[max(n_kernels - n_columns, 0) : n_kernels]:
        axes.tick_params(labelbottom=True)  # the last row may have a gap below this one
    figure.suptitle("STRF kernels, real part: rate in Hz, scale in cycles per mel channel", fontsize=10)
    figure.supxlabel("time from the centre (ms)", fontsize=9)
    figure.supylabel("mel channels from the centre", fontsize=9)
    figure.colorbar(image, ax=list(grid), shrink=0.5, label="weight (unit L2 norm)")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def plot_strf_paths(history: tuple[np.ndarray, np.ndarray], path: Path | str, hop_ms: float = 10.0) -> None:
    """Draw rates and scales in training: in their plane, and each by epoch.

    Parameters
    ----------
    history : (rates, scales), np.ndarray [shape=(n_epochs + 1, n_kernels)] each
        Before training and after every epoch, in rad per frame and rad per mel channel.
    path : Path or str
        Image to write; its ending names the format.
    hop_ms : float
        Hop between frames, in ms.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rates, scales = (torch.as_tensor(np.asarray(values)) for values in history)
    hz, cycles = rate_in_hz(rates, hop_ms).numpy(), scale_in_cpc(scales).numpy()
    # One colour per kernel in all panels, by the rank of its last rate.
    ranks = np.argsort(np.argsort(hz[-1]))
    colours = colormaps[RANKED](ranks / max(len(ranks) - 1, 1))
    epochs = np.arange(len(hz))

    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["plane", "rate"], ["plane", "scale"]], width_ratios=(1.3, 1))
    plane = panels["plane"]
    for kernel, colour in enumerate(colours):
        plane.plot(hz[:, kernel], cycles[:, kernel], color=colour, linewidth=1)
        panels["rate"].plot(epochs, hz[:, kernel], color=colour, linewidth=1)
        panels["scale"].plot(epochs, cycles[:, kernel], color=colour, linewidth=1)
    plane.scatter(
        hz[0], cycles[0], facecolors="white", edgecolors=colours.tolist(), label="before training", zorder=3
    )
    plane.scatter(hz[-1], cycles[-1], c=colours, label="after the last epoch", zorder=4)
    plane.set(xlabel="rate (Hz)", ylabel="scale (cycles per mel channel)", title="Paths of the kernels")
    plane.legend(loc="lower center", bbox_to_anchor=(0.5, -0.25), ncols=2, frameon=False)
    panels["rate"].set(ylabel="rate (Hz)", title="Coloured by the last rate")
    panels["scale"].set(xlabel="epoch", ylabel="scale (cycles per channel)")
    for axes in panels.values():
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
