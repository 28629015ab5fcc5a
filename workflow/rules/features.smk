rule extract_compare:
    """ComParE 2016 functionals of a shard."""
    input:
        audio="results/audio/{stage}/{shard}.parquet",
    output:
        features=ensure("results/features/compare/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/features/compare/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/compare/{stage}/{shard}.tsv"
    conda:
        "../../envs/exvo.yaml"
    threads: 2
    resources:
        mem_mb=growing(1500),
        runtime=growing(60),
    params:
        spec=PLAN.spec("features.compare", "exvo.features.compare"),
    message:
        "Extracting ComParE functionals of shard {wildcards.shard} ({wildcards.stage})"
    script:
        "../scripts/extract_compare.py"


rule extract_logmel:
    """Log-mel spectrograms of a shard."""
    input:
        audio="results/audio/{stage}/{shard}.parquet",
    output:
        frames=ensure("results/features/logmel/{stage}/{shard}.npy", non_empty=True),
        index=ensure("results/features/logmel/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/features/logmel/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/logmel/{stage}/{shard}.tsv"
    conda:
        "../../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        spec=PLAN.spec("features.logmel", "exvo.features.logmel"),
    message:
        "Extracting log-mel spectrograms of shard {wildcards.shard} ({wildcards.stage})"
    script:
        "../scripts/extract_logmel.py"


rule summarise_logmel:
    """Mean and deviation of every mel channel over the Train clips."""
    input:
        table=ancient(PLAN.table),
        frames=shards("results/features/logmel/{{stage}}/{shard}.npy"),
        index=shards("results/features/logmel/{{stage}}/{shard}.parquet"),
    output:
        statistics="results/features/logmel/{stage}/statistics.json",
    log:
        "results/logs/features/logmel/{stage}/statistics.log",
    benchmark:
        "results/benchmarks/features/logmel/{stage}/statistics.tsv"
    conda:
        "../../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        spec=PLAN.spec("features.logmel", "exvo.features.logmel"),
        clips=PLAN.train_clips,
    message:
        "Log-mel statistics over Train ({wildcards.stage})"
    script:
        "../scripts/summarise_logmel.py"


rule extract_hubert:
    """Hidden states of a HuBERT on a shard."""
    input:
        audio="results/audio/{stage}/{shard}.parquet",
        # A source: its content, or its stated SHA-256, is in the parameters.
        weights=ancient(lambda wildcards: PLAN.hubert_files()),
    output:
        frames=ensure("results/features/hubert/{stage}/{shard}.npy", non_empty=True),
        index=ensure("results/features/hubert/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/features/hubert/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/hubert/{stage}/{shard}.tsv"
    conda:
        "../../envs/exvo.yaml"
    # Two shards at once are faster than two threads on one.
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        spec=lambda wildcards: PLAN.hubert_spec("exvo.models.hubert_features"),
    message:
        "Extracting HuBERT embeddings of shard {wildcards.shard} ({wildcards.stage})"
    script:
        "../scripts/extract_hubert.py"


use rule extract_hubert as extract_hubert_frontend with:
    # What the front end of a HuBERT makes of a shard, for training the rest of it further.
    output:
        frames=ensure("results/features/hubert_frontend/{stage}/{shard}.npy", non_empty=True),
        index=ensure("results/features/hubert_frontend/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/features/hubert_frontend/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/hubert_frontend/{stage}/{shard}.tsv"
    params:
        spec=lambda wildcards: PLAN.hubert_spec("exvo.models.hubert_features", frontend=True),
    message:
        "Extracting HuBERT front-end frames of shard {wildcards.shard} ({wildcards.stage})"
