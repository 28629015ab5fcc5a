"""Pre-training from files to files: an encoder from log-mel shards and frame labels."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exvo.features.logmel import logmel_statistics
from exvo.hubert.encoder import HubertConfig
from exvo.pretraining.batches import Targets
from exvo.pretraining.clusters import load_clusters
from exvo.pretraining.loop import PretrainConfig
from exvo.pretraining.pretrain import pretrain
from exvo.pretraining.storage import load_start, save_pretrained
from exvo.training.frames import FrameStore

ShardPaths = Sequence[tuple[str | Path, str | Path]]


def pretrain_encoder(
    inputs: ShardPaths,
    targets: Mapping[str, tuple[str | Path, ShardPaths]],
    clip_ids: Sequence[str],
    speakers: Sequence[str],
    entry: Mapping[str, Any],
    seed: int,
    folder: str | Path,
    *,
    start: str | Path | None = None,
    n_threads: int = 1,
) -> None:
    """Pre-train an encoder and write its folder. An interrupted call resumes from its checkpoint.

    Parameters
    ----------
    inputs : sequence of (frames path, index path)
        Log-mel, or samples for an encoder with convolutions.
    targets : mapping of str to (clusters path, label shards)
    clip_ids, speakers : sequence of str
        Clips of Train and their speakers; clips without audio are skipped.
    entry : mapping
        ``encoder`` and ``training`` of an entry of ``pretrain.models``.
    seed : int
    folder : str or Path
        See `exvo.pretraining.storage`.
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
        # Over the training clips only, because mean and SD are stored with the weights.
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary, "statistics.json")
            logmel_statistics(inputs, set(ids), path)
            statistics = json.loads(path.read_text(encoding="utf-8"))
    clusters = {name: load_clusters(path) for name, (path, _) in targets.items()}
    pretrained = pretrain(
        store,
        {name: Targets(FrameStore(labels), clusters[name].config.k) for name, (_, labels) in targets.items()},
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
    reports = {name: dict(fitted.report) for name, fitted in clusters.items()}
    save_pretrained(folder, pretrained, {**entry, "seed": seed, "clusters": reports})
