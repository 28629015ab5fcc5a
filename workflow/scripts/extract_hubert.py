"""Extract HuBERT embeddings of a shard."""

import json
from typing import Any

from exvo.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.models.hubert_features.embed_shard`."""
    from exvo.models.hubert_features import EmbeddingConfig, embed_shard

    config = EmbeddingConfig.from_dict(json.loads(snakemake.params.spec)["config"])
    embed_shard(
        snakemake.input.audio,
        snakemake.output.frames,
        snakemake.output.index,
        config,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
