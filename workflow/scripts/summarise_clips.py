"""Compute one vector per clip from a feature."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.features.vectors.write_vectors`."""
    from exvo.features.vectors import as_shards, feature_vectors, write_vectors

    shards = as_shards(snakemake.input.features)
    write_vectors(shards, feature_vectors, snakemake.output.frames, snakemake.output.index)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
