"""Make the stage denoised of a shard: MMSE-STSA noise reduction."""

from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa

from exvo.audio.denoise import DenoiseConfig, DenoiseMeasures, denoise_clips
from exvo.audio.store import SAMPLE_RATE, Clip, transform_shard

__all__ = ["DenoiseConfig", "denoised_shard"]

MEASURES = {field.name: pa.float64() for field in fields(DenoiseMeasures)}


def denoised_shard(source: str | Path, target: str | Path, config: DenoiseConfig) -> None:
    """Denoise the clips of the ``dc`` shard ``source`` and store them as ``target``."""

    def transform(clips: list[Clip]) -> list[Clip]:
        signals, measures = denoise_clips([clip.audio for clip in clips], SAMPLE_RATE, config)
        return [
            Clip(clip.clip_id, audio, clip.status, clip.reason, asdict(measured))
            for clip, audio, measured in zip(clips, signals, measures, strict=True)
        ]

    transform_shard(source, target, transform, MEASURES)
