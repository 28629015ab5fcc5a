# The STRF systems whose kernels are drawn by default: those of the tables and fusions.
DRAWN_SYSTEMS = [name for name in PLAN.compared_systems() if name in PLAN.strf_systems()]


rule summarise_quality:
    """Quality table: status, reason and measures of every clip at every stage."""
    input:
        table=ancient(PLAN.table),
        audio=[
            path
            for stage in PLAN.used_stages()
            for path in shards("results/audio/{stage}/{{shard}}.parquet".format(stage=stage))
        ],
    output:
        clips=ensure("results/quality/clips.parquet", non_empty=True),
        summary="results/quality/summary.md",
    log:
        "results/logs/quality.log",
    benchmark:
        "results/benchmarks/quality.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        quality=PLAN.quality(),
        code=code_digest("exvo.audio.quality"),
    message:
        "Summarising the quality of every clip"
    script:
        "../scripts/summarise_quality.py"


rule plot_highpass:
    """Magnitude response of the high-pass filter, and its specification."""
    output:
        figure="results/figures/highpass.png",
    log:
        "results/logs/figures/highpass.log",
    benchmark:
        "results/benchmarks/figures/highpass.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        config=PLAN.section("audio.highpass"),
        code=code_digest("exvo.report.figures.highpass"),
    message:
        "Plotting the response of the high-pass filter"
    script:
        "../scripts/plot_highpass.py"


rule plot_strf:
    """Figure 1: the learned STRF kernels of a system, and their paths in training."""
    input:
        model="results/models/{system}/{seed}/model.safetensors",
        config="results/models/{system}/{seed}/config.json",
    output:
        kernels=report(
            "results/figures/strf/{system}_{seed}_kernels.png",
            caption="../report/strf_kernels.rst",
            category="Figures",
        ),
        paths=report(
            "results/figures/strf/{system}_{seed}_paths.png",
            caption="../report/strf_paths.rst",
            category="Figures",
        ),
    log:
        "results/logs/figures/strf/{system}_{seed}.log",
    benchmark:
        "results/benchmarks/figures/strf/{system}_{seed}.tsv"
    wildcard_constraints:
        system=names_pattern(PLAN.strf_systems()),
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        code=code_digest("exvo.report.figures.strf"),
    message:
        "Drawing the STRF kernels of {wildcards.system}, seed {wildcards.seed}"
    script:
        "../scripts/plot_strf.py"


rule write_report:
    """The report as one HTML file: result, tables, figures, clips to listen to, data quality, cost and config."""
    input:
        table=ancient(PLAN.table),
        fusion=rules.fuse_systems.output.fusion,
        val=rules.fuse_systems.output.val,
        tables=rules.fuse_systems.output.tables_json,
        quality=rules.summarise_quality.output.clips,
        audio=[
            path
            for stage in PLAN.used_stages()
            for path in shards("results/audio/{stage}/{{shard}}.parquet".format(stage=stage))
        ],
        history=expand(
            "results/models/{system}/{seed}/{file}",
            system=PLAN.compared_systems(),
            seed=PLAN.seeds(),
            file=["history.csv", "metrics.json"],
        )
        + expand(
            "results/fusion/{fusion}/{seed}/{file}",
            fusion=PLAN.feature_fusions(),
            seed=PLAN.seeds(),
            file=["history.csv", "metrics.json"],
        ),
        strf=expand(
            rules.plot_strf.output,
            system=DRAWN_SYSTEMS,
            seed=PLAN.seeds()[0],
        ),
    output:
        page=report(
            "results/report/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        report=PLAN.report(),
        code=code_digest("exvo.report.page.write"),
        labels=PLAN.labels,
        steps=as_param(benchmark_steps(PLAN)),
    message:
        "Writing the report"
    script:
        "../scripts/write_report.py"
