"""Train one seed of a system that reads sequences."""

import json
from typing import Any

from exvo.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.models.system_sequence.train_sequence_system`."""
    from collections import defaultdict
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.models.system_sequence import train_sequence_system

    # results/features/logmel/raw@0.9/0000.npy, its index beside it, by speed.
    perturbed = defaultdict(list)
    for frames in map(Path, snakemake.input.perturbed):
        if frames.suffix == ".npy":
            perturbed[float(frames.parent.name.split("@")[1])].append(
                (frames, frames.with_suffix(".parquet"))
            )
    system = json.loads(snakemake.params.spec)["system"]
    if system["feature"] == "hubert":
        from exvo.models.hubert_weights import exact_source

        # Prediction uses what the frames came from, wherever it is called, and nothing else.
        system["feature_config"] = exact_source(system["feature_config"])
    limit = json.loads(snakemake.params.labels)["limit"]
    train_sequence_system(
        list(zip(snakemake.input.frames, snakemake.input.index, strict=True)),
        snakemake.input.get("statistics"),
        read_corpus(Path(snakemake.input.table).parent, limit),
        system,
        int(snakemake.wildcards.seed),
        Path(snakemake.output.model).parent,
        perturbed=perturbed,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
