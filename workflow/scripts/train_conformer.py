"""Train one seed of a system that reads sequences."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.systems.sequence.train_sequence_system`."""
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.systems.sequence import shards_by_speed, train_sequence_system

    limit = snakemake.params.labels["limit"]
    train_sequence_system(
        list(zip(snakemake.input.frames, snakemake.input.index, strict=True)),
        snakemake.input.statistics,
        read_corpus(Path(snakemake.input.table).parent, limit),
        snakemake.params.config,
        int(snakemake.wildcards.seed),
        Path(snakemake.output.model).parent,
        perturbed=shards_by_speed(snakemake.input.perturbed),
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
