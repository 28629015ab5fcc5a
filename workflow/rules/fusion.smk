rule fuse_systems:
    """Fuse systems, write the submission, and score and compare all systems: the last rule."""
    input:
        table=ancient(PLAN.table),
        test_labels=ancient(PLAN.test_table),
        quality="results/quality/clips.parquet",
        val=system_predictions(PLAN.compared_systems(), "val") + feature_fusion_predictions("val"),
        test=system_predictions(PLAN.compared_systems(), "test") + feature_fusion_predictions("test"),
    output:
        submission=ensure("results/fusion/test_preds.csv", non_empty=True),
        fusion="results/fusion/fusion.json",
        val=ensure("results/fusion/val_out_of_fold.parquet", non_empty=True),
        tables=report(
            expand(
                "results/tables/{table}.{ending}",
                table=PLAN.outcome_tables(),
                ending=["csv", "md", "html"],
            ),
            caption="../report/tables.rst",
            category="Tables",
        ),
        tables_json=expand("results/tables/{table}.json", table=PLAN.outcome_tables()),
    log:
        "results/logs/fusion.log",
    benchmark:
        "results/benchmarks/fusion.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        outcome=PLAN.outcome(),
        code=code_digest("exvo.report.outcome"),
        labels=PLAN.labels,
        speakers=PLAN.speakers,
    message:
        "Fusing systems, writing the submission and the tables"
    script:
        "../scripts/fuse_systems.py"
