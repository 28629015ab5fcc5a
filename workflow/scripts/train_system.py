"""Train one seed of a system."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to ``train_system`` of the encoder's module.

    A trained system keeps the SHA-256 of its HuBERT weights, so that prediction uses the same weights and no others.
    """
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.features.spec import feature_key, feature_kind
    from exvo.workflow.systems import ENCODERS

    system = snakemake.params.config
    if feature_kind(system["feature"]) == "hubert":
        # Not in `exvo.systems.mlp`, which reads any feature: an edit of HuBERT would retrain systems without it.
        from exvo.hubert.weights import exact_source

        source = exact_source(system["feature_config"], feature_key(system["feature"]))
        system = {**system, "feature_config": source}
    limit = snakemake.params.labels["limit"]
    ENCODERS[system["encoder"]].load().train_system(
        snakemake.input.features,
        read_corpus(Path(snakemake.input.table).parent, limit),
        system,
        int(snakemake.wildcards.seed),
        Path(snakemake.output.model).parent,
        statistics=next(iter(snakemake.input.statistics), None),
        perturbed=snakemake.input.perturbed,
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
