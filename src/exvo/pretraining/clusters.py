"""Clusters of frames, the targets of masked prediction: k-means on Train, and one label for each 20 ms frame.

Source: Hsu et al., "HuBERT", IEEE/ACM TASLP 2021, section IV.B: mini-batch k-means on MFCCs in the first iteration, and
on a hidden layer of the previous model in later ones. The input is that of `exvo.pretraining.cluster_inputs`.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from exvo.corpus.shards import stable_hash
from exvo.features.store import FeatureRow, write_sequences
from exvo.pretraining.cluster_inputs import ClusterInputs
from exvo.util.atomic import atomic_path, write_text
from exvo.util.settings import Bounds

logger = logging.getLogger(__name__)

# Frames per step of mini-batch k-means, and initialisations of which the best is kept.
_BATCH = 10_000
_INITIALISATIONS = 5
# A dimension with a smaller SD is constant and is not scaled.
_LEAST_SD = 1e-6


@dataclass(frozen=True)
class ClusterConfig:
    """Settings of a clustering.

    Attributes
    ----------
    k : int
        Number of clusters.
    n_frames : int
        Number of frames of 20 ms that the clusters are fitted to, from clips drawn at random.
    standardise : bool
        Whether each dimension is divided by its SD first, so that distances do not follow the few dimensions of a
        teacher that vary most.
    """

    k: Annotated[int, Bounds(at_least=2, at_most=32767)] = 100
    n_frames: Annotated[int, Bounds(at_least=2)] = 200_000
    standardise: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.k <= np.iinfo(np.int16).max:
            raise ValueError(f"clusters.k: {self.k} is not between 2 and {np.iinfo(np.int16).max}")


@dataclass(frozen=True)
class Clusters:
    """Fitted clusters.

    Attributes
    ----------
    centroids : np.ndarray [shape=(k, n_dimensions), float32]
        Centroids of standardised frames.
    mean, scale : np.ndarray [shape=(n_dimensions,), float32]
        Mean and scale for the standardisation of frames; the scale is 1 unless the config requests it.
    config : ClusterConfig
    seed : int
    report : dict
        ``n_clips``, ``n_frames`` (of the fit), ``inertia`` (mean squared distance to the nearest centroid),
        ``explained`` (share of the variance between clusters), ``perplexity`` (of the cluster frequencies, at most k)
        and ``unused`` (number of clusters without a frame).
    """

    centroids: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    config: ClusterConfig
    seed: int
    report: Mapping[str, float]

    def labels(self, frames: np.ndarray) -> np.ndarray:
        """Return the nearest centroid of each frame.

        Parameters
        ----------
        frames : np.ndarray [shape=(n_frames, n_dimensions)]

        Returns
        -------
        np.ndarray [shape=(n_frames,), int16]
        """
        if frames.ndim != 2 or frames.shape[1] != len(self.mean):
            raise ValueError(
                f"frames: shape {frames.shape}, but the clusters have {len(self.mean)} dimensions"
            )
        return nearest((np.asarray(frames, np.float32) - self.mean) / self.scale, self.centroids)[0]


def nearest(values: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centroid of each vector, and the squared distance to it.

    Parameters
    ----------
    values : np.ndarray [shape=(n, n_dimensions), float32]
        Close to zero mean, because squares are computed in float32.
    centroids : np.ndarray [shape=(k, n_dimensions), float32]

    Returns
    -------
    labels : np.ndarray [shape=(n,), int16]
    distances : np.ndarray [shape=(n,), float32]
    """
    partial = np.square(centroids).sum(axis=1) - 2 * (values @ centroids.T)
    labels = partial.argmin(axis=1)
    distances = partial[np.arange(len(values)), labels] + np.square(values).sum(axis=1)
    return labels.astype(np.int16), np.maximum(distances, 0)


