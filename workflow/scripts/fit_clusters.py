"""Fit clusters to the training frames."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.pretraining.cluster_shards.fit_cluster_file`."""
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.pretraining.cluster_shards import fit_cluster_file
    from exvo.workflow.pretrain_plan import pretraining_clips

    clips = snakemake.params.clips
    corpus = read_corpus(Path(snakemake.input.table).parent, clips["limit"])
    fit_cluster_file(
        snakemake.params.config,
        list(zip(snakemake.input.frames, snakemake.input.index, strict=True)),
        pretraining_clips(corpus, clips["list"], clips["limit"]),
        snakemake.params.seed,
        snakemake.output.clusters,
        model=Path(snakemake.input.model[0]).parent if snakemake.input.model else None,
        others=list(zip(snakemake.input.other_frames, snakemake.input.other_index, strict=True)),
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
