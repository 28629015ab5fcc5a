from exvo.workflow.pretrain_plan import PretrainPlan

try:
    PRETRAIN = PretrainPlan(PLAN)
except CorpusError as error:
    raise WorkflowError(str(error))


rule unpack_waveforms:
    """Unpack the samples of a shard for random access, to pre-train an encoder with convolutions."""
    input:
        audio="results/audio/{stage}/{shard}.parquet",
    output:
        frames=temp("results/features/waveform/{stage}/{shard}.npy"),
        index=temp("results/features/waveform/{stage}/{shard}.parquet"),
    log:
        "results/logs/features/waveform/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/features/waveform/{stage}/{shard}.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        code=code_digest("exvo.features.waveform"),
    message:
        "Unpacking the samples of shard {wildcards.shard} ({wildcards.stage})"
    script:
        "../scripts/unpack_waveforms.py"


rule fit_clusters:
    """Fit clusters to training frames: cepstra, a hidden layer of an encoder, or a teacher's frames."""
    input:
        table=ancient(PLAN.table),
        clips=ancient(PRETRAIN.clips_file),
        frames=PRETRAIN.logmel("npy"),
        index=PRETRAIN.logmel("parquet"),
        model=lambda wildcards: PRETRAIN.encoder_of(wildcards.clusters),
        other_frames=lambda wildcards: PRETRAIN.others_of(wildcards.clusters, "npy"),
        other_index=lambda wildcards: PRETRAIN.others_of(wildcards.clusters, "parquet"),
    output:
        clusters="results/clusters/{clusters}/clusters.safetensors",
        report="results/clusters/{clusters}/clusters.json",
    log:
        "results/logs/clusters/{clusters}/clusters.log",
    benchmark:
        "results/benchmarks/clusters/{clusters}/clusters.tsv"
    wildcard_constraints:
        clusters=names_pattern(PRETRAIN.clusters),
    conda:
        "../envs/exvo.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        config=lambda wildcards: PRETRAIN.clusters_entry(wildcards.clusters),
        seed=PRETRAIN.seed,
        code=code_digest("exvo.pretraining.cluster_shards"),
        clips=lambda wildcards: PRETRAIN.clips,
    message:
        "Fitting the clusters {wildcards.clusters}"
    script:
        "../scripts/fit_clusters.py"


rule label_frames:
    """Label every 20 ms frame of a shard's training clips with its cluster."""
    input:
        clusters="results/clusters/{clusters}/clusters.safetensors",
        frames=f"results/features/logmel/{PRETRAIN.stage}/{{shard}}.npy",
        index=f"results/features/logmel/{PRETRAIN.stage}/{{shard}}.parquet",
        model=lambda wildcards: PRETRAIN.encoder_of(wildcards.clusters),
        other_frames=lambda wildcards: [
            path
            for path in PRETRAIN.others_of(wildcards.clusters, "npy")
            if Path(path).stem == wildcards.shard
        ],
        other_index=lambda wildcards: [
            path
            for path in PRETRAIN.others_of(wildcards.clusters, "parquet")
            if Path(path).stem == wildcards.shard
        ],
    output:
        labels=ensure("results/clusters/{clusters}/{shard}.npy", non_empty=True),
        index=ensure("results/clusters/{clusters}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/clusters/{clusters}/{shard}.log",
    benchmark:
        "results/benchmarks/clusters/{clusters}/{shard}.tsv"
    wildcard_constraints:
        clusters=names_pattern(PRETRAIN.clusters),
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        config=lambda wildcards: PRETRAIN.clusters_entry(wildcards.clusters),
        seed=PRETRAIN.seed,
        code=code_digest("exvo.pretraining.cluster_shards"),
        clips=lambda wildcards: PRETRAIN.clips_of(wildcards.shard),
    message:
        "Labelling the frames of shard {wildcards.shard} with the clusters {wildcards.clusters}"
    script:
        "../scripts/label_frames.py"


rule pretrain_hubert:
    """Pre-train an encoder to predict the clusters of masked frames."""
    input:
        table=ancient(PLAN.table),
        clips=ancient(PRETRAIN.clips_file),
        frames=lambda wildcards: PRETRAIN.inputs(wildcards.model, "npy"),
        index=lambda wildcards: PRETRAIN.inputs(wildcards.model, "parquet"),
        clusters=lambda wildcards: expand(
            "results/clusters/{clusters}/clusters.safetensors",
            clusters=PRETRAIN.models[wildcards.model]["targets"],
        ),
        labels=lambda wildcards: PRETRAIN.labels_of(wildcards.model, "npy"),
        label_index=lambda wildcards: PRETRAIN.labels_of(wildcards.model, "parquet"),
        start=lambda wildcards: PRETRAIN.start_of(wildcards.model),
    output:
        model="results/pretrain/{model}/model.safetensors",
        config="results/pretrain/{model}/config.json",
        heads="results/pretrain/{model}/heads.safetensors",
        recipe="results/pretrain/{model}/pretraining.json",
        curves="results/pretrain/{model}/curves.csv",
    log:
        "results/logs/pretrain/{model}.log",
    benchmark:
        "results/benchmarks/pretrain/{model}.tsv"
    wildcard_constraints:
        model=names_pattern(PRETRAIN.models),
    conda:
        "../envs/exvo.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=growing(1440),
        gpu_jobs=1,
    params:
        config=lambda wildcards: PRETRAIN.model_entry(wildcards.model),
        seed=PRETRAIN.seed,
        code=code_digest("exvo.pretraining.pretrain_shards"),
        clips=lambda wildcards: PRETRAIN.clips,
    message:
        "Pre-training {wildcards.model}"
    script:
        "../scripts/pretrain_hubert.py"
