"""The results of the paper that this workflow reproduces, Tables 1 to 4, on H-VB.

Copied as printed; None where the paper prints no value. They are shown beside ours and enter no computation.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class AsPrinted:
    """A row of Table 1.

    Attributes
    ----------
    values : tuple of float
        The three values in the printed order. The header says Country, Age, Emotion, but in the first two
        rows the values appear to be CCC, UAR, MAE. S_MTL is symmetric in CCC and UAR, so it does not decide which
        of the two is which.
    s_mtl : float
    """

    values: tuple[float, float, float]
    s_mtl: float


@dataclass(frozen=True)
class Figures:
    """A row of Tables 2 to 4: UAR, MAE in years, CCC and S_MTL."""

    uar: float | None
    mae: float | None
    ccc: float | None
    s_mtl: float | None = None


# Table 1: the organisers' network on ComParE 2016, per stage, validation.
TABLE1 = {
    "baseline": AsPrinted((0.416, 0.506, 4.22), 0.348),
    "raw": AsPrinted((0.443, 0.510, 4.30), 0.352),
    "dc": AsPrinted((0.514, 0.433, 4.47), 0.344),
    "denoised": AsPrinted((0.515, 0.449, 4.27), 0.355),
    "vad": AsPrinted((0.467, 0.391, 4.56), 0.324),
}

# Table 2: HuBERT, single-task against multitask training, validation. The multitask CCC disagrees with Table 3.
TABLE2 = {
    "emotion only": Figures(uar=None, mae=None, ccc=0.626),
    "age only": Figures(uar=None, mae=4.02, ccc=None),
    "country only": Figures(uar=0.588, mae=None, ccc=None),
    "multitask": Figures(uar=0.626, mae=3.97, ccc=0.622),
}

# Table 3: encoders and training choices, validation.
TABLE3 = {
    "HuBERT": Figures(0.641, 4.01, 0.552, 0.406),
    "HuBERT + denoise": Figures(0.648, 3.76, 0.546, 0.420),
    "HuBERT + denoise + speed perturbation": Figures(0.650, 3.82, 0.559, 0.419),
    "Conformer (STRF)": Figures(0.504, 4.03, 0.507, 0.375),
    "Conformer (log-mel)": Figures(0.496, 4.17, 0.523, 0.370),
}

# Table 4: systems and their fusion, test.
TABLE4 = {
    "HuBERT": Figures(0.659, 4.00, 0.559, 0.410),
    "Conformer (STRF)": Figures(0.518, 4.34, 0.475, 0.358),
    "HuBERT + STRF": Figures(0.650, 3.94, 0.556, 0.412),
}
# The row of its fusion: age and country averaged, emotion from HuBERT alone.
FUSION = "HuBERT + STRF"
NO_FIGURES = Figures(None, None, None, None)


def paper_row(row: str, rows: Collection[str]) -> str | None:
    """Return the row of the paper that a row of ours is compared with, None where there is none.

    ``HuBERT: our-encoder`` is compared with ``HuBERT``, and keeps the name of our encoder.
    """
    return next((name for name in (row, row.split(": ", 1)[0]) if name in rows), None)


def paper_figures(row: str, rows: Mapping[str, T]) -> T | None:
    """Return the results of the paper for a row of ours, None where there are none."""
    name = paper_row(row, rows)
    return None if name is None else rows[name]
