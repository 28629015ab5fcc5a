"""Figures of the report: SVG, byte-identical for the same data, in colours for all types of colour vision."""

import base64
import io
from collections.abc import Callable
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from exvo.report.page.parts import Picture

# Okabe and Ito 2008; its yellow is too light for lines on white.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
GREY = "#767676"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
TASK_COLOURS = {"emotion": BLUE, "age": VERMILION, "country": GREEN}

_STYLE: Any = {
    # Ids of elements are hashes with this salt, not random.
    "svg.hashsalt": "exvo",
    # Text as paths, so the figure does not depend on installed fonts.
    "svg.fonttype": "path",
    # Dollar signs in names are text, not math.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def svg_uri(
    size: tuple[float, float],
    paint: Callable[[Figure], None],
    *,
    layout: Literal["constrained"] | None = "constrained",
) -> str:
    """Return a drawing as the data URI of an SVG image.

    Parameters
    ----------
    size : (float, float)
        Width and height in inches.
    paint : callable
        Draws on the figure it is given.
    layout : str or None
        As of Matplotlib; None leaves the margins to ``paint``.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout=layout)
        FigureCanvasSVG(figure)
        paint(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return data_uri("image/svg+xml", file.getvalue())


def picture(
    title: str,
    alt: str,
    caption: str,
    size: tuple[float, float],
    paint: Callable[[Figure], None],
    *,
    wide: bool = True,
) -> Picture:
    """Return a figure with its texts; arguments as of `svg_uri` and `Picture`."""
    return Picture(title, svg_uri(size, paint), alt, caption, wide)


def log_scale(axes: Axes) -> None:
    """Make the x axis logarithmic, with plain numbers: Matplotlib's own labels are formulas."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def data_uri(kind: str, data: bytes) -> str:
    """Return bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
