"""Represent all clips by one trained system."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.features.vectors.write_vectors`."""
    from pathlib import Path

    from exvo.features.vectors import as_shards, write_vectors
    from exvo.networks.torch_setup import torch_threads

    if snakemake.params.encoder == "mlp":
        from exvo.systems.mlp_embeddings import mlp_embeddings_by as vectors_by
    else:
        from exvo.systems.utterance_embeddings import utterance_embeddings_by as vectors_by

    with torch_threads(snakemake.threads):
        write_vectors(
            as_shards(snakemake.input.features),
            vectors_by(Path(snakemake.input.model).parent),
            snakemake.output.frames,
            snakemake.output.index,
        )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
