"""The STRF kernels that systems learned, from the figures that a rule of their own has drawn."""

from collections.abc import Mapping
from pathlib import Path

from exvo.report.page.drawing import data_uri
from exvo.report.page.parts import Picture, Section, Words


def strf_section(figures: Mapping[str, tuple[str | Path, str | Path]], seed: int) -> Section:
    """Show kernels and their paths.

    Parameters
    ----------
    figures : mapping of str to (str or Path, str or Path)
        PNG of the kernels and of their paths, by system.
    seed : int
        Of the systems in the figures.
    """
    lead = "Kernels over the log-mel spectrogram of which only rate and scale are learned."
    if not figures:
        return Section("strf", "Learned STRFs", lead, [Words("No system of this run has an STRF front end.")])
    parts: list[Picture | Words] = []
    for name, (kernels, paths) in figures.items():
        parts.append(
            Picture(
                f"Kernels of {name}, seed {seed}",
                data_uri("image/png", Path(kernels).read_bytes()),
                f"The learned STRF kernels of {name}, each a small picture over time and mel channels.",
                "The real parts of the learned Gabor kernels, in the order of their rates. Above each stand its rate "
                "in Hz and its scale in cycles per mel channel.",
            )
        )
        parts.append(
            Picture(
                f"Paths of the kernels of {name}, seed {seed}",
                data_uri("image/png", Path(paths).read_bytes()),
                f"Rate and scale of every kernel of {name} over the epochs.",
                "Rate and scale of every kernel from before the first epoch to the last. Kernels that hardly moved "
                "found their modulation where they were put.",
            )
        )
    return Section("strf", "Learned STRFs", lead, parts)
