"""Short-time Fourier transform of many clips at once, in reused arrays."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft

# Frames per transform. The intermediate arrays then stay in the cache of a core. scipy.fft processes vectors of up to
# 16 rows, and only complete vectors give every row the same arithmetic.
FRAMES_AT_ONCE = 16


class Buffers:
    """Large arrays that are reused from chunk to chunk, because the system clears every page of a new array."""

    def __init__(self) -> None:
        self._flat: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """Return the array of a name. Its content is undefined."""
        size = math.prod(shape)
        if name not in self._flat or len(self._flat[name]) < size:
            self._flat[name] = np.empty(size, dtype)
        return self._flat[name][:size].reshape(shape)


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform with a Hann window for analysis and synthesis; unit gain restores the signal.

    Attributes
    ----------
    hop_length : int
        Samples between frames.
    overlap : int
        Frames that cover each sample; ``n_fft = hop_length * overlap``.
    """

    hop_length: int
    overlap: int

    @property
    def n_fft(self) -> int:
        """Samples in a frame."""
        return self.hop_length * self.overlap

    @cached_property
    def window(self) -> np.ndarray:
        """Hann window, float32, shape=(n_fft,), whose squares sum to 1 over the frames at each sample."""
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)
        return (hann / np.sqrt((hann[:: self.hop_length] ** 2).sum())).astype(np.float32)

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames that cover ``n_samples``, each sample ``overlap`` times."""
        return -(-(n_samples + self.n_fft - self.hop_length) // self.hop_length)

    def forward(self, signals: Sequence[np.ndarray], buffers: Buffers) -> np.ndarray:
        """Transform signals, mirrored at their ends; complex64, shape=(n_frames, n_signals, n_bins).

        The spectra are an array of ``buffers`` and valid until its next use. Frames after the end of a signal are
        undefined. Signals sorted by length, longest first, are fastest.
        """
        before = self.n_fft - self.hop_length
        n_frames = max(self.n_frames(len(signal)) for signal in signals)
        n_frames = -(-n_frames // FRAMES_AT_ONCE) * FRAMES_AT_ONCE
        padded = buffers.array("padded", (len(signals), n_frames * self.hop_length + before))
        for row, signal in zip(padded, signals, strict=True):
            after = self.n_frames(len(signal)) * self.hop_length - len(signal)
            end = before + len(signal) + after
            row[:end] = _mirrored(signal, before, after)
            row[end:] = 0
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft, axis=1)[:, :: self.hop_length]
        frames = frames.transpose(1, 0, 2)
        spectra = buffers.array("spectra", (n_frames, len(signals), self.n_fft // 2 + 1), np.complex64)
        windowed = buffers.array("windowed", (FRAMES_AT_ONCE, len(signals), self.n_fft))
        for block, n in self._blocks([len(signal) for signal in signals]):
            np.multiply(frames[block, :n], self.window, out=windowed[:, :n])
            spectra[block, :n] = scipy.fft.rfft(windowed[:, :n])
        return spectra

    def inverse(self, spectra: np.ndarray, lengths: Sequence[int], buffers: Buffers) -> list[np.ndarray]:
        """Return float32 signals of the given lengths from spectra, shape=(n_frames, n_signals, n_bins)."""
        hop, before = self.hop_length, self.n_fft - self.hop_length
        n_frames, n_signals, _ = spectra.shape
        # Hops are the first axis, so that the samples of one block of frames are contiguous.
        samples = buffers.array("padded", (n_frames + self.overlap - 1, n_signals, hop))
        samples[:] = 0
        for block, n in self._blocks(lengths):
            frames = scipy.fft.irfft(spectra[block, :n], self.n_fft)
            frames *= self.window
            frames = frames.reshape(-1, n, self.overlap, hop)
            for i in range(self.overlap):
                samples[block.start + i : block.stop + i, :n] += frames[:, :, i]
        n_hops = [self.n_frames(length) + self.overlap - 1 for length in lengths]
        rows = [samples[:n, i].copy().reshape(-1) for i, n in enumerate(n_hops)]
        return [row[before : before + length] for row, length in zip(rows, lengths, strict=True)]

    def _blocks(self, lengths: Sequence[int]) -> Iterator[tuple[slice, int]]:
        """Yield the frames of each transform, and the number of signals up to the last that has any of these frames."""
        n_frames = np.array([self.n_frames(length) for length in lengths])
        for start in range(0, int(n_frames.max()), FRAMES_AT_ONCE):
            yield slice(start, start + FRAMES_AT_ONCE), int(np.flatnonzero(n_frames > start)[-1]) + 1


def _mirrored(signal: np.ndarray, before: int, after: int) -> np.ndarray:
    """Return a signal with mirrored ends, as ``np.pad`` with mode ``symmetric``, but faster."""
    if len(signal) < max(before, after):
        return np.pad(signal, (before, after), mode="symmetric")
    return np.concatenate([signal[:before][::-1], signal, signal[len(signal) - after :][::-1]])
