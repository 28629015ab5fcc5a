"""Train one seed of a system on utterance-level features."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.systems.mlp.train_mlp_system`."""
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.systems.mlp import train_mlp_system

    limit = snakemake.params.labels["limit"]
    train_mlp_system(
        snakemake.input.features,
        read_corpus(Path(snakemake.input.table).parent, limit),
        snakemake.params.config,
        int(snakemake.wildcards.seed),
        Path(snakemake.output.model).parent,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
