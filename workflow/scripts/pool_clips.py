"""Represent all clips by one trained system."""

from typing import Any

from exvo.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.models.pooled_vectors.write_pooled_vectors`."""
    from pathlib import Path

    from exvo.features.vectors import as_shards
    from exvo.models.pooled_vectors import write_pooled_vectors

    write_pooled_vectors(
        Path(snakemake.input.model).parent,
        as_shards(snakemake.input.features),
        snakemake.output.frames,
        snakemake.output.index,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
