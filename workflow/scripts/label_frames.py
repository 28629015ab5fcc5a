"""Label the frames of a shard's training clips with their clusters."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.pretraining.cluster_shards.label_clips`."""
    from pathlib import Path

    from exvo.pretraining.cluster_shards import label_clips

    label_clips(
        snakemake.params.config,
        [(snakemake.input.frames, snakemake.input.index)],
        snakemake.params.clips,
        snakemake.input.clusters,
        snakemake.output.labels,
        snakemake.output.index,
        model=Path(snakemake.input.model[0]).parent if snakemake.input.model else None,
        others=list(zip(snakemake.input.other_frames, snakemake.input.other_index, strict=True)),
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
