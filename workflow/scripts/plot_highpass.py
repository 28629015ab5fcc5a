"""Plot the response of the high-pass filter."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.report.figures.highpass.plot_highpass_response`."""
    from exvo.audio.highpass import HighpassConfig
    from exvo.audio.store import SAMPLE_RATE
    from exvo.report.figures.highpass import plot_highpass_response

    config = HighpassConfig(**snakemake.params.config)
    plot_highpass_response(config, SAMPLE_RATE, snakemake.output.figure)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
