rule convert_clips:
    """Decode the recordings of a shard to 16 kHz mono: raw/ to the stage raw, wav/ to the stage baseline."""
    input:
        table=ancient(PLAN.table),
    output:
        audio=ensure("results/audio/{stage}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/audio/{stage}/{shard}.log",
    benchmark:
        "results/benchmarks/audio/{stage}/{shard}.tsv"
    wildcard_constraints:
        stage="raw|baseline",
    priority: 1
    conda:
        "../envs/exvo.yaml"
    threads: 2
    resources:
        mem_mb=growing(1500),
        runtime=growing(60),
    params:
        config=PLAN.section("audio.convert"),
        code=code_digest("exvo.audio.convert"),
        clips=lambda wildcards: PLAN.clips(wildcards.stage, wildcards.shard),
    message:
        "Decoding shard {wildcards.shard} ({wildcards.stage})"
    script:
        "../scripts/convert_clips.py"


rule check_clips:
    """Stop the run after decoding if more clips are without audio than corpus.max_bad_fraction allows."""
    input:
        audio=shards("results/audio/{{stage}}/{shard}.parquet"),
    output:
        check="results/quality/check_{stage}.json",
    log:
        "results/logs/quality/check_{stage}.log",
    benchmark:
        "results/benchmarks/quality/check_{stage}.tsv"
    wildcard_constraints:
        stage="raw|baseline",
    # Like decoding, it runs before everything else (scheduler.smk).
    priority: 1
    # A second attempt would count the same clips.
    retries: 0
    # It takes seconds: on a cluster it runs where Snakemake runs, without a queue.
    localrule: True
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(10),
    params:
        max_bad_fraction=PLAN.section("corpus.max_bad_fraction"),
        code=code_digest("exvo.audio.bad_fraction"),
    message:
        "Counting clips without audio ({wildcards.stage})"
    script:
        "../scripts/check_clips.py"


rule filter_clips:
    """Filter the clips of a shard (high-pass) and apply a gain: stage dc."""
    input:
        audio="results/audio/raw/{shard}.parquet",
    output:
        audio=ensure("results/audio/dc/{shard}.parquet", non_empty=True),
    log:
        "results/logs/audio/dc/{shard}.log",
    benchmark:
        "results/benchmarks/audio/dc/{shard}.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        config=PLAN.section("audio.highpass"),
        code=code_digest("exvo.audio.stage_dc"),
    message:
        "Filtering shard {wildcards.shard}"
    script:
        "../scripts/filter_clips.py"


rule denoise_clips:
    """Reduce the noise of the clips of a shard (MMSE-STSA): stage denoised."""
    input:
        audio="results/audio/dc/{shard}.parquet",
    output:
        audio=ensure("results/audio/denoised/{shard}.parquet", non_empty=True),
    log:
        "results/logs/audio/denoised/{shard}.log",
    benchmark:
        "results/benchmarks/audio/denoised/{shard}.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(60),
    params:
        config=PLAN.section("audio.denoise"),
        code=code_digest("exvo.audio.stage_denoised"),
    message:
        "Denoising shard {wildcards.shard}"
    script:
        "../scripts/denoise_clips.py"


rule trim_clips:
    """Remove silence before and after the burst, by voice activity detection: stage vad."""
    input:
        audio="results/audio/denoised/{shard}.parquet",
    output:
        audio=ensure("results/audio/vad/{shard}.parquet", non_empty=True),
    log:
        "results/logs/audio/vad/{shard}.log",
    benchmark:
        "results/benchmarks/audio/vad/{shard}.tsv"
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(60),
    params:
        config=PLAN.section("audio.vad"),
        code=code_digest("exvo.audio.stage_vad"),
    message:
        "Trimming shard {wildcards.shard}"
    script:
        "../scripts/trim_clips.py"


rule perturb_clips:
    """Play the training clips of a shard faster or slower: a derived stage such as raw@0.9."""
    input:
        audio="results/audio/{stage}/{shard}.parquet",
    output:
        audio=ensure("results/audio/{stage}@{speed}/{shard}.parquet", non_empty=True),
    log:
        "results/logs/audio/{stage}@{speed}/{shard}.log",
    benchmark:
        "results/benchmarks/audio/{stage}@{speed}/{shard}.tsv"
    wildcard_constraints:
        stage="baseline|raw|dc|denoised|vad",
        speed=r"\d\.\d+",
    conda:
        "../envs/exvo.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        code=code_digest("exvo.audio.perturb"),
        clips=lambda wildcards: PLAN.train_clips_of(wildcards.shard),
    message:
        "Playing shard {wildcards.shard} ({wildcards.stage}) at speed {wildcards.speed}"
    script:
        "../scripts/perturb_clips.py"
