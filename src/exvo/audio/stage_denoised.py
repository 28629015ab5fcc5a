"""The stage denoised of a shard: MMSE-STSA noise reduction."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from exvo.audio.denoise import DenoiseConfig, DenoiseMeasures, denoise_clips
from exvo.audio.full_scale import within_full_scale
from exvo.audio.store import SAMPLE_RATE, Clip, transform_shard

__all__ = ["DenoiseConfig", "denoised_clips", "denoised_shard"]

MEASURES = {field.name: pa.float64() for field in fields(DenoiseMeasures)} | {"gain_db": pa.float64()}


def denoised_shard(source: str | Path, target: str | Path, config: DenoiseConfig) -> None:
    """Denoise the clips of the ``dc`` shard ``source`` and store them as ``target``."""
    transform_shard(source, target, lambda clips: denoised_clips(clips, config), MEASURES)


def denoised_clips(clips: Sequence[Clip], config: DenoiseConfig) -> list[Clip]:
    """Denoise clips, all of which have audio."""
    signals, measures = denoise_clips([clip.samples for clip in clips], SAMPLE_RATE, config)
    return [_after(*parts) for parts in zip(clips, signals, measures, strict=True)]


def _after(clip: Clip, audio: np.ndarray, measures: DenoiseMeasures) -> Clip:
    # A peak is higher without noise that had cancelled part of it, as in noisy clips that were clipped.
    audio, gain_db = within_full_scale(audio)
    return replace(clip, audio=audio, measures={**asdict(measures), "gain_db": gain_db})