def fit_clusters(
    inputs: ClusterInputs,
    clip_ids: Sequence[str],
    config: ClusterConfig,
    seed: int,
    *,
    n_threads: int = 1,
) -> Clusters:
    """Fit k-means to the frames of randomly drawn clips.

    Parameters
    ----------
    inputs : ClusterInputs
    clip_ids : sequence of str
        Clips of Train. The selection depends on the seed and the ids, not on their order.
    config : ClusterConfig
    seed : int
    n_threads : int

    Raises
    ------
    ValueError
        Where there are fewer frames than clusters, or a frame is not finite.
    """
    drawn = sorted(clip_ids, key=lambda clip_id: (stable_hash(f"{seed} {clip_id}"), clip_id))
    parts: list[np.ndarray] = []
    n_frames = n_clips = 0
    for _, frames in inputs.frames(drawn):
        parts.append(frames)
        n_frames, n_clips = n_frames + len(frames), n_clips + 1
        if n_frames >= config.n_frames:
            break
    if n_frames < config.k:
        raise ValueError(
            f"clusters: {n_frames} frames in {n_clips} clips are fewer than k, which is {config.k}; reduce k"
        )
    values = np.concatenate(parts)[: config.n_frames]
    if not np.isfinite(values).all():
        raise ValueError("clusters: a frame is not finite; compute the features again")
    # Subtracting the mean does not change distances, and they are accurate in float32 near zero.
    mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    values -= mean
    scale = np.ones_like(mean)
    if config.standardise:
        sd = np.sqrt(np.square(values).mean(axis=0, dtype=np.float64)).astype(np.float32)
        scale = np.where(sd > _LEAST_SD, sd, scale)
        values /= scale
    kmeans = MiniBatchKMeans(
        config.k,
        init="k-means++",
        batch_size=_BATCH,
        n_init=_INITIALISATIONS,
        max_iter=100,
        max_no_improvement=100,
        # Clusters with few frames are kept, because rare sounds are valid targets.
        reassignment_ratio=0.0,
        random_state=seed,
    )
    with threadpool_limits(n_threads):
        kmeans.fit(values)
    centroids = kmeans.cluster_centers_.astype(np.float32)
    counts, inertia = np.zeros(config.k, np.int64), 0.0
    for start in range(0, len(values), _BATCH):
        labels, distances = nearest(values[start : start + _BATCH], centroids)
        counts += np.bincount(labels, minlength=config.k)
        inertia += float(distances.sum(dtype=np.float64))
    report = {
        "n_clips": n_clips,
        "n_frames": len(values),
        "inertia": inertia / len(values),
        "explained": 1 - inertia / max(float(np.square(values).sum(dtype=np.float64)), 1e-12),
        **usage(counts),
    }
    logger.info("clusters: %s", report)
    return Clusters(centroids, mean, scale, config, seed, report)


def usage(counts: np.ndarray) -> dict[str, float]:
    """Return the ``perplexity`` (exponential of the entropy) of cluster frequencies, and the ``unused`` clusters."""
    share = counts[counts > 0] / counts.sum()
    return {
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
        "unused": int((counts == 0).sum()),
    }


def label_shard(
    clusters: Clusters,
    inputs: ClusterInputs,
    clip_ids: Iterable[str],
    labels_path: str | Path,
    index_path: str | Path,
) -> None:
    """Write the labels of clips as a sequence shard: one int16 column with one row per 20 ms.

    Parameters
    ----------
    clusters : Clusters
    inputs : ClusterInputs
        The same kind as for fitting the clusters.
    clip_ids : iterable of str
        Clips with audio; other clips have no row in the shard.
    labels_path, index_path : str or Path
    """
    counts = np.zeros(clusters.config.k, dtype=np.int64)
    rows = []
    for clip_id, frames in inputs.frames(clip_ids):
        labels = clusters.labels(frames)
        counts += np.bincount(labels, minlength=len(counts))
        rows.append(FeatureRow(clip_id, labels[:, np.newaxis], "ok", ""))
    write_sequences(labels_path, index_path, rows, 1, "int16")
    if counts.any():
        logger.info("%d clips, %d frames: %s", len(rows), counts.sum(), usage(counts))


def save_clusters(path: str | Path, clusters: Clusters) -> None:
    """Write clusters as ``.safetensors``, and their config and report with the ending ``.json``."""
    arrays = {name: np.ascontiguousarray(getattr(clusters, name)) for name in ("centroids", "mean", "scale")}
    record = {"config": asdict(clusters.config), "seed": clusters.seed, "report": dict(clusters.report)}
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"clusters": json.dumps(record, sort_keys=True)})
    write_text(Path(path).with_suffix(".json"), json.dumps(record, indent=1) + "\n")


def load_clusters(path: str | Path) -> Clusters:
    """Read a file of `save_clusters`."""
    with safe_open(path, framework="np") as file:
        record = json.loads(file.metadata()["clusters"])
        arrays = {name: file.get_tensor(name) for name in ("centroids", "mean", "scale")}
    return Clusters(
        **arrays, config=ClusterConfig(**record["config"]), seed=record["seed"], report=record["report"]
    )
