"""Draw the STRF kernels of a trained system."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.report.figures.strf.plot_strf_system`."""
    from pathlib import Path

    from exvo.report.figures.strf import plot_strf_system

    plot_strf_system(Path(snakemake.input.model).parent, snakemake.output.kernels, snakemake.output.paths)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
