rule extract_opensmile:
    """Extract openSMILE functionals of a shard."""
    input:
        audio="results/audio/{stage}/{shard}.parquet",
    output:
        features=ensure("results/features/{feature}/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/features/{feature}/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/{feature}/{stage}/{shard}.tsv"
    wildcard_constraints:
        feature=names_pattern(PLAN.feature_names("opensmile")),
    conda:
        "../envs/exvo.yaml"
    threads: 2
    resources:
        mem_mb=growing(1500),
        runtime=growing(60),
    params:
        config=lambda wildcards: PLAN.feature(wildcards.feature),
        code=code_digest("exvo.features.opensmile"),
    message:
        "Extracting {wildcards.feature} functionals of shard {wildcards.shard} ({wildcards.stage})"
    script:
        "../scripts/extract_opensmile.py"


rule extract_logmel:
    """Extract log-mel spectrograms of a shard."""
    input:
        audio="results/audio/{stage}/{shard}.parquet",
    output:
        frames=ensure("results/features/{feature}/{stage}/{shard}.npy", non_empty=True),
        index=ensure("results/features/{feature}/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/features/{feature}/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/{feature}/{stage}/{shard}.tsv"
    wildcard_constraints:
        feature=names_pattern(PLAN.feature_names("logmel")),
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        config=lambda wildcards: PLAN.feature(wildcards.feature),
        code=code_digest("exvo.features.logmel"),
    message:
        "Extracting {wildcards.feature} spectrograms of shard {wildcards.shard} ({wildcards.stage})"
    script:
        "../scripts/extract_logmel.py"


rule summarise_logmel:
    """Compute the mean and SD of every mel channel over the training clips."""
    input:
        table=ancient(PLAN.table),
        frames=shards("results/features/{{feature}}/{{stage}}/{shard}.npy"),
        index=shards("results/features/{{feature}}/{{stage}}/{shard}.parquet"),
    output:
        statistics="results/features/{feature}/{stage}/statistics.json",
    log:
        "results/logs/features/{feature}/{stage}/statistics.log",
    benchmark:
        "results/benchmarks/features/{feature}/{stage}/statistics.tsv"
    wildcard_constraints:
        feature=names_pattern(PLAN.feature_names("logmel")),
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        config=lambda wildcards: PLAN.feature(wildcards.feature),
        code=code_digest("exvo.features.logmel"),
        clips=PLAN.train_clips,
    message:
        "Computing the statistics of {wildcards.feature} over Train ({wildcards.stage})"
    script:
        "../scripts/summarise_logmel.py"


rule extract_hubert:
    """Extract hidden states of a HuBERT on a shard."""
    input:
        audio="results/audio/{stage}/{shard}.parquet",
        # A source file: a digest of it is among the parameters.
        weights=ancient(lambda wildcards: PLAN.hubert_files(wildcards.feature)),
    output:
        frames=ensure("results/features/{feature}/{stage}/{shard}.npy", non_empty=True),
        index=ensure("results/features/{feature}/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/features/{feature}/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/{feature}/{stage}/{shard}.tsv"
    wildcard_constraints:
        feature=names_pattern(PLAN.feature_names("hubert")),
    conda:
        "../envs/exvo.yaml"
    # Two jobs with one thread are faster than one job with two threads.
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        gpu_jobs=1,
    params:
        config=lambda wildcards: PLAN.feature(wildcards.feature),
        weights=lambda wildcards: PLAN.weights(wildcards.feature),
        code=code_digest("exvo.hubert.embeddings"),
    message:
        "Extracting {wildcards.feature} embeddings of shard {wildcards.shard} ({wildcards.stage})"
    script:
        "../scripts/extract_hubert.py"


use rule extract_hubert as extract_hubert_frontend with:
    # Frames of the front end of a HuBERT, for fine-tuning.
    output:
        frames=ensure("results/features/{feature}_frontend/{stage}/{shard}.npy", non_empty=True),
        index=ensure("results/features/{feature}_frontend/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/features/{feature}_frontend/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/{feature}_frontend/{stage}/{shard}.tsv"
    params:
        config=lambda wildcards: PLAN.frontend(wildcards.feature),
        weights=lambda wildcards: PLAN.weights(wildcards.feature),
        code=code_digest("exvo.hubert.embeddings"),
    message:
        "Extracting {wildcards.feature} front-end frames of shard {wildcards.shard} ({wildcards.stage})"
