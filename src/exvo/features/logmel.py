"""Log-mel spectrograms, and their mean and deviation per channel over the training set."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from exvo.audio.store import SAMPLE_RATE, Clip, read_shard
from exvo.features.store import FeatureRow, read_sequences, write_sequences
from exvo.util.atomic import write_text

# Frames that are computed at once: their spectra stay in a core's cache, and their memory is not asked for anew.
_BLOCK_FRAMES = 64
_CHANNELS_AT_ONCE = 16  # of the mel filters


@dataclass(frozen=True)
class LogmelConfig:
    """How log-mel spectrograms are computed.

    Attributes
    ----------
    window_ms, hop_ms : float
        Length and hop of the Hann window, in milliseconds.
    n_fft : int
        Points of the DFT.
    n_mels : int
        Mel channels between 0 Hz and half the sample rate.
    log_floor : float
        Mel powers below it are raised to it (ours), which bounds the logarithm in digital silence.
    dtype : str
        ``float16`` or ``float32``, as stored.
    """

    window_ms: float = 25.0
    hop_ms: float = 10.0
    n_fft: int = 512
    n_mels: int = 80
    log_floor: float = 1e-6
    dtype: str = "float16"


def logmel_shard(source: str | Path, frames: str | Path, index: str | Path, config: LogmelConfig) -> None:
    """Compute the log-mel spectrogram of every clip of an audio shard and store them."""
    rows = [_row(clip, config) for clip in read_shard(source)]
    write_sequences(frames, index, rows, config.n_mels, config.dtype)


def logmel(signal: np.ndarray, config: LogmelConfig, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Compute the log-mel spectrogram of a clip.

    Frame ``t`` is centred on sample ``t * hop``; beyond its ends the clip is zero. A clip's frames come from
    products of its own spectra, so they do not depend on its neighbours in a shard.

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
            f"features.logmel: a window of {window_length} samples needs n_fft of at least as many"
        )
    # numpy transforms float32 as such only where it is to divide by n_fft, else by way of float64, half as slow again;
    # scipy.fft is as fast, but its import takes as long as hundreds of clips do in all.
    window = _hann(window_length) * np.float32(config.n_fft)
    half = window_length // 2
    padded = np.zeros(half + len(signal) + window_length, dtype=np.float32)
    padded[half : half + len(signal)] = signal
    n_frames = 1 + len(signal) // hop
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_length)[: n_frames * hop : hop][
        :n_frames
    ]
    power = np.empty((n_frames, config.n_fft // 2 + 1), dtype=np.float32)
    # Beyond the window it stays zero.
    windowed = np.zeros((min(n_frames, _BLOCK_FRAMES), config.n_fft), dtype=np.float32)
    for start in range(0, n_frames, _BLOCK_FRAMES):
        rows = frames[start : start + _BLOCK_FRAMES]
        block = windowed[: len(rows)]
        np.multiply(rows, window, out=block[:, :window_length])
        of_block = power[start : start + _BLOCK_FRAMES]
        np.abs(np.fft.rfft(block, axis=1, norm="forward"), out=of_block)
        of_block *= of_block
    mel = np.empty((n_frames, config.n_mels), dtype=np.float32)
    for bins, channels, filters in _banded_filters(sample_rate, config.n_fft, config.n_mels):
        np.matmul(power[:, bins], filters, out=mel[:, channels])
    # numpy compares with a row in half the time that it takes with a number
    np.maximum(mel, np.full(config.n_mels, config.log_floor, np.float32), out=mel)
    return np.log(mel, out=mel)


@cache
def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Return triangular mel filters on Slaney's scale (ours).

    The scale is linear below 1 kHz, so that with 80 channels and 512 points no channel falls between two bins, as
    the lowest do on the HTK scale.

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
    """Return `mel_filters` some channels at a time: the bins that these use, the channels, the filters over the bins.

    Most of the whole matrix is zero, and products with all of it would take longer than the transforms.
    """
    whole = mel_filters(sample_rate, n_fft, n_mels)
    parts = []
    for first in range(0, n_mels, _CHANNELS_AT_ONCE):
        filters = whole[:, first : first + _CHANNELS_AT_ONCE]
        used = np.flatnonzero(filters.any(axis=1))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0)
        parts.append((bins, slice(first, first + _CHANNELS_AT_ONCE), np.ascontiguousarray(filters[bins])))
    return parts


def logmel_statistics(
    shards: Sequence[tuple[str | Path, str | Path]], train_ids: set[str], target: str | Path
) -> None:
    """Write mean and deviation per channel over all frames of the Train clips.

    Sums are kept per clip and added in id order, so the result does not depend on how the corpus is cut.

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
        raise ValueError("no Train clip has log-mel frames, so there is nothing to normalise with")
    ordered = [sums[clip_id] for clip_id in sorted(sums)]
    n_frames = sum(n for _, _, n in ordered)
    mean = sum(total for total, _, _ in ordered) / n_frames
    variance = sum(square for _, square, _ in ordered) / n_frames - mean**2
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
