"""The learned STRF kernels, from the figures of the rule ``plot_strf``."""

from collections.abc import Mapping
from pathlib import Path

from exvo.report.page.drawing import data_uri
from exvo.report.page.parts import Picture, Section, Words


def strf_section(figures: Mapping[str, tuple[str | Path, str | Path]], seed: int) -> Section:
    """Show kernels and their paths in training.

    Parameters
    ----------
    figures : mapping of str to (str or Path, str or Path)
        PNG of the kernels and of their paths, by system.
    seed : int
        Of the systems in the figures.
    """
    lead = "Gabor kernels over the log-mel spectrogram, with learned rate and scale."
    if not figures:
        return Section("strf", "Learned STRFs", lead, [Words("No system of this run has an STRF front end.")])
    parts: list[Picture | Words] = []
    for name, (kernels, paths) in figures.items():
        parts.append(
            Picture(
                f"Kernels of {name}, seed {seed}",
                data_uri("image/png", Path(kernels).read_bytes()),
                f"The learned STRF kernels of {name}, each over time and mel channels.",
                "The real parts of the learned Gabor kernels, ordered by rate. Titles: rate in Hz and scale in cycles "
                "per mel channel.",
            )
        )
        parts.append(
            Picture(
                f"Paths of the kernels of {name}, seed {seed}",
                data_uri("image/png", Path(paths).read_bytes()),
                f"Rate and scale of every kernel of {name} over the epochs.",
                "Rate and scale of every kernel, from initialisation to the last epoch.",
            )
        )
    return Section("strf", "Learned STRFs", lead, parts)
