"""openSMILE functionals of clips, by default ComParE 2016 (Schuller et al., Interspeech 2016; Eyben 2013)."""

import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from exvo.audio.store import OK, SAMPLE_RATE, Clip, read_shard
from exvo.features.store import PADDED, FeatureRow, write_utterances

if TYPE_CHECKING:
    import opensmile

# Below one frame of 60 ms, the longest of the feature set, openSMILE 2.6.0 returns no values.
MIN_SAMPLES = 960


@dataclass(frozen=True)
class OpensmileConfig:
    """Settings of openSMILE functionals.

    Attributes
    ----------
    feature_set : str
        Name of openSMILE's feature set; the paper's is ComParE_2016 (6,373 features).
    """

    feature_set: Literal["ComParE_2016", "GeMAPSv01b", "eGeMAPSv02"] = "ComParE_2016"


def opensmile_shard(
    source: str | Path, target: str | Path, config: OpensmileConfig, *, n_threads: int = 1
) -> None:
    """Compute the functionals of every clip of an audio shard and store them."""
    clips = read_shard(source)
    signals = [clip.audio for clip in clips if clip.audio is not None]
    values, names = opensmile_functionals(signals, config, n_threads=n_threads)
    remaining = iter(values)
    rows = [_row(clip, next(remaining) if clip.audio is not None else None) for clip in clips]
    write_utterances(target, rows, names)


def opensmile_functionals(
    signals: Sequence[np.ndarray], config: OpensmileConfig, *, n_threads: int = 1
) -> tuple[np.ndarray, list[str]]:
    """Compute openSMILE functionals of clips.

    Parameters
    ----------
    signals : sequence of np.ndarray [shape=(n_samples,), float32]
        16 kHz mono. A clip shorter than 60 ms is padded to 60 ms with zeros at its end.
    config : OpensmileConfig
    n_threads : int
        openSMILE releases Python's lock, so threads run in parallel.

    Returns
    -------
    values : np.ndarray [shape=(n_clips, n_features), float32]
    names : list of str
    """
    import opensmile

    smile = opensmile.Smile(
        opensmile.FeatureSet[config.feature_set],
        opensmile.FeatureLevel.Functionals,
        sampling_rate=SAMPLE_RATE,
    )
    names = list(smile.feature_names)
    own = threading.local()

    def extract(signal: np.ndarray) -> np.ndarray:
        if not hasattr(own, "extractor"):
            own.extractor = _Extractor(smile)
        return own.extractor.extract(np.pad(signal, (0, max(0, MIN_SAMPLES - len(signal)))))

    with ThreadPoolExecutor(n_threads) as pool:
        values = list(pool.map(extract, signals))
    return np.stack(values) if values else np.zeros((0, len(names)), np.float32), names


class _Extractor:
    """openSMILE, initialised once for many clips.

    `opensmile.Smile` initialises openSMILE for each clip, which takes 15 of 25 ms for a clip of 1 s (version 2.6.0). A
    reset takes less time, and the values are the same to the last bit.
    """

    def __init__(self, smile: "opensmile.Smile") -> None:
        from opensmile.core.config import config as names

        self._sink, self._source = names.EXTERNAL_OUTPUT_COMPONENT, names.EXTERNAL_SOURCE_COMPONENT
        source = Path(smile.default_config_root) / names.EXTERNAL_INPUT_CONFIG
        options = smile._options() | {"source": source, "sampleRate": SAMPLE_RATE, "nBits": 16}
        self._smile = smile._smile(options=options)
        weakref.finalize(self, self._smile.free)

    def extract(self, signal: np.ndarray) -> np.ndarray:
        """Return the functionals of a clip, float32, shape=(n_features,)."""
        found: list[np.ndarray] = []
        self._smile.external_sink_set_callback_ex(self._sink, lambda rows, _: found.append(rows[0].copy()))
        samples = (signal * 32768).astype(np.int16)
        self._smile.external_audio_source_write_data(self._source, samples.tobytes())
        self._smile.external_audio_source_set_eoi(self._source)
        self._smile.run()
        self._smile.reset()
        (values,) = found  # functionals are one vector per clip
        return values


def _row(clip: Clip, values: np.ndarray | None) -> FeatureRow:
    if values is not None and (n_samples := len(clip.samples)) < MIN_SAMPLES:
        clip = clip.flagged(PADDED, f"{n_samples} samples, padded to {MIN_SAMPLES} with zeros")
    return FeatureRow(clip.clip_id, values, clip.status, "" if clip.status == OK else clip.reason)
