"""Unpack the samples of a shard."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.features.waveform.waveform_shard`."""
    from exvo.features.waveform import waveform_shard

    waveform_shard(snakemake.input.audio, snakemake.output.frames, snakemake.output.index)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
