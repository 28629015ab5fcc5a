"""The vad stage: where the voice of a clip starts and where it ends.

The voice detector is Silero VAD (https://github.com/snakers4/silero-vad), release 6.2.3: a recurrent network
that reads a clip in chunks of 32 ms and gives each a probability of speech. The paper used a release of 2021.
The model is the ONNX file inside the ``silero_vad`` package, run by onnxruntime alone: importing the package
would import torch, which takes longer than a small shard.

`silero_vad.get_speech_timestamps` runs one clip and one chunk at a time. Here the clips of a batch advance
together, each with its own recurrent state, and the results are the same: the network treats the rows of a
batch independently. The rules that turn probabilities into spans follow the documentation of that function.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exvo.audio.highpass import check_signal

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CLIPS_AT_ONCE = 64  # from 16 on, more clips are hardly faster: the time goes into the convolutions
CHUNKS = {8000: 256, 16000: 512}  # samples the model reads at a time, by sample rate; 32 ms
STATE_SIZE = 128
HYSTERESIS = 0.15  # voice starts at the threshold, and ends when the probability falls this far below it
LEAST_END_THRESHOLD = 0.01


@dataclass(frozen=True)
class VadConfig:
    """What counts as voice, and how much is kept around it.

    The defaults are ours. Vocal bursts are not what the model was trained on: at Silero's own defaults (0.5,
    250 ms) it finds no voice in 24 % of 1,000 real bursts, and cuts off a twentieth of the energy or more in
    23 % of the rest. At the defaults here that is 1.1 % and 5 %, and the median clip still loses a third of
    its length.

    Attributes
    ----------
    threshold : float
        Probability from which a chunk is voice, from 0.01 to below 1. The voice ends when the probability
        falls below ``max(threshold - 0.15, 0.01)``.
    min_speech_ms : float
        A stretch of voice not longer than this is ignored, in ms. 64: a lone chunk of 32 ms is not a burst.
    min_silence_ms : float
        A pause shorter than this does not end a stretch of voice, in ms.
    pad_ms : float
        Kept before the first and after the last stretch, in ms: breathy onsets and decays score low.
    """

    threshold: float = 0.1
    min_speech_ms: float = 64.0
    min_silence_ms: float = 100.0
    pad_ms: float = 100.0

    def __post_init__(self) -> None:
        if not LEAST_END_THRESHOLD <= self.threshold < 1:
            raise ValueError(
                f"vad: threshold must be from {LEAST_END_THRESHOLD} to below 1, got {self.threshold}"
            )
        for name in ("min_speech_ms", "min_silence_ms", "pad_ms"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"vad: {name} must be 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class VoiceSpan:
    """From where to where a clip holds voice, in samples: ``signal[start:end]`` is what to keep."""

    start: int
    end: int


def find_voice(
    signals: Sequence[np.ndarray], sample_rate: int, config: VadConfig, *, n_threads: int = 1
) -> list[VoiceSpan | None]:
    """Find the span from the first voice to the last in each clip.

    Parameters
    ----------
    signals : sequence of np.ndarray [shape=(n_samples,), float]
        Clips of any length, full scale being 1.
    sample_rate : int
        In Hz, of every clip: 8000 or 16000.
    config : VadConfig
        What counts as voice.
    n_threads : int
        Threads of onnxruntime. The model's steps are small: more than one makes it slower on two cores.

    Returns
    -------
    list of VoiceSpan or None
        In the order of ``signals``; None where no voice was found.

    Raises
    ------
    ValueError
        If the sample rate is not one of the model's, or a clip is not one-dimensional floating point and
        finite.

    Notes
    -----
    `voice_probabilities` and `voice_span` are its two steps, for a caller who wants the probabilities too.
    """
    probabilities = voice_probabilities(signals, sample_rate, n_threads=n_threads)
    return [
        voice_span(of_clip, len(signal), sample_rate, config)
        for of_clip, signal in zip(probabilities, signals, strict=True)
    ]


def voice_probabilities(
    signals: Sequence[np.ndarray], sample_rate: int, *, n_threads: int = 1
) -> list[np.ndarray]:
    """Give the probability of speech in each 32 ms of each clip.

    Parameters
    ----------
    signals, sample_rate, n_threads
        As for `find_voice`.

    Returns
    -------
    list of np.ndarray [shape=(n_chunks,), float32]
        In the order of ``signals``. ``n_chunks = ceil(n_samples / chunk)`` with 512 samples a chunk at 16 kHz
        and 256 at 8 kHz; the last chunk is filled up with zeros. Empty for an empty clip.
    """
    if sample_rate not in CHUNKS:
        raise ValueError(f"vad: the model reads 8000 or 16000 Hz, not {sample_rate}")
    checked = [check_signal(signal, index) for index, signal in enumerate(signals)]
    session = _session(n_threads)
    # Clips of like length together: a batch ends when its longest clip does.
    order = sorted(range(len(checked)), key=lambda index: -len(checked[index]))
    probabilities: list[np.ndarray] = [np.empty(0, np.float32)] * len(checked)
    for first in range(0, len(order), CLIPS_AT_ONCE):
        batch = order[first : first + CLIPS_AT_ONCE]
        of_batch = _run_batch(session, [checked[index] for index in batch], sample_rate)
        for index, of_clip in zip(batch, of_batch, strict=True):
            probabilities[index] = of_clip
    return probabilities


def _run_batch(session: "InferenceSession", signals: list[np.ndarray], sample_rate: int) -> list[np.ndarray]:
    """Step clips, longest first, through their chunks together; a clip leaves when it ends."""
    chunk = CHUNKS[sample_rate]
    context = chunk // 8  # the model also reads the end of the chunk before
    lengths = np.array([len(signal) for signal in signals])
    n_chunks = -(-lengths // chunk)
    probabilities = np.empty((len(signals), n_chunks[0]), np.float32)
    state = np.zeros((2, len(signals), STATE_SIZE), np.float32)
    rate = np.array(sample_rate, np.int64)
    chunks = np.zeros((len(signals), context + chunk), np.float32)
    for step in range(n_chunks[0]):
        n_running = int(np.count_nonzero(n_chunks > step))
        chunks[:, :context] = chunks[:, -context:]
        start = step * chunk
        for row, signal in zip(chunks[:n_running, context:], signals, strict=False):
            piece = signal[start : start + chunk]
            row[: len(piece)] = piece
            row[len(piece) :] = 0
        inputs = {"input": chunks[:n_running], "state": state[:, :n_running], "sr": rate}
        output, state = session.run(["output", "stateN"], inputs)
        probabilities[:n_running, step] = output[:, 0]
    return [row[:n].copy() for row, n in zip(probabilities, n_chunks, strict=True)]


@lru_cache(maxsize=4)
def _session(n_threads: int) -> "InferenceSession":
    """Load the model that ships with silero_vad, without importing that package (it imports torch)."""
    import onnxruntime

    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("vad: the package silero-vad, which holds the model, is not installed")
    model = Path(package.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # the file holds weights for 8 kHz too; it warns that they are unused
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def voice_span(
    probabilities: np.ndarray, n_samples: int, sample_rate: int, config: VadConfig
) -> VoiceSpan | None:
    """Give the span from the first stretch of voice to the last, padded.

    A stretch starts with the first chunk at or above the threshold. It ends where the probability falls below
    the end threshold, provided that it then stays below the threshold for ``min_silence_ms``; otherwise at
    the end of the clip. Stretches not longer than ``min_speech_ms`` do not count.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(n_chunks,), float]
        Of one clip, from `voice_probabilities`.
    n_samples : int
        Length of the clip.
    sample_rate : int
        In Hz.
    config : VadConfig
        What counts as voice.

    Returns
    -------
    VoiceSpan or None
        None if no stretch counts.
    """
    stretches = _stretches(probabilities, n_samples, sample_rate, config)
    if not stretches:
        return None
    pad = sample_rate * config.pad_ms / 1000
    return VoiceSpan(int(max(0, stretches[0][0] - pad)), int(min(n_samples, stretches[-1][1] + pad)))


def _stretches(
    probabilities: np.ndarray, n_samples: int, sample_rate: int, config: VadConfig
) -> list[tuple[int, int]]:
    """Give start and end, in samples, of each stretch of voice that is long enough."""
    chunk = CHUNKS[sample_rate]
    min_speech = sample_rate * config.min_speech_ms / 1000
    min_silence = sample_rate * config.min_silence_ms / 1000
    end_threshold = max(config.threshold - HYSTERESIS, LEAST_END_THRESHOLD)
    found = []
    start = quiet_since = None
    for step, probability in enumerate(probabilities.tolist()):
        here = step * chunk
        if probability >= config.threshold:
            start = here if start is None else start
            quiet_since = None
        elif probability < end_threshold and start is not None:
            quiet_since = here if quiet_since is None else quiet_since
            if here - quiet_since >= min_silence:
                found.append((start, quiet_since))
                start = quiet_since = None
    if start is not None:
        found.append((start, n_samples))
    return [(start, end) for start, end in found if end - start > min_speech]
