"""Denoise the clips of a shard."""

import json
from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.audio.stage_denoised.denoised_shard`."""
    from exvo.audio.stage_denoised import DenoiseConfig, denoised_shard

    config = DenoiseConfig(**json.loads(snakemake.params.spec)["config"])
    denoised_shard(snakemake.input.audio, snakemake.output.audio, config)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
