"""Check that not too many clips are without audio."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.audio.bad_fraction.check_bad_fraction`."""
    from exvo.audio.bad_fraction import check_bad_fraction

    check_bad_fraction(snakemake.input.audio, snakemake.params.max_bad_fraction, snakemake.output.check)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
