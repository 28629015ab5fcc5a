"""HuBERT embeddings of an audio shard: the hidden states of some layers, concatenated in each 20 ms frame.

For fine-tuning an encoder, the frames of its frozen front end instead.

This feature needs a network. It is therefore in this package and not in `exvo.features`, which is independent of
networks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import tee
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from exvo.audio.store import OK, Clip, iter_shard
from exvo.features.store import PADDED, FeatureRow, write_sequences
from exvo.hubert.encoder import (
    RECEPTIVE_FIELD,
    Hubert,
    HubertConfig,
    Precision,
    frontend_frames,
    iter_hidden_states,
)
from exvo.hubert.weights import load_hubert
from exvo.networks.torch_setup import device_name, torch_threads
from exvo.util.settings import Count, Device, FrameType, Schema, Sha256

Bundle = Literal["HUBERT_BASE", "HUBERT_LARGE", "WAV2VEC2_BASE", "WAVLM_BASE", "WAVLM_BASE_PLUS"]
# Values that a config may have; only the workflow sets "frontend", for the frames of the front end.
LAYERS = Schema(
    {
        "type": ["array", "null"],
        "items": {"type": "integer", "minimum": 0},
        "minItems": 1,
        "uniqueItems": True,
    }
)


@dataclass(frozen=True)
class EmbeddingConfig:
    """How embeddings are computed.

    Attributes
    ----------
    source : {"bundled", "random", "checkpoint", "bundle"}
        Source of the weights: ``bundled``, the small encoder of this repository; ``random``, the same with random
        weights, as a control; ``checkpoint``, a local file; ``bundle``, torchaudio's by name, fetched if it is not in
        torch's cache (nothing else in the workflow fetches anything). See `exvo.hubert.weights.load_hubert`.
    checkpoint : str or None
        For ``checkpoint``: a state dict of torchaudio (.pt, .pth, .safetensors), or a folder of transformers
        (config.json with model.safetensors or pytorch_model.bin). A ``config.json`` next to a state dict describes its
        encoder; without one, HuBERT Base and Large, wav2vec 2.0 Base and WavLM Base are recognised by their shapes.
    sha256 : str or None
        SHA-256 that the file of the weights must have; null checks nothing, and the log says so. That of ``bundled``
        is always checked.
    bundle : str
        For ``bundle``: torchaudio's name.
    layers : tuple of int, None or "frontend"
        Hidden states that are stored: 0 is the input of the first layer, ``i`` the output of layer ``i``. The network
        learns a weighted sum of several. Null stores the last only.
    dtype : {"float16", "float32"}
        Number format of the stored frames.
    device : str
        ``auto`` (CUDA if there is a GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:<n>``.
    precision : {"fp32", "bf16"}
        Precision of matrix products and convolutions; bf16 is fast where the processor supports it.
    max_batch_frames : int
        Maximum number of frames that pass through the transformer at once; clips are concatenated.
    """

    source: Literal["bundled", "random", "checkpoint", "bundle"] = "bundled"
    checkpoint: str | None = None
    sha256: Sha256 | None = None
    bundle: Bundle = "HUBERT_BASE"
    layers: Annotated[tuple[int, ...] | Literal["frontend"] | None, LAYERS] = None
    dtype: FrameType = "float16"
    device: Device = "auto"
    precision: Precision = "fp32"
    max_batch_frames: Count = 2000

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EmbeddingConfig":
        """Return the config from a section of the config file."""
        layers = values.get("layers")
        return cls(**{**values, "layers": tuple(layers) if isinstance(layers, list) else layers})


class Embedder:
    """A loaded encoder with its settings.

    Parameters
    ----------
    config : EmbeddingConfig
    where : str
        Section of the config file, for messages.

    Attributes
    ----------
    model : Hubert
    """

    def __init__(self, config: EmbeddingConfig, where: str = "features.hubert") -> None:
        device = device_name(config.device)
        self.config = config
        self.model: Hubert = load_hubert(asdict(config), where).model.to(device)

    @property
    def n_channels(self) -> int:
        """Channels of a frame: the selected layers, concatenated."""
        if self.config.layers == "frontend":
            return self.model.encoder.feature_projection.projection.in_features
        return len(kept_layers(self.config.layers, self.model.config)) * self.model.config.d_model

    def rows(self, clips: Iterable[Clip]) -> Iterator[FeatureRow]:
        """Yield the embeddings of clips in their stored type; a clip without audio has no values.

        Clips are consumed as `exvo.hubert.encoder.iter_hidden_states` needs them.
        """
        config = self.config
        # One iterator provides the audio, the other the rows; tee buffers the clips between them.
        audible, clips = tee(clips)
        signals = (clip.audio for clip in audible if clip.audio is not None)
        if config.layers == "frontend":
            values = frontend_frames(self.model, signals, precision=config.precision, dtype=config.dtype)
        else:
            layers = kept_layers(config.layers, self.model.config)
            states = iter_hidden_states(
                self.model,
                signals,
                layers,
                max_frames=config.max_batch_frames,
                precision=config.precision,
                dtype=config.dtype,
            )
            values = map(_concatenated, states)
        for clip in clips:
            yield _row(clip, None if clip.audio is None else next(values))


def kept_layers(layers: Sequence[int] | None, size: HubertConfig) -> tuple[int, ...]:
    """Return the hidden states in ``features.hubert.layers``; None means the last one."""
    return (size.n_layers,) if layers is None else tuple(layers)


def embed_shard(
    source: str | Path,
    frames: str | Path,
    index: str | Path,
    config: EmbeddingConfig,
    *,
    where: str = "features.hubert",
    n_threads: int = 1,
) -> None:
    """Compute the embeddings of every clip of an audio shard and store them, pack by pack.

    Parameters
    ----------
    source : str or Path
        Audio shard.
    frames, index : str or Path
        As for `exvo.features.store.write_sequences`; the channels of a frame are the layers, concatenated.
    config : EmbeddingConfig
    where : str
        Section of the config file, for messages.
    n_threads : int
        Threads of PyTorch during the call.

    Raises
    ------
    ValueError
        As for `exvo.hubert.weights.load_hubert`, or where the model lacks a layer.
    """
    with torch_threads(n_threads):
        embedder = Embedder(config, where)
        rows = embedder.rows(iter_shard(source))
        write_sequences(frames, index, rows, embedder.n_channels, config.dtype)


def _concatenated(states: np.ndarray) -> np.ndarray:
    """Turn (n_layers, n_frames, d_model) into (n_frames, n_layers * d_model)."""
    return np.moveaxis(states, 0, 1).reshape(states.shape[1], -1)


def _row(clip: Clip, values: np.ndarray | None) -> FeatureRow:
    if values is not None and (n_samples := len(clip.samples)) < RECEPTIVE_FIELD:
        clip = clip.flagged(PADDED, f"{n_samples} samples, padded to {RECEPTIVE_FIELD} with zeros")
    return FeatureRow(clip.clip_id, values, clip.status, "" if clip.status == OK else clip.reason)
