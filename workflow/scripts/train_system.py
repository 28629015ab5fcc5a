"""Train one seed of a system."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to ``train_system`` of the encoder's module."""
    from importlib import import_module
    from pathlib import Path

    from exvo.corpus.table import read_corpus

    limit = snakemake.params.labels["limit"]
    import_module(snakemake.params.module).train_system(
        snakemake.input.features,
        read_corpus(Path(snakemake.input.table).parent, limit),
        snakemake.params.config,
        int(snakemake.wildcards.seed),
        Path(snakemake.output.model).parent,
        statistics=next(iter(snakemake.input.statistics), None),
        perturbed=snakemake.input.perturbed,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
