"""A system with a Conformer on log-mel frames or their modulations by STRFs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exvo.corpus.table import Corpus
from exvo.features.vectors import as_shards
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.systems.train import by_speed, network_configs, train_folder
from exvo.training.frames import FrameStore

# Configs of the networks that a folder can have.
KINDS = (ConformerNetworkConfig,)


def train_system(
    features: Sequence[str | Path],
    corpus: Corpus,
    system: Mapping[str, Any],
    seed: int,
    folder: str | Path,
    *,
    statistics: str | Path | None = None,
    perturbed: Sequence[str | Path] = (),
    n_threads: int = 1,
) -> None:
    """Train one seed and write the folder of the trained system, as `exvo.systems.train.train_folder` does.

    Parameters
    ----------
    features : sequence of path
        Log-mel shards of the stage: frames and their indices.
    corpus, system, seed, folder, n_threads
        As in `exvo.systems.train.train_folder`.
    statistics : path
        File of `exvo.features.logmel.logmel_statistics`.
    perturbed : sequence of path
        Shards of Train at other speeds, for ``speed_perturbation``.
    """
    found = None if statistics is None else json.loads(Path(statistics).read_text(encoding="utf-8"))
    train_folder(
        FrameStore(as_shards(features)),
        corpus,
        system,
        network_configs(system, ConformerNetworkConfig),
        found,
        seed,
        folder,
        perturbed={speed: FrameStore(shards) for speed, shards in by_speed(perturbed).items()},
        n_threads=n_threads,
    )
