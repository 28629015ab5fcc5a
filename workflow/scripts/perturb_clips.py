"""Play the training clips of a shard at another speed."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.audio.perturb.perturb_shard`."""
    from exvo.audio.perturb import perturb_shard

    perturb_shard(
        snakemake.input.audio,
        snakemake.output.audio,
        float(snakemake.wildcards.speed),
        set(snakemake.params.clips),
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
