"""Write the utterance embeddings of all clips by one trained system."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.features.vectors.write_vectors`."""
    from pathlib import Path

    from exvo.features.vectors import as_shards, write_vectors
    from exvo.networks.torch_setup import torch_threads
    from exvo.systems.utterance_embeddings import utterance_embeddings_by
    from exvo.workflow.systems import ENCODERS

    kinds = ENCODERS[snakemake.params.encoder].load().KINDS
    with torch_threads(snakemake.threads):
        write_vectors(
            as_shards(snakemake.input.features),
            utterance_embeddings_by(Path(snakemake.input.model).parent, kinds),
            snakemake.output.frames,
            snakemake.output.index,
        )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
