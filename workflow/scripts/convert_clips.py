"""Decode the clips of a shard."""

from typing import Any

from exvo.workflow.jobs import run_job

# Bits per sample. Stage raw has 24, because a later gain would amplify the rounding of 16 bits.
BITS = {"raw": 24, "baseline": 16}


def main(snakemake: Any) -> None:
    """Map the job to `exvo.audio.convert.convert_shard`."""
    from pathlib import Path

    from exvo.audio.convert import ConvertConfig, convert_shard

    clips = snakemake.params.clips
    convert_shard(
        Path(clips["folder"]),
        clips["files"],
        snakemake.output.audio,
        ConvertConfig(**snakemake.params.config),
        bits=BITS[snakemake.wildcards.stage],
        n_threads=snakemake.threads,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
