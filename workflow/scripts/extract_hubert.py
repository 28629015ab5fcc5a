"""Extract HuBERT embeddings of a shard."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.hubert.embeddings.embed_shard`."""
    from exvo.features.spec import feature_key
    from exvo.hubert.embeddings import EmbeddingConfig, embed_shard

    embed_shard(
        snakemake.input.audio,
        snakemake.output.frames,
        snakemake.output.index,
        EmbeddingConfig.from_dict(snakemake.params.config),
        where=feature_key(snakemake.wildcards.feature),
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
