"""Make the stage dc of a shard: high-pass filter and gain."""

from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa

from exvo.audio.highpass import HighpassConfig, HighpassMeasures, highpass_clips
from exvo.audio.store import SAMPLE_RATE, SILENT, Clip, transform_shard

__all__ = ["HighpassConfig", "dc_shard"]

MEASURES = {field.name: pa.float64() for field in fields(HighpassMeasures)}


def dc_shard(source: str | Path, target: str | Path, config: HighpassConfig) -> None:
    """Filter the clips of the ``raw`` shard ``source`` and store them as ``target``."""

    def transform(clips: list[Clip]) -> list[Clip]:
        signals, measures = highpass_clips([clip.audio for clip in clips], SAMPLE_RATE, config)
        return [_after(*parts) for parts in zip(clips, signals, measures, strict=True)]

    transform_shard(source, target, transform, MEASURES)


def _after(clip: Clip, audio: object, measures: HighpassMeasures) -> Clip:
    done = Clip(clip.clip_id, audio, clip.status, clip.reason, asdict(measures))
    if clip.status != SILENT and not audio.any():
        done = done.flagged(SILENT, "nothing is left above the high-pass filter")
    return done
