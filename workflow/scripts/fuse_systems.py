"""Fuse systems, write the submission and the tables."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.report.outcome.write_outcome`."""
    from collections import defaultdict
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.evaluation.bootstrap import BootstrapConfig
    from exvo.fusion.fuse import CrossFit, FusionConfig
    from exvo.report.outcome import OutcomePaths, OutcomePlan, write_outcome

    outcome = snakemake.params.outcome
    # Systems and feature fusions have different names: .../<name>/<seed>/val.parquet.
    runs = defaultdict(list)
    for val, test in zip(snakemake.input.val, snakemake.input.test, strict=True):
        runs[Path(val).parent.parent.name].append((val, test))
    limit = snakemake.params.labels["limit"]
    statistics = dict(outcome["statistics"])
    folds = statistics.pop("folds")
    write_outcome(
        read_corpus(Path(snakemake.input.table).parent, limit),
        runs,
        OutcomePlan(
            [FusionConfig(**{**entry, "systems": tuple(entry["systems"])}) for entry in outcome["fusions"]],
            outcome["submission"],
            {table: dict(rows) for table, rows in outcome["tables"]},
            BootstrapConfig(**statistics),
            CrossFit(folds, statistics["seed"]),
            outcome["notices"],
        ),
        snakemake.input.quality,
        OutcomePaths(
            Path(snakemake.output.submission),
            Path(snakemake.output.fusion),
            Path(snakemake.output.val),
            Path(snakemake.output.tables[0]).parent,
        ),
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
