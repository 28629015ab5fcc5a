"""Remove silence before and after the burst from the clips of a shard."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.audio.stage_vad.vad_shard`."""
    from exvo.audio.stage_vad import VadConfig, vad_shard

    config = VadConfig(**snakemake.params.config)
    vad_shard(snakemake.input.audio, snakemake.output.audio, config, n_threads=snakemake.threads)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
