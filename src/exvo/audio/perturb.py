"""Speed perturbation: training clips played faster and slower, as separate audio (Ko et al., Interspeech 2015).

Speed changes duration and pitch together: at factor 1.1 a clip is 1.1 times shorter and its pitch 1.1 times higher.
The derived shard contains the clips of Train only, because perturbed clips are used for training only.
"""

from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from exvo.audio.full_scale import within_full_scale
from exvo.audio.store import Clip, read_shard, write_shard

MEASURES = {"factor": pa.float64(), "gain_db": pa.float64()}
# Resampling by up / down uses small integers; 0.9 and 1.1 are 9/10 and 11/10.
MAX_DENOMINATOR = 100
HALF_WIDTH = 32  # of the resampling filter, in samples of the lower rate
ROWS_AT_ONCE = 4096  # rows of `up` output samples each, which bounds memory


def perturb_shard(source: str | Path, target: str | Path, factor: float, train_ids: Collection[str]) -> None:
    """Change the speed of the Train clips of a shard and store them.

    Parameters
    ----------
    source, target : str or Path
        Audio shards.
    factor : float
        As for `change_speed`.
    train_ids : collection of str
        Clips of Train; other clips have no row in ``target``.
    """
    clips = [clip for clip in read_shard(source) if clip.clip_id in train_ids]
    write_shard(target, [_perturbed(clip, factor) for clip in clips], MEASURES, bits=16)


def change_speed(audio: np.ndarray, factor: float) -> np.ndarray:
    """Play a signal ``factor`` times as fast.

    Parameters
    ----------
    audio : np.ndarray [shape=(n_samples,)]
    factor : float
        Above 1, the result is faster, shorter and higher in pitch.

    Returns
    -------
    np.ndarray [shape=(ceil(n_samples / factor),), float32]
        Band-limited: components that a higher speed would move beyond half the sample rate are removed.

    Raises
    ------
    ValueError
        Where the factor is not positive or not a ratio of small integers.
    """
    ratio = Fraction(factor).limit_denominator(MAX_DENOMINATOR)
    if ratio <= 0 or abs(float(ratio) - factor) > 1e-9:
        raise ValueError(
            f"speed: the factor must be a ratio of integers up to {MAX_DENOMINATOR}, not {factor}"
        )
    if ratio == 1 or not len(audio):
        return np.asarray(audio, dtype=np.float32)
    return _resample(audio, ratio.denominator, ratio.numerator).astype(np.float32)


def _resample(audio: np.ndarray, up: int, down: int) -> np.ndarray:
    """Return a signal at ``up / down`` times its rate, shape=(ceil(n_samples * up / down),), in float64.

    The result is that of `scipy.signal.resample_poly` with the filter of `_low_pass`, in a quarter of the time and
    without its import, which takes a second. Each group of ``up`` output samples is the product of a few input samples
    with a constant matrix.
    """
    filters, n_before = _polyphase(up, down)
    n_rows = -(-len(audio) // down)
    padded = np.zeros(max((n_rows - 1) * down + len(filters), n_before + len(audio)))
    padded[n_before : n_before + len(audio)] = audio
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(filters))[::down][:n_rows]
    made = [windows[start : start + ROWS_AT_ONCE] @ filters for start in range(0, n_rows, ROWS_AT_ONCE)]
    return np.concatenate(made).reshape(-1)[: -(-len(audio) * up // down)]


@cache
def _polyphase(up: int, down: int) -> tuple[np.ndarray, int]:
    """Return the matrix that turns a window of samples into ``up`` output samples; the window advances by ``down``.

    Returns
    -------
    filters : np.ndarray [shape=(n_window, up)]
        Per output sample, the taps of the low-pass filter, latest first, at the samples that they multiply.
    n_before : int
        Number of samples of the first window that lie before the signal.
    """
    taps = up * _low_pass(max(up, down))
    # The latest input sample of each output sample, and its tap; each earlier sample uses the tap `up` places further.
    latest, phase = np.divmod(np.arange(up) * down + len(taps) // 2, up)
    n_before = -(-len(taps) // up) - 1 - int(latest[0])
    filters = np.zeros((n_before + int(latest[-1]) + 1, up))
    for column, (sample, tap) in enumerate(zip(latest, phase, strict=True)):
        own = taps[tap::up]
        filters[n_before + sample - np.arange(len(own)), column] = own
    return filters, n_before


def _low_pass(rate: int) -> np.ndarray:
    """Return a low-pass with 80 dB attenuation at 1 / ``rate`` of the Nyquist frequency; SciPy's default has 6 dB."""
    half = HALF_WIDTH * rate
    # Kaiser: a filter of this length and beta has a transition of about 5 / (2 * HALF_WIDTH) of the pass band.
    at = np.arange(-half, half + 1)
    taps = np.sinc((1 - 2.6 / HALF_WIDTH) / rate * at) * np.kaiser(2 * half + 1, 8.0)
    return taps / taps.sum()


def _perturbed(clip: Clip, factor: float) -> Clip:
    if clip.audio is None:
        return clip
    # The peak between samples can exceed the peak at the samples.
    audio, gain_db = within_full_scale(change_speed(clip.audio, factor))
    return replace(clip, audio=audio, measures={"factor": factor, "gain_db": gain_db})
