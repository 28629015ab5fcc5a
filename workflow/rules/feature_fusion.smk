from exvo.workflow.feature_fusion_plan import FeatureFusionPlan

FEATURE_FUSION = FeatureFusionPlan(PLAN)


rule pool_clips:
    """Compute the utterance embeddings of all clips with a trained system, for feature fusions."""
    input:
        model="results/models/{system}/{seed}/model.safetensors",
        config="results/models/{system}/{seed}/config.json",
        features=lambda wildcards: PLAN.feature_files(wildcards.system),
    output:
        frames=ensure("results/utterance_embeddings/systems/{system}/{seed}.npy", non_empty=True),
        index=ensure("results/utterance_embeddings/systems/{system}/{seed}.parquet", non_empty=True),
    log:
        "results/logs/utterance_embeddings/systems/{system}/{seed}.log",
    benchmark:
        "results/benchmarks/utterance_embeddings/systems/{system}/{seed}.tsv"
    wildcard_constraints:
        system=names_pattern(FEATURE_FUSION.embedded_systems()),
    conda:
        "../envs/exvo.yaml"
    # As in training: a fine-tuned encoder is large.
    threads: lambda wildcards: 2 if PLAN.is_fine_tuned(wildcards.system) else 1
    resources:
        # The features of a shard, or a batch of frames in a HuBERT Base, and torch.
        mem_mb=growing(3000),
        runtime=growing(240),
        gpu_jobs=1,
    params:
        encoder=lambda wildcards: PLAN.systems[wildcards.system].encoder,
        code=lambda wildcards: code_digest(
            "exvo.systems.utterance_embeddings", PLAN.encoder_module(wildcards.system)
        ),
    message:
        "Computing the embeddings of {wildcards.system}, seed {wildcards.seed}"
    script:
        "../scripts/pool_clips.py"


rule summarise_clips:
    """Compute one vector per clip from a feature: functionals, or mean and SD over the frames."""
    input:
        features=lambda wildcards: FEATURE_FUSION.shards(wildcards.feature, wildcards.stage),
    output:
        frames=ensure("results/utterance_embeddings/features/{feature}/{stage}.npy", non_empty=True),
        index=ensure("results/utterance_embeddings/features/{feature}/{stage}.parquet", non_empty=True),
    log:
        "results/logs/utterance_embeddings/features/{feature}/{stage}.log",
    benchmark:
        "results/benchmarks/utterance_embeddings/features/{feature}/{stage}.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(60),
    params:
        code=code_digest("exvo.features.vectors"),
    message:
        "Computing clip vectors of {wildcards.feature} ({wildcards.stage})"
    script:
        "../scripts/summarise_clips.py"


rule train_feature_fusion:
    """Train one seed of a feature fusion, on the embeddings or features of its systems."""
    input:
        table=ancient(PLAN.table),
        check=lambda wildcards: FEATURE_FUSION.checks(wildcards.fusion),
        frames=lambda wildcards: FEATURE_FUSION.vectors(wildcards.fusion, wildcards.seed, "npy"),
        index=lambda wildcards: FEATURE_FUSION.vectors(wildcards.fusion, wildcards.seed, "parquet"),
    output:
        model="results/fusion/{fusion}/{seed}/model.safetensors",
        config="results/fusion/{fusion}/{seed}/config.json",
        history="results/fusion/{fusion}/{seed}/history.csv",
        val="results/fusion/{fusion}/{seed}/val.parquet",
        test="results/fusion/{fusion}/{seed}/test.parquet",
        metrics="results/fusion/{fusion}/{seed}/metrics.json",
    log:
        "results/logs/fusion/{fusion}/{seed}.log",
    benchmark:
        "results/benchmarks/fusion/{fusion}/{seed}.tsv"
    wildcard_constraints:
        fusion=names_pattern(list(FEATURE_FUSION.fusions)),
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        # The widest input of Train in float32 (1 GB of openSMILE functionals at 39,000 clips), and torch.
        mem_mb=growing(3000),
        runtime=growing(240),
        gpu_jobs=1,
    params:
        config=lambda wildcards: FEATURE_FUSION.settings(wildcards.fusion),
        code=code_digest("exvo.systems.feature_fusion"),
        labels=PLAN.labels,
    message:
        "Training the feature fusion {wildcards.fusion}, seed {wildcards.seed}"
    script:
        "../scripts/train_feature_fusion.py"
