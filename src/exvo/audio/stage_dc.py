"""The stage dc of a shard: high-pass filter and gain."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from exvo.audio.highpass import HighpassConfig, HighpassMeasures, highpass_clips
from exvo.audio.store import SAMPLE_RATE, SILENT, Clip, transform_shard

__all__ = ["HighpassConfig", "dc_clips", "dc_shard"]

MEASURES = {field.name: pa.float64() for field in fields(HighpassMeasures)}


def dc_shard(source: str | Path, target: str | Path, config: HighpassConfig) -> None:
    """Filter the clips of the ``raw`` shard ``source`` and store them as ``target``."""
    transform_shard(source, target, lambda clips: dc_clips(clips, config), MEASURES)


def dc_clips(clips: Sequence[Clip], config: HighpassConfig) -> list[Clip]:
    """Filter clips, all of which have audio."""
    signals, measures = highpass_clips([clip.samples for clip in clips], SAMPLE_RATE, config)
    return [_after(*parts) for parts in zip(clips, signals, measures, strict=True)]


def _after(clip: Clip, audio: np.ndarray, measures: HighpassMeasures) -> Clip:
    done = replace(clip, audio=audio, measures=asdict(measures))
    if clip.status != SILENT and not audio.any():
        done = done.flagged(SILENT, "silent after the high-pass filter")
    return done
