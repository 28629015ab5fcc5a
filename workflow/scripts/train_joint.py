"""Train one seed of the model of a joint fusion."""

import json
from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.systems.feature_fusion.train_joint_system`."""
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.systems.feature_fusion import train_joint_system

    limit = json.loads(snakemake.params.labels)["limit"]
    train_joint_system(
        list(zip(snakemake.input.frames, snakemake.input.index, strict=True)),
        read_corpus(Path(snakemake.input.table).parent, limit),
        json.loads(snakemake.params.spec)["joint"],
        int(snakemake.wildcards.seed),
        Path(snakemake.output.model).parent,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
