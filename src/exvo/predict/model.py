"""Predict decoded recordings with one trained model: stages, features and network, as in the workflow."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from exvo.audio.convert import ConvertConfig
from exvo.audio.stage_dc import HighpassConfig, dc_clips
from exvo.audio.stage_denoised import DenoiseConfig, denoised_clips
from exvo.audio.stage_vad import VadConfig, vad_clips
from exvo.audio.stages import stage_path
from exvo.audio.store import OK, Clip, decode, encode
from exvo.evaluation.predictions import Predictions
from exvo.features.logmel import LogmelConfig, logmel
from exvo.features.opensmile import OpensmileConfig, opensmile_functionals
from exvo.features.spec import feature_kind, fine_tuned
from exvo.features.store import FeatureRow, write_sequences, write_utterances
from exvo.features.vectors import feature_vectors, write_vectors
from exvo.systems.load import KINDS, load_system
from exvo.systems.model_folder import ModelFolder
from exvo.systems.utterance_embeddings import utterance_embeddings_by
from exvo.training.clip_vectors import UtteranceStore
from exvo.training.frames import ClipStore, FrameStore
from exvo.training.predict import predict_clips
from exvo.training.vectors import VectorStore

# The config class of each section of stage settings.
SETTINGS = {"convert": ConvertConfig, "highpass": HighpassConfig, "denoise": DenoiseConfig, "vad": VadConfig}
# The same recordings, by the config with which they were decoded.
Decoded = Mapping[ConvertConfig, Sequence[Clip]]
# Status and reason of a clip.
Flag = tuple[str, str]


def check_settings(model: ModelFolder) -> None:
    """Refuse a model from another version, whose stages have other settings.

    Raises
    ------
    ValueError
        Where the settings differ. The message names them and says what to do.
    """
    for system in model.parts or (model,):
        for section, settings in system.system["audio"].items():
            differing = sorted({field.name for field in fields(SETTINGS[section])} ^ set(settings))
            if differing:
                raise ValueError(
                    f"{system.path}: trained with another version of this software, in which audio.{section} has other"
                    f" settings ({', '.join(differing)}); train the system again, or predict with that version"
                )


def convert_config(system: ModelFolder) -> ConvertConfig:
    """Return the decoding settings of a system (not of a feature fusion)."""
    return ConvertConfig(**system.system["audio"]["convert"])


def predict_decoded(model: ModelFolder, decoded: Decoded, n_threads: int) -> tuple[list[Flag], Predictions]:
    """Predict recordings with one model.

    Parameters
    ----------
    model : ModelFolder
    decoded : mapping of ConvertConfig to sequence of Clip
        The recordings, all with audio, decoded with the settings of each system of the model.
    n_threads : int

    Returns
    -------
    flags : list of Flag
        Status and reason of each recording after the stages of the model.
    predictions : Predictions
        Predictions in the same order.
    """
    if model.parts:
        return _by_feature_fusion(model, decoded, n_threads)
    clips = _staged(decoded, model, n_threads)
    with tempfile.TemporaryDirectory() as scratch:
        shard = _write_features(Path(scratch, "features"), clips, model, n_threads)
        trained = load_system(model.path)
        if trained.network_config.reads_vectors:
            store: ClipStore = VectorStore([shard], _ids(clips).tolist())
        else:
            frames, index = shard
            store = FrameStore([(frames, index)])
        return _flags(clips), predict_clips(trained, store, _ids(clips), n_threads)


def first_flagged(several: Sequence[Sequence[Flag]]) -> list[Flag]:
    """Return for each clip the first of its flags that is not ``ok``, or else ``ok``."""
    return [next((flag for flag in flags if flag[0] != OK), flags[0]) for flags in zip(*several, strict=True)]


def _flags(clips: Sequence[Clip]) -> list[Flag]:
    return [(clip.status, clip.reason) for clip in clips]


def _staged(decoded: Decoded, model: ModelFolder, n_threads: int) -> list[Clip]:
    """Apply the stages of a system to clips, with the rounding of the shards between stages."""
    stage, audio = model.system["stage"], model.system["audio"]
    steps = {
        "dc": lambda clips: dc_clips(clips, HighpassConfig(**audio["highpass"])),
        "denoised": lambda clips: denoised_clips(clips, DenoiseConfig(**audio["denoise"])),
        "vad": lambda clips: vad_clips(clips, VadConfig(**audio["vad"]), n_threads=n_threads),
    }
    bits = 16 if stage == "baseline" else 24
    clips = [_rounded(clip, bits) for clip in decoded[convert_config(model)]]
    for step in stage_path(stage)[1:]:
        clips = [_rounded(clip, 16) for clip in steps[step](clips)]
    return clips


def _rounded(clip: Clip, bits: int) -> Clip:
    return replace(clip, audio=decode(encode(clip.samples, clip.clip_id, bits)))


def _by_feature_fusion(
    model: ModelFolder, decoded: Decoded, n_threads: int
) -> tuple[list[Flag], Predictions]:
    """Predict with a feature fusion, from vectors of the systems that it was trained on."""
    of_features = model.system["inputs"] == "features"
    flags: list[list[Flag]] = []
    files: dict[object, tuple[Path, Path]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for part in model.parts:
            system = part.system
            clips = _staged(decoded, part, n_threads)
            flags.append(_flags(clips))
            read = (system["feature"], system["stage"], fine_tuned(system)) if of_features else part.path
            if read not in files:
                stem = Path(scratch, f"{len(files)}")
                shard = _write_features(stem, clips, part, n_threads)
                files[read] = Path(scratch, f"{stem.name}_v.npy"), Path(scratch, f"{stem.name}_v.parquet")
                embed = feature_vectors if of_features else utterance_embeddings_by(part.path, KINDS)
                write_vectors([shard], embed, *files[read])
        store = UtteranceStore(list(files.values()))
        predictions = predict_clips(load_system(model.path), store, _ids(clips), n_threads)
    return first_flagged(flags), predictions


def _write_features(
    stem: Path, clips: Sequence[Clip], model: ModelFolder, n_threads: int
) -> tuple[Path, ...]:
    """Write the features of clips as a shard of their kind."""
    kind = feature_kind(model.system["feature"])
    if kind == "opensmile":
        config = OpensmileConfig(**model.system["feature_config"])
        values, names = opensmile_functionals([clip.samples for clip in clips], config, n_threads=n_threads)
        rows = [FeatureRow(clip.clip_id, row, OK, "") for clip, row in zip(clips, values, strict=True)]
        write_utterances(stem.with_suffix(".parquet"), rows, names)
        return (stem.with_suffix(".parquet"),)
    sequences = SEQUENCES[kind](clips, model.system, n_threads)
    shard = stem.with_suffix(".npy"), stem.with_suffix(".parquet")
    n_channels = next(row.values.shape[1] for row in sequences if row.values is not None)
    write_sequences(*shard, sequences, n_channels, model.system["feature_config"]["dtype"])
    return shard


def _logmel_rows(clips: Sequence[Clip], system: Mapping[str, Any], n_threads: int) -> list[FeatureRow]:
    config = LogmelConfig(**system["feature_config"])
    return [
        FeatureRow(clip.clip_id, logmel(clip.samples, config), clip.status, clip.reason) for clip in clips
    ]


def _hubert_rows(clips: Sequence[Clip], system: Mapping[str, Any], n_threads: int) -> list[FeatureRow]:
    from exvo.hubert.embeddings import Embedder, EmbeddingConfig
    from exvo.networks.torch_setup import torch_threads

    config = EmbeddingConfig.from_dict(system["feature_config"])
    if fine_tuned(system):
        config = replace(config, layers="frontend")
    with torch_threads(n_threads):
        return list(Embedder(config, "the model's feature_config").rows(clips))


SEQUENCES = {"logmel": _logmel_rows, "hubert": _hubert_rows}


def _ids(clips: Sequence[Clip]) -> np.ndarray:
    return np.array([clip.clip_id for clip in clips], dtype=object)
