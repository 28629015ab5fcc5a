"""Extract openSMILE functionals of a shard."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.features.opensmile.opensmile_shard`."""
    from exvo.features.opensmile import OpensmileConfig, opensmile_shard

    config = OpensmileConfig(**snakemake.params.config)
    opensmile_shard(snakemake.input.audio, snakemake.output.features, config, n_threads=snakemake.threads)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
