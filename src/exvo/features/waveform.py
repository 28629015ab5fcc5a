"""Waveforms as a sequence feature, so that training can map the samples into memory.

An encoder with convolutions over the waveform reads different stretches of every clip in every epoch. FLAC in Parquet
does not allow such random access.
"""

from pathlib import Path

import numpy as np

from exvo.audio.store import Clip, read_shard
from exvo.features.store import FeatureRow, write_sequences


def waveform_shard(source: str | Path, samples: str | Path, index: str | Path) -> None:
    """Write the samples of every clip of an audio shard as int16 in one column, and their index."""
    write_sequences(samples, index, [_row(clip) for clip in read_shard(source)], 1, "int16")


def _row(clip: Clip) -> FeatureRow:
    if clip.audio is None:
        return FeatureRow(clip.clip_id, None, clip.status, clip.reason)
    steps = np.clip(np.rint(clip.audio.astype(np.float64) * 2**15), -(2**15), 2**15 - 1)
    return FeatureRow(clip.clip_id, steps.astype(np.int16)[:, np.newaxis], clip.status, clip.reason)
