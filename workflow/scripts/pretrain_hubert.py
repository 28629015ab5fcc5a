"""Pre-train an encoder by masked prediction."""

import os
from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.pretraining.pretrain_shards.pretrain_encoder`."""
    # Threads that wait actively made steps seven times slower on a machine with other busy processes. Torch reads the
    # variable when it is imported.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.pretraining.pretrain_shards import pretrain_encoder
    from exvo.workflow.pretrain_plan import pretraining_clips

    clips = snakemake.params.clips
    corpus = read_corpus(Path(snakemake.input.table).parent, clips["limit"])
    ids = pretraining_clips(corpus, clips["list"], clips["limit"])
    speaker = dict(zip(corpus.labels.clip_id, corpus.labels.speaker, strict=True))
    # By set of clusters: results/clusters/mfcc/0000.npy and its index.
    shards = list(zip(snakemake.input.labels, snakemake.input.label_index, strict=True))
    targets = {}
    for path in map(Path, snakemake.input.clusters):
        targets[path.parent.name] = (path, [pair for pair in shards if Path(pair[0]).parent == path.parent])
    pretrain_encoder(
        list(zip(snakemake.input.frames, snakemake.input.index, strict=True)),
        targets,
        ids,
        [speaker[clip_id] for clip_id in ids],
        snakemake.params.config,
        snakemake.params.seed,
        Path(snakemake.output.model).parent,
        start=Path(snakemake.input.start[0]).parent if snakemake.input.start else None,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
