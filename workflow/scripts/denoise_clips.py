"""Denoise the clips of a shard."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.audio.stage_denoised.denoised_shard`."""
    from exvo.audio.stage_denoised import DenoiseConfig, denoised_shard

    config = DenoiseConfig(**snakemake.params.config)
    denoised_shard(snakemake.input.audio, snakemake.output.audio, config)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
