rule fuse_systems:
    """Combine systems, write the submission and score what was combined: the last rule."""
    input:
        table=ancient(PLAN.table),
        test_labels=ancient(PLAN.test_table),
        quality="results/quality/clips.parquet",
        val=system_predictions(PLAN.compared_systems(), "val"),
        test=system_predictions(PLAN.compared_systems(), "test"),
    output:
        submission=ensure("results/fusion/test_preds.csv", non_empty=True),
        fusion="results/fusion/fusion.json",
        table1_csv="results/tables/table1.csv",
        table1_md=report(
            "results/tables/table1.md",
            caption="../report/table1.rst",
            category="Tables",
        ),
    log:
        "results/logs/fusion.log",
    benchmark:
        "results/benchmarks/fusion.tsv"
    conda:
        "../../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=30,
    params:
        spec=PLAN.outcome_spec("exvo.report.outcome"),
        labels=PLAN.labels,
        speakers=PLAN.speakers,
    message:
        "Fusing systems, writing the submission and Table 1"
    script:
        "../scripts/fuse_systems.py"
