"""Summarise the quality of every clip."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.audio.quality.summarise_quality`."""
    from pathlib import Path

    from exvo.audio.quality import summarise_quality
    from exvo.corpus.table import read_corpus

    quality = snakemake.params.quality
    by_stage = {
        stage: [path for path in snakemake.input.audio if Path(path).parent.name == stage]
        for stage in quality["stages"]
    }
    labels = read_corpus(Path(snakemake.input.table).parent, quality["limit"]).labels
    summarise_quality(by_stage, labels, snakemake.output.clips, snakemake.output.summary)


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
