"""Silero VAD: the probability of speech in each 32 ms of a clip.

The voice detector is Silero VAD (https://github.com/snakers4/silero-vad), release 6.2.3: a recurrent network that
reads a clip in chunks of 32 ms and returns a probability of speech for each. The paper used a release of 2021. The
model is the ONNX file inside the ``silero_vad`` package, run with onnxruntime. Importing the package itself would
import torch, which takes longer than a small shard.

`silero_vad.get_speech_timestamps` runs one clip and one chunk at a time. Here the clips of a batch advance together,
each with its own recurrent state. The results are the same, because the network treats the rows of a batch
independently.
"""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exvo.audio.highpass import check_signal

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CLIPS_AT_ONCE = 64  # above 16, more clips are hardly faster: the convolutions dominate the time
CHUNKS = {8000: 256, 16000: 512}  # samples that the model reads at a time (32 ms), by sample rate
STATE_SIZE = 128


def voice_probabilities(
    signals: Sequence[np.ndarray], sample_rate: int, *, n_threads: int = 1
) -> list[np.ndarray]:
    """Return the probability of speech in each 32 ms of each clip.

    Parameters
    ----------
    signals : sequence of np.ndarray [shape=(n_samples,), float]
        Clips of any length, full scale being 1.
    sample_rate : int
        Sample rate of every clip, in Hz: 8000 or 16000.
    n_threads : int
        Threads of onnxruntime. The steps of the model are small; on two cores, more than one thread is slower.

    Returns
    -------
    list of np.ndarray [shape=(n_chunks,), float32]
        In the order of ``signals``. ``n_chunks = ceil(n_samples / chunk)`` with 512 samples a chunk at 16 kHz
        and 256 at 8 kHz; the last chunk is padded with zeros. Empty for an empty clip.

    Raises
    ------
    ValueError
        If the sample rate is not one of the model's, or a clip is not one-dimensional floating point and
        finite.
    """
    if sample_rate not in CHUNKS:
        raise ValueError(f"vad: the model reads 8000 or 16000 Hz, not {sample_rate}")
    checked = [check_signal(signal, index) for index, signal in enumerate(signals)]
    session = _session(n_threads)
    # Clips of similar length share a batch, because a batch ends with its longest clip.
    order = sorted(range(len(checked)), key=lambda index: -len(checked[index]))
    probabilities: list[np.ndarray] = [np.empty(0, np.float32)] * len(checked)
    for first in range(0, len(order), CLIPS_AT_ONCE):
        batch = order[first : first + CLIPS_AT_ONCE]
        of_batch = _run_batch(session, [checked[index] for index in batch], sample_rate)
        for index, of_clip in zip(batch, of_batch, strict=True):
            probabilities[index] = of_clip
    return probabilities


def _run_batch(session: "InferenceSession", signals: list[np.ndarray], sample_rate: int) -> list[np.ndarray]:
    """Process the chunks of several clips, longest first, in parallel; a clip leaves the batch when it ends."""
    chunk = CHUNKS[sample_rate]
    context = chunk // 8  # the model also reads the end of the previous chunk
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
    """Load the model file of silero_vad without importing that package, which imports torch."""
    import onnxruntime

    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            "vad: the package silero-vad, which contains the model, is not installed; install it"
        )
    model = Path(package.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = (
        3  # the file also has weights for 8 kHz, and onnxruntime warns that they are unused
    )
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
