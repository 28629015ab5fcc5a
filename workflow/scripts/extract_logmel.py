"""Extract log-mel spectrograms of a shard."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.features.logmel.logmel_shard`."""
    from exvo.features.logmel import LogmelConfig, logmel_shard

    config = LogmelConfig(**snakemake.params.config)
    logmel_shard(snakemake.input.audio, snakemake.output.frames, snakemake.output.index, config)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
