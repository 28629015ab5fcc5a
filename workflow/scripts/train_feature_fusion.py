"""Train one seed of a feature fusion."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.systems.feature_fusion.train_feature_fusion`."""
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.systems.feature_fusion import train_feature_fusion

    limit = snakemake.params.labels["limit"]
    train_feature_fusion(
        list(zip(snakemake.input.frames, snakemake.input.index, strict=True)),
        read_corpus(Path(snakemake.input.table).parent, limit),
        snakemake.params.config,
        int(snakemake.wildcards.seed),
        Path(snakemake.output.model).parent,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
