rule train_mlp:
    """One seed of the organisers' multitask network on utterance-level features."""
    input:
        table=ancient(PLAN.table),
        check=lambda wildcards: PLAN.check(wildcards.system),
        features=lambda wildcards: shards(
            "results/features/{feature}/{stage}/{{shard}}.parquet".format(
                feature=PLAN.systems[wildcards.system].feature,
                stage=PLAN.systems[wildcards.system].stage,
            )
        ),
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
        system=names_pattern(PLAN.system_names("mlp")),
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        # Train and Val in float32 (1 GB at 39,000 clips) and torch.
        mem_mb=growing(2500),
        runtime=growing(240),
        gpu_jobs=1,
    params:
        config=lambda wildcards: PLAN.system(wildcards.system),
        code=code_digest("exvo.systems.mlp"),
        labels=PLAN.labels,
    message:
        "Training {wildcards.system}, seed {wildcards.seed}"
    script:
        "../scripts/train_mlp.py"


rule train_conformer:
    """One seed of a Conformer over log-mel or STRF."""
    input:
        table=ancient(PLAN.table),
        check=lambda wildcards: PLAN.check(wildcards.system),
        statistics=lambda wildcards: PLAN.sequences(wildcards.system).statistics,
        frames=lambda wildcards: PLAN.sequences(wildcards.system).frames,
        index=lambda wildcards: PLAN.sequences(wildcards.system).index,
        perturbed=lambda wildcards: PLAN.sequences(wildcards.system).perturbed,
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
        system=names_pattern(PLAN.system_names("conformer")),
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(1440),
        gpu_jobs=1,
    params:
        config=lambda wildcards: PLAN.system(wildcards.system),
        code=code_digest("exvo.systems.sequence"),
        labels=PLAN.labels,
    message:
        "Training {wildcards.system}, seed {wildcards.seed}"
    script:
        "../scripts/train_conformer.py"


rule train_hubert:
    """One seed of a decoder on embeddings, or of a HuBERT trained further."""
    input:
        table=ancient(PLAN.table),
        check=lambda wildcards: PLAN.check(wildcards.system),
        frames=lambda wildcards: PLAN.sequences(wildcards.system).frames,
        index=lambda wildcards: PLAN.sequences(wildcards.system).index,
        perturbed=lambda wildcards: PLAN.sequences(wildcards.system).perturbed,
        # A source: the frames are made again when it changes.
        weights=ancient(lambda wildcards: PLAN.hubert_files(PLAN.systems[wildcards.system].feature)),
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
        system=names_pattern(PLAN.system_names("hubert")),
    conda:
        "../envs/exvo.yaml"
    # Decoders are small; an encoder that is trained further is not.
    threads: lambda wildcards: 2 if PLAN.is_fine_tuned(wildcards.system) else 1
    resources:
        # Fine-tuning HuBERT Base: weights, gradients, two moments, the best epoch and a checkpoint.
        mem_mb=growing(8000),
        runtime=growing(1440),
        gpu_jobs=1,
    params:
        config=lambda wildcards: PLAN.system(wildcards.system),
        code=code_digest("exvo.systems.hubert"),
        labels=PLAN.labels,
    message:
        "Training {wildcards.system}, seed {wildcards.seed}"
    script:
        "../scripts/train_hubert.py"
