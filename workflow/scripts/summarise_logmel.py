"""Compute the mean and SD of the log-mel frames of the training clips."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.features.logmel.logmel_statistics`."""
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.features.logmel import logmel_statistics

    limit = snakemake.params.clips["limit"]
    labels = read_corpus(Path(snakemake.input.table).parent, limit).labels
    shards = list(zip(snakemake.input.frames, snakemake.input.index, strict=True))
    logmel_statistics(shards, set(labels.clip_id[labels.split == "Train"]), snakemake.output.statistics)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
