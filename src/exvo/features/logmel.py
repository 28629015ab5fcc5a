"""Log-mel spectrograms, and their mean and SD per channel over the training set."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from exvo.audio.store import SAMPLE_RATE, Clip, read_shard
from exvo.features.store import FeatureRow, read_sequences, write_sequences
from exvo.util.atomic import write_text
from exvo.util.settings import Count, FrameType, Positive

# Frames per block. Their spectra fit in the cache of a core, and their memory is reused.
_BLOCK_FRAMES = 64
_CHANNELS_AT_ONCE = 16  # of the mel filters


@dataclass(frozen=True)
class LogmelConfig:
    """Settings of log-mel spectrograms.

    Attributes
    ----------
    window_ms : float
        Length of the Hann window, in ms.
    hop_ms : float
        Step from one frame to the next, in ms.
    n_fft : int
        Points of the DFT; at least the length of the window in samples.
    n_mels : int
        Number of mel channels from 0 Hz to half the sample rate.
    log_floor : float
        Lower mel powers are raised to this value before the logarithm (ours), which bounds it in digital silence.
    dtype : {"float16", "float32"}
        Number format of the stored frames.
    """

    window_ms: Positive = 25.0
    hop_ms: Positive = 10.0
    n_fft: Count = 512
    n_mels: Count = 80
    log_floor: Positive = 1e-6
    dtype: FrameType = "float16"


def logmel_shard(source: str | Path, frames: str | Path, index: str | Path, config: LogmelConfig) -> None:
    """Compute the log-mel spectrogram of every clip of an audio shard and store them."""
    rows = [_row(clip, config) for clip in read_shard(source)]
    write_sequences(frames, index, rows, config.n_mels, config.dtype)


def logmel(signal: np.ndarray, config: LogmelConfig, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Compute the log-mel spectrogram of a clip.

    Frame ``t`` is centred on sample ``t * hop``, with zeros beyond the ends of the clip. The frames of a clip do not
    depend on the other clips in a shard.

    Parameters
    ----------
    signal : np.ndarray [shape=(n_samples,)]
    config : LogmelConfig
    sample_rate : int
        In Hz.

    Returns
    -------
    np.ndarray [shape=(1 + n_samples // hop, n_mels), float32]
        Natural logarithm of the mel power.

    Examples
    --------
    A second of a tone at 1 kHz: 101 frames of 10 ms, loudest in the channel whose filter peaks at 1 kHz.

    >>> import numpy as np
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    >>> frames = logmel(tone, LogmelConfig(n_mels=80))
    >>> frames.shape, int(frames[50].argmax())
    ((101, 80), 26)
    >>> int(mel_filters(16000, 512, 80)[:, 26].argmax()) * 16000 / 512
    1000.0
    """
    window_length, hop = (round(ms * sample_rate / 1000) for ms in (config.window_ms, config.hop_ms))
    if window_length > config.n_fft:
        raise ValueError(
            f"features.logmel: n_fft is {config.n_fft}, but a window has {window_length} samples; increase n_fft"
        )
    # numpy transforms float32 directly only if it divides by n_fft; through float64 it takes half as long again.
    # scipy.fft is as fast, but its import takes as long as hundreds of clips.
    window = _hann(window_length) * np.float32(config.n_fft)
    half = window_length // 2
    padded = np.zeros(half + len(signal) + window_length, dtype=np.float32)
    padded[half : half + len(signal)] = signal
    n_frames = 1 + len(signal) // hop
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_length)[: n_frames * hop : hop][
        :n_frames
    ]
    power = np.empty((n_frames, config.n_fft // 2 + 1), dtype=np.float32)
    # The columns beyond the window stay zero.
    windowed = np.zeros((min(n_frames, _BLOCK_FRAMES), config.n_fft), dtype=np.float32)
    for start in range(0, n_frames, _BLOCK_FRAMES):
        rows = frames[start : start + _BLOCK_FRAMES]
        block = windowed[: len(rows)]
        np.multiply(rows, window, out=block[:, :window_length])
        block_power = power[start : start + _BLOCK_FRAMES]
        np.abs(np.fft.rfft(block, axis=1, norm="forward"), out=block_power)
        block_power *= block_power
    mel = np.empty((n_frames, config.n_mels), dtype=np.float32)
    for bins, channels, filters in _banded_filters(sample_rate, config.n_fft, config.n_mels):
        np.matmul(power[:, bins], filters, out=mel[:, channels])
    # numpy compares with a row in half the time of a comparison with a number
    np.maximum(mel, np.full(config.n_mels, config.log_floor, np.float32), out=mel)
    return np.log(mel, out=mel)


@cache
def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Return triangular mel filters on Slaney's scale (ours).

    The scale is linear below 1 kHz. With 80 channels and 512 points, every channel therefore contains a bin; on the HTK
    scale, the lowest channels fall between two bins.

    Returns
    -------
    np.ndarray [shape=(n_fft // 2 + 1, n_mels), float32]
        Each filter peaks at 1.
    """
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(sample_rate / 2), n_mels + 2))
    bins = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)[:, np.newaxis]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


@cache
def _banded_filters(sample_rate: int, n_fft: int, n_mels: int) -> list[tuple[slice, slice, np.ndarray]]:
    """Return `mel_filters` for groups of channels: the bins that they use, the channels, and the filters over the bins.

    Most of the matrix is zero, and a product with all of it would take longer than the transforms.
    """
    all_filters = mel_filters(sample_rate, n_fft, n_mels)
    parts = []
    for first in range(0, n_mels, _CHANNELS_AT_ONCE):
        filters = all_filters[:, first : first + _CHANNELS_AT_ONCE]
        used = np.flatnonzero(filters.any(axis=1))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0)
        parts.append((bins, slice(first, first + _CHANNELS_AT_ONCE), np.ascontiguousarray(filters[bins])))
    return parts


def logmel_statistics(
    shards: Sequence[tuple[str | Path, str | Path]], train_ids: set[str], target: str | Path
) -> None:
    """Write mean and SD per channel over all frames of the Train clips.

    The sums of the clips are added in the order of the ids, so the result does not depend on the shards.

    Parameters
    ----------
    shards : sequence of (frames path, index path)
    train_ids : set of str
    target : str or Path
        JSON: ``mean`` and ``std`` (lists of n_mels), ``n_clips``, ``n_frames``.

    Raises
    ------
    ValueError
        Where no Train clip has a frame.
    """
    sums: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    for frames_path, index_path in shards:
        frames, index = read_sequences(frames_path, index_path)
        for row in index.to_pylist():
            if row["clip_id"] in train_ids and row["n_frames"]:
                values = frames[row["start"] : row["start"] + row["n_frames"]].astype(np.float64)
                sums[row["clip_id"]] = (values.sum(axis=0), np.square(values).sum(axis=0), len(values))
    if not sums:
        raise ValueError(
            "no Train clip has log-mel frames, so mean and SD are undefined; check the audio of Train"
        )
    ordered = [sums[clip_id] for clip_id in sorted(sums)]
    n_frames = sum(n for _, _, n in ordered)
    zeros = np.zeros_like(ordered[0][0])
    mean = sum((total for total, _, _ in ordered), zeros) / n_frames
    variance = sum((square for _, square, _ in ordered), zeros) / n_frames - mean**2
    result = {
        "mean": mean.tolist(),
        "std": np.sqrt(np.maximum(variance, 0.0)).tolist(),
        "n_clips": len(ordered),
        "n_frames": n_frames,
    }
    write_text(target, json.dumps(result, indent=1) + "\n")


@cache
def _hann(length: int) -> np.ndarray:
    """Return a periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def _hz_to_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def _row(clip: Clip, config: LogmelConfig) -> FeatureRow:
    values = None if clip.audio is None else logmel(clip.audio, config)
    return FeatureRow(clip.clip_id, values, clip.status, clip.reason)
