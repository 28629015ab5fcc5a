"""The vad stage: detect the start and the end of the burst in a clip.

Two criteria detect it, each in chunks of 32 ms, and the union of both is kept. Silero VAD returns a probability of
speech for each chunk (`exvo.audio.silero`). It was trained on speech and misses cries, sighs and breath. The second
criterion therefore compares the level of each chunk with the noise floor of the clip.

Both sequences are turned into stretches by the rules of `silero_vad.get_speech_timestamps`, which use hysteresis: a
stretch starts at one threshold and ends at a lower one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from exvo.audio.silero import CHUNKS, voice_probabilities
from exvo.util.settings import Bounds, NotNegative

HYSTERESIS = 0.15  # voice starts at the threshold and ends when the probability falls this far below it
LEAST_END_THRESHOLD = 0.01
ABOVE_NOISE_DB = (4.0, 40.0)  # bounds of the config key; with at least 4 dB, a stretch ends above the floor
RELEASE_DB = 3.0  # the hysteresis of the level
QUIET_SHARE = 0.1  # the noise floor is this quantile of the levels of the chunks
RANGE_DB = 60.0  # chunks further below the loudest one are silence: rounding noise of decoders, digital zeros
# A chunk within this range of the loudest always counts. Where a burst fills the clip, its own quietest tenth would be
# the noise floor; and clicks of the tongue or of teeth are bursts. Noise within this range is not removed.
LOUD_DB = 12.0
LEAST_POWER = 1e-10  # -100 dBFS, about the rounding noise of 16 bits; the level of digital silence


@dataclass(frozen=True)
class VadConfig:
    """Settings of the stage vad.

    The defaults are ours, except Silero's threshold. `benchmarks/vad_kept.py` measures what they keep and cut.

    Attributes
    ----------
    threshold : float
        Probability from which a chunk of 32 ms is voice; the voice ends 0.15 below it, at 0.01 or more.
    min_speech_ms : float
        Segments that are not longer are ignored, in ms. Segments found by level are kept if they are within 12 dB of
        the loudest chunk of the clip (`burst_span`).
    min_silence_ms : float
        Shorter pauses do not end a segment, in ms.
    pad_ms : float
        Audio kept before the first and after the last segment, in ms, for soft onsets and decays.
    above_noise_db : float or None
        Level above the clip's noise floor from which a chunk of 32 ms is kept as part of a burst, in dB, voice or not;
        the burst ends 3 dB lower. Null uses Silero's voice detection only.
    """

    threshold: Annotated[float, Bounds(at_least=LEAST_END_THRESHOLD, below=1)] = 0.5
    min_speech_ms: NotNegative = 64.0
    min_silence_ms: NotNegative = 100.0
    pad_ms: NotNegative = 100.0
    above_noise_db: Annotated[float, Bounds(at_least=ABOVE_NOISE_DB[0], at_most=ABOVE_NOISE_DB[1])] | None = (
        8.0
    )

    def __post_init__(self) -> None:
        if not LEAST_END_THRESHOLD <= self.threshold < 1:
            raise ValueError(
                f"vad: threshold must be from {LEAST_END_THRESHOLD} to below 1, got {self.threshold}"
            )
        for name in ("min_speech_ms", "min_silence_ms", "pad_ms"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"vad: {name} must be 0 or more, got {getattr(self, name)}")
        low, high = ABOVE_NOISE_DB
        if self.above_noise_db is not None and not low <= self.above_noise_db <= high:
            raise ValueError(
                f"vad: above_noise_db must be from {low:g} to {high:g}, or null, got {self.above_noise_db}"
            )


@dataclass(frozen=True)
class VoiceSpan:
    """Start and end of the burst in a clip, in samples: ``signal[start:end]`` is kept."""

    start: int
    end: int


def find_voice(
    signals: Sequence[np.ndarray], sample_rate: int, config: VadConfig, *, n_threads: int = 1
) -> list[VoiceSpan | None]:
    """Find the span to keep of each clip: from the first voice or raised level to the last.

    Parameters
    ----------
    signals, sample_rate, n_threads
        As for `exvo.audio.silero.voice_probabilities`.
    config : VadConfig
        Settings of the stage.

    Returns
    -------
    list of VoiceSpan or None
        In the order of ``signals``; None where no burst was found.

    Raises
    ------
    ValueError
        As for `exvo.audio.silero.voice_probabilities`.

    Notes
    -----
    `voice_probabilities` and `kept_span` are its two steps, for a caller who wants the probabilities too.

    Examples
    --------
    A tone that swells and fades from 0.5 s to 1 s, and a silent clip.

    >>> import numpy as np
    >>> burst = 0.3 * np.sin(2 * np.pi * 220 * np.arange(8000) / 16000) * np.hanning(8000)
    >>> clip = np.concatenate([np.zeros(8000), burst, np.zeros(16000)])
    >>> span, nothing = find_voice([clip, np.zeros(16000)], 16000, VadConfig(pad_ms=100))
    >>> span.start / 16000, span.end / 16000
    (0.412, 1.092)
    >>> nothing is None
    True
    """
    probabilities = voice_probabilities(signals, sample_rate, n_threads=n_threads)
    return [
        kept_span(signal, of_clip, sample_rate, config)
        for signal, of_clip in zip(signals, probabilities, strict=True)
    ]


def kept_span(
    signal: np.ndarray, probabilities: np.ndarray, sample_rate: int, config: VadConfig
) -> VoiceSpan | None:
    """Return the smallest span that contains `voice_span` and `burst_span`.

    Parameters
    ----------
    signal : np.ndarray [shape=(n_samples,), float]
        One clip, full scale being 1.
    probabilities : np.ndarray [shape=(n_chunks,), float]
        Output of `voice_probabilities` for the clip.
    sample_rate : int
        In Hz: 8000 or 16000.
    config : VadConfig
        Settings of the stage.

    Returns
    -------
    VoiceSpan or None
        None if both are None.
    """
    spans = [
        voice_span(probabilities, len(signal), sample_rate, config),
        burst_span(signal, sample_rate, config),
    ]
    found = [span for span in spans if span is not None]
    if not found:
        return None
    return VoiceSpan(min(span.start for span in found), max(span.end for span in found))


def voice_span(
    probabilities: np.ndarray, n_samples: int, sample_rate: int, config: VadConfig
) -> VoiceSpan | None:
    """Return the padded span from the first stretch of voice to the last, by the rules of Silero VAD.

    Parameters
    ----------
    probabilities, sample_rate, config
        As for `kept_span`.
    n_samples : int
        Length of the clip.

    Returns
    -------
    VoiceSpan or None
        None if no stretch counts.
    """
    end_below = max(config.threshold - HYSTERESIS, LEAST_END_THRESHOLD)
    stretches = [
        (start, end)
        for start, end in _stretches(
            probabilities, config.threshold, end_below, n_samples, sample_rate, config
        )
        if _long_enough(start, end, sample_rate, config)
    ]
    return _padded(stretches, n_samples, sample_rate, config)


def burst_span(signal: np.ndarray, sample_rate: int, config: VadConfig) -> VoiceSpan | None:
    """Return the padded span from the first stretch that is louder than the noise of the clip to the last.

    The noise floor is the level that a tenth of the chunks stay below, and at least 60 dB below the loudest chunk. A
    stretch starts ``above_noise_db`` above the floor, and ends 3 dB lower. If there is a stretch, the span includes
    all chunks within 12 dB of the loudest, even short ones.

    Parameters
    ----------
    signal, sample_rate, config
        As for `kept_span`.

    Returns
    -------
    VoiceSpan or None
        None if no stretch counts, as in steady noise and in silence, or if ``above_noise_db`` is None.
    """
    if config.above_noise_db is None or not len(signal):
        return None
    chunk = CHUNKS[sample_rate]
    levels = chunk_levels(signal, chunk)
    loudest = float(levels.max())
    in_order = np.sort(levels[: max(1, len(signal) // chunk)])
    floor = max(float(in_order[int(QUIET_SHARE * len(in_order))]), loudest - RANGE_DB)
    if loudest < floor + config.above_noise_db:
        return None
    threshold = min(floor + config.above_noise_db, loudest - LOUD_DB)
    end_below = min(floor + config.above_noise_db - RELEASE_DB, loudest - LOUD_DB)
    # The quiet end of the clip is excluded first. It can be too short for a pause, and a click would then extend to it.
    n_chunks = int(np.flatnonzero(levels >= end_below)[-1]) + 1
    n_samples = min(len(signal), n_chunks * chunk)
    stretches = [
        (start, end)
        for start, end in _stretches(levels[:n_chunks], threshold, end_below, n_samples, sample_rate, config)
        if _long_enough(start, end, sample_rate, config)
        or levels[start // chunk : -(-end // chunk)].max() >= loudest - LOUD_DB
    ]
    return _padded(stretches, len(signal), sample_rate, config)


def chunk_levels(signal: np.ndarray, chunk: int) -> np.ndarray:
    """Return the level of each chunk of a clip.

    Parameters
    ----------
    signal : np.ndarray [shape=(n_samples,), float]
        One clip, full scale being 1.
    chunk : int
        Samples per chunk. The last chunk is padded with zeros, because the level of a few samples is meaningless.

    Returns
    -------
    np.ndarray [shape=(ceil(n_samples / chunk),), float64]
        Mean power in dB relative to full scale, -100 or more.
    """
    energy = np.add.reduceat(np.square(signal, dtype=np.float64), np.arange(0, len(signal), chunk))
    return 10 * np.log10(np.maximum(energy / chunk, LEAST_POWER))


def _stretches(
    values: np.ndarray,
    threshold: float,
    end_below: float,
    n_samples: int,
    sample_rate: int,
    config: VadConfig,
) -> list[tuple[int, int]]:
    """Return start and end, in samples, of each stretch of high values.

    A stretch starts with the first chunk at or above ``threshold``. It ends where the value falls below
    ``end_below``, provided that it then stays below ``threshold`` for ``min_silence_ms``; otherwise at the end
    of the clip.
    """
    chunk = CHUNKS[sample_rate]
    min_silence = sample_rate * config.min_silence_ms / 1000
    found = []
    start = quiet_since = None
    for step, value in enumerate(values.tolist()):
        here = step * chunk
        if value >= threshold:
            start = here if start is None else start
            quiet_since = None
        elif value < end_below and start is not None:
            quiet_since = here if quiet_since is None else quiet_since
            if here - quiet_since >= min_silence:
                found.append((start, quiet_since))
                start = quiet_since = None
    if start is not None:
        found.append((start, n_samples))
    return found


def _long_enough(start: int, end: int, sample_rate: int, config: VadConfig) -> bool:
    """Return whether a stretch is longer than ``min_speech_ms``."""
    return end - start > sample_rate * config.min_speech_ms / 1000


def _padded(
    stretches: Sequence[tuple[int, int]], n_samples: int, sample_rate: int, config: VadConfig
) -> VoiceSpan | None:
    """Return the span from the first stretch to the last, extended by ``pad_ms`` and limited to the clip."""
    if not stretches:
        return None
    pad = sample_rate * config.pad_ms / 1000
    return VoiceSpan(int(max(0, stretches[0][0] - pad)), int(min(n_samples, stretches[-1][1] + pad)))
