"""Pre-training from files to files: cluster Train, label its clips, pre-train an encoder on them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from exvo.features.logmel import logmel_statistics
from exvo.models.hubert import HubertConfig
from exvo.models.hubert_batches import Targets
from exvo.models.hubert_cluster_inputs import ClusterInputs, HiddenInputs, MfccInputs, TeacherInputs
from exvo.models.hubert_clusters import (
    ClusterConfig,
    fit_clusters,
    label_shard,
    load_clusters,
    save_clusters,
)
from exvo.models.hubert_positions import use_fourier_positions
from exvo.models.hubert_pretraining import pretrain
from exvo.models.hubert_weights import load_hubert
from exvo.models.pretraining_loop import PretrainConfig
from exvo.models.pretraining_storage import load_start, save_pretrained
from exvo.models.sequence_data import FrameStore

ShardPaths = Sequence[tuple[str | Path, str | Path]]


def cluster_inputs(
    entry: Mapping[str, object],
    logmel: ShardPaths,
    *,
    model: str | Path | None = None,
    others: ShardPaths | None = None,
) -> ClusterInputs:
    """Return what an entry of ``pretrain.clusters`` clusters.

    Parameters
    ----------
    entry : mapping
        ``of`` (``mfcc``, ``hidden`` or ``teacher``), and for the latter two ``layer``, ``frame_ms``, ``first_ms``.
    logmel : sequence of (frames path, index path)
    model : str or Path or None
        Folder of the encoder, for ``hidden``.
    others : sequence of (frames path, index path) or None
        The teacher's frames; the samples, for ``hidden`` of an encoder with convolutions.
    """
    store = FrameStore(logmel)
    if entry["of"] == "mfcc":
        return MfccInputs(store)
    if entry["of"] == "teacher":
        return TeacherInputs(FrameStore(others or ()), store, entry["frame_ms"], entry["first_ms"])
    options = {"source": "checkpoint", "checkpoint": str(model), "sha256": None}
    encoder = load_hubert(options).model
    use_fourier_positions(encoder)
    inputs = store if encoder.config.frontend == "logmel" else FrameStore(others or ())
    return HiddenInputs(encoder, inputs, entry["layer"])


def fit_cluster_file(
    inputs: ClusterInputs,
    clip_ids: Sequence[str],
    entry: Mapping[str, object],
    seed: int,
    path: str | Path,
    *,
    n_threads: int = 1,
) -> None:
    """Fit the clusters of an entry of ``pretrain.clusters`` and write them.

    Parameters
    ----------
    inputs : ClusterInputs
    clip_ids : sequence of str
        Of Train, with audio.
    entry : mapping
        ``k``, ``n_frames``, ``standardise``.
    seed : int
    path : str or Path
        ``.safetensors``; a report goes beside it as ``.json``.
    n_threads : int
    """
    config = ClusterConfig(**{name: entry[name] for name in ("k", "n_frames", "standardise")})
    save_clusters(path, fit_clusters(inputs, clip_ids, config, seed, n_threads=n_threads))


def label_clips(
    clusters_path: str | Path,
    inputs: ClusterInputs,
    clip_ids: Sequence[str],
    labels_path: str | Path,
    index_path: str | Path,
) -> None:
    """Label clips with clusters that were written before: see `exvo.models.hubert_clusters.label_shard`."""
    label_shard(load_clusters(clusters_path), inputs, clip_ids, labels_path, index_path)


def with_frames(shards: ShardPaths, clip_ids: Sequence[str]) -> list[str]:
    """Return those of some clips that have audio."""
    store = FrameStore(shards)
    return [c for c, has in zip(clip_ids, store.has_audio(clip_ids), strict=True) if has]


def pretrain_encoder(
    inputs: ShardPaths,
    targets: Mapping[str, tuple[str | Path, ShardPaths]],
    clip_ids: Sequence[str],
    speakers: Sequence[str],
    entry: Mapping[str, object],
    seed: int,
    folder: str | Path,
    *,
    start: str | Path | None = None,
    n_threads: int = 1,
) -> None:
    """Pre-train an encoder and write its folder; a call that was interrupted goes on from its checkpoint.

    Parameters
    ----------
    inputs : sequence of (frames path, index path)
        Log-mel, or samples for an encoder with convolutions.
    targets : mapping of str to (clusters path, label shards)
    clip_ids, speakers : sequence of str
        Of Train; clips without audio are passed over.
    entry : mapping
        ``encoder`` and ``training``, as an entry of ``pretrain.models`` has them.
    seed : int
    folder : str or Path
        See `exvo.models.pretraining_storage`.
    start : str or Path or None
        Folder of a pre-trained encoder to start from.
    n_threads : int
    """
    folder = Path(folder)
    store = FrameStore(inputs)
    has_audio = store.has_audio(clip_ids)
    ids = [clip_id for clip_id, has in zip(clip_ids, has_audio, strict=True) if has]
    encoder_config = HubertConfig(**entry["encoder"])
    statistics = None
    if encoder_config.frontend == "logmel":
        path = folder / "statistics.json"
        logmel_statistics(inputs, set(ids), path)
        statistics = json.loads(path.read_text(encoding="utf-8"))
    pretrained = pretrain(
        store,
        {
            name: Targets(FrameStore(labels), load_clusters(c).config.k)
            for name, (c, labels) in targets.items()
        },
        ids,
        [speaker for speaker, has in zip(speakers, has_audio, strict=True) if has],
        encoder_config,
        PretrainConfig.from_dict(entry["training"]),
        seed,
        folder,
        statistics=statistics,
        start=None if start is None else load_start(start),
        n_threads=n_threads,
    )
    reports = {name: dict(load_clusters(c).report) for name, (c, _) in targets.items()}
    save_pretrained(folder, pretrained, {**entry, "seed": seed, "clusters": reports})
