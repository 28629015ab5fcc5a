"""High-pass filter the clips of a shard."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.audio.stage_dc.dc_shard`."""
    from exvo.audio.stage_dc import HighpassConfig, dc_shard

    config = HighpassConfig(**snakemake.params.config)
    dc_shard(snakemake.input.audio, snakemake.output.audio, config)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
