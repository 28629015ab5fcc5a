"""Extract HuBERT embeddings of a shard."""

import json
from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.hubert.embeddings.embed_shard`."""
    from exvo.hubert.embeddings import EmbeddingConfig, embed_shard

    spec = json.loads(snakemake.params.spec)
    embed_shard(
        snakemake.input.audio,
        snakemake.output.frames,
        snakemake.output.index,
        EmbeddingConfig.from_dict(spec["config"]),
        where=spec["section"],
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
