rule train_system:
    """Train one seed of a system: the encoder's network on a feature of a stage."""
    input:
        table=ancient(PLAN.table),
        check=lambda wildcards: PLAN.check(wildcards.system),
        features=lambda wildcards: PLAN.feature_files(wildcards.system),
        statistics=lambda wildcards: PLAN.statistics(wildcards.system),
        perturbed=lambda wildcards: PLAN.perturbed(wildcards.system),
        # A source file: the frames are made again when it changes.
        weights=ancient(lambda wildcards: PLAN.encoder_files(wildcards.system)),
    output:
        model="results/models/{system}/{seed}/model.safetensors",
        config="results/models/{system}/{seed}/config.json",
        history="results/models/{system}/{seed}/history.csv",
        val="results/models/{system}/{seed}/val.parquet",
        test="results/models/{system}/{seed}/test.parquet",
        metrics="results/models/{system}/{seed}/metrics.json",
    log:
        "results/logs/models/{system}/{seed}.log",
    benchmark:
        "results/benchmarks/models/{system}/{seed}.tsv"
    wildcard_constraints:
        system=names_pattern(PLAN.systems),
    conda:
        "../envs/exvo.yaml"
    # Decoders are small; an encoder that is fine-tuned is not.
    threads: lambda wildcards: 2 if PLAN.is_fine_tuned(wildcards.system) else 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * PLAN.training_mb(wildcards.system),
        runtime=growing(1440),
        gpu_jobs=1,
    params:
        config=lambda wildcards: PLAN.system(wildcards.system),
        code=lambda wildcards: code_digest(PLAN.encoder_module(wildcards.system)),
        labels=PLAN.labels,
    message:
        "Training {wildcards.system}, seed {wildcards.seed}"
    script:
        "../scripts/train_system.py"
