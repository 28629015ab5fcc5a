"""Targets of pre-training, from files to files: fit clusters on Train, and label its clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exvo.hubert.fft_positions import use_fourier_positions
from exvo.hubert.weights import exact_source, load_hubert
from exvo.networks.torch_setup import torch_threads
from exvo.pretraining.cluster_inputs import ClusterInputs, HiddenInputs, MfccInputs, TeacherInputs
from exvo.pretraining.clusters import (
    ClusterConfig,
    fit_clusters,
    label_shard,
    load_clusters,
    save_clusters,
)
from exvo.training.frames import FrameStore

ShardPaths = Sequence[tuple[str | Path, str | Path]]


def fit_cluster_file(
    entry: Mapping[str, Any],
    logmel: ShardPaths,
    clip_ids: Sequence[str],
    seed: int,
    path: str | Path,
    *,
    model: str | Path | None = None,
    others: ShardPaths = (),
    n_threads: int = 1,
) -> None:
    """Fit the clusters of an entry of ``pretrain.clusters`` and write them.

    Parameters
    ----------
    entry : mapping
        ``of`` (``mfcc``, ``hidden`` or ``teacher``), ``k``, ``n_frames``, ``standardise``; ``layer`` of ``hidden``;
        ``frame_ms`` and ``first_ms`` of ``teacher``.
    logmel : sequence of (frames path, index path)
    clip_ids : sequence of str
        Clips of Train; those without audio are skipped.
    seed : int
    path : str or Path
        ``.safetensors``; a report is written with the ending ``.json``.
    model : str or Path or None
        Folder of the encoder, for ``hidden``.
    others : sequence of (frames path, index path)
        Frames of the ``teacher``; samples for ``hidden`` with an encoder with convolutions.
    n_threads : int
    """
    config = ClusterConfig(**{name: entry[name] for name in ("k", "n_frames", "standardise")})
    with torch_threads(n_threads):
        inputs = cluster_inputs(entry, logmel, model, others)
        ids = with_audio(logmel, clip_ids)
        save_clusters(path, fit_clusters(inputs, ids, config, seed, n_threads=n_threads))


def label_clips(
    entry: Mapping[str, Any],
    logmel: ShardPaths,
    clip_ids: Sequence[str],
    clusters_path: str | Path,
    labels_path: str | Path,
    index_path: str | Path,
    *,
    model: str | Path | None = None,
    others: ShardPaths = (),
    n_threads: int = 1,
) -> None:
    """Label clips with the clusters of `fit_cluster_file`; see `exvo.pretraining.clusters.label_shard`."""
    with torch_threads(n_threads):
        inputs = cluster_inputs(entry, logmel, model, others)
        ids = with_audio(logmel, clip_ids)
        label_shard(load_clusters(clusters_path), inputs, ids, labels_path, index_path)


def cluster_inputs(
    entry: Mapping[str, Any], logmel: ShardPaths, model: str | Path | None, others: ShardPaths
) -> ClusterInputs:
    """Return the input of an entry of ``pretrain.clusters``. The arguments are those of `fit_cluster_file`."""
    store = FrameStore(logmel)
    if entry["of"] == "mfcc":
        return MfccInputs(store)
    if entry["of"] == "teacher":
        return TeacherInputs(FrameStore(others), store, entry["frame_ms"], entry["first_ms"])
    # The workflow wrote this file itself, so its own SHA-256 is the expected one.
    source = exact_source({"source": "checkpoint", "checkpoint": str(model), "sha256": None})
    encoder = load_hubert(source).model
    use_fourier_positions(encoder)
    inputs = store if encoder.config.frontend == "logmel" else FrameStore(others)
    return HiddenInputs(encoder, inputs, entry["layer"])


def with_audio(shards: ShardPaths, clip_ids: Sequence[str]) -> list[str]:
    """Return the clips that have frames."""
    has_audio = FrameStore(shards).has_audio(clip_ids)
    return [clip_id for clip_id, has in zip(clip_ids, has_audio, strict=True) if has]
