"""Train one seed of a system that reads a HuBERT."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.systems.hubert.train_hubert_system`."""
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.systems.hubert import train_hubert_system
    from exvo.systems.sequence import shards_by_speed

    limit = snakemake.params.labels["limit"]
    train_hubert_system(
        list(zip(snakemake.input.frames, snakemake.input.index, strict=True)),
        read_corpus(Path(snakemake.input.table).parent, limit),
        snakemake.params.config,
        int(snakemake.wildcards.seed),
        Path(snakemake.output.model).parent,
        perturbed=shards_by_speed(snakemake.input.perturbed),
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
