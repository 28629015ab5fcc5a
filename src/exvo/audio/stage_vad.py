"""The stage vad of a shard: remove silence and steady noise before and after the burst."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from exvo.audio.silero import voice_probabilities
from exvo.audio.store import NO_VOICE, SAMPLE_RATE, Clip, transform_shard
from exvo.audio.vad import VadConfig, kept_span

__all__ = ["VadConfig", "vad_clips", "vad_shard"]

MEASURES = {"start": pa.int64(), "end": pa.int64(), "kept": pa.float64(), "voice_probability": pa.float64()}


def vad_shard(source: str | Path, target: str | Path, config: VadConfig, *, n_threads: int = 1) -> None:
    """Trim the clips of the ``denoised`` shard ``source`` and store them as ``target``."""
    transform_shard(source, target, lambda clips: vad_clips(clips, config, n_threads=n_threads), MEASURES)


def vad_clips(clips: Sequence[Clip], config: VadConfig, *, n_threads: int = 1) -> list[Clip]:
    """Trim clips, all of which have audio. A clip in which no burst is found is flagged and not trimmed.

    ``no_voice`` means that neither Silero nor the level detects a burst. A breath that only the level detects is
    trimmed and ``ok``; its ``voice_probability`` is the output of Silero.
    """
    probabilities = voice_probabilities([clip.samples for clip in clips], SAMPLE_RATE, n_threads=n_threads)
    return [_after(clip, of_clip, config) for clip, of_clip in zip(clips, probabilities, strict=True)]


def _after(clip: Clip, probabilities: np.ndarray, config: VadConfig) -> Clip:
    audio = clip.samples
    span = kept_span(audio, probabilities, SAMPLE_RATE, config)
    start, end = (span.start, span.end) if span else (0, len(audio))
    measures = {
        "start": start,
        "end": end,
        "kept": (end - start) / len(audio),
        "voice_probability": float(np.max(probabilities)),
    }
    done = replace(clip, audio=audio[start:end], measures=measures)
    if span is None:
        done = done.flagged(NO_VOICE, "no voice or burst found; not trimmed")
    return done
