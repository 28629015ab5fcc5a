"""From feature shards to a trained organisers' network: which clips are read, and how often they are in memory."""

import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest

from exvo.corpus.labels import Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import read_predictions
from exvo.features.store import FeatureRow, read_statuses, write_utterances
from exvo.systems import mlp as system_mlp
from exvo.training.mlp_training import MlpConfig

N, N_FEATURES, N_SHARDS = 600, 2_000, 6
SPLITS = np.array(["Train", "Val", "Test"], dtype=object)[np.arange(N) % 3]
NO_AUDIO = np.arange(N) % 50 == 0
UNLABELLED = np.arange(N) % 7 == 1


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    names = [f"f{k}" for k in range(N_FEATURES)]
    for shard in range(N_SHARDS):
        rows = [
            FeatureRow(f"{i:03d}", None, "missing", "no file")
            if NO_AUDIO[i]
            else FeatureRow(f"{i:03d}", rng.standard_normal(N_FEATURES).astype(np.float32), "ok", "")
            for i in range(shard, N, N_SHARDS)
        ]
        write_utterances(folder / f"{shard:04d}.parquet", rows, names)
    return sorted(folder.iterdir())


@pytest.fixture
def corpus(tmp_path):
    ids = np.array([f"{i:03d}" for i in range(N)], dtype=object)
    age = np.where(UNLABELLED | (SPLITS == "Test"), np.nan, 20.0 + np.arange(N) % 20)
    labels = Labels(
        clip_id=ids,
        split=SPLITS,
        speaker=np.full(N, "", dtype=object),
        age=age,
        country=np.full(N, -1),
        emotion=np.full((N, 10), np.nan),
        countries=(Country(0, "here"),),
    )
    return Corpus(tmp_path, ids, labels)


def system(**training):
    options = {key: value for key, value in asdict(MlpConfig(**training)).items() if key != "tasks"}
    return {"encoder": "mlp", "tasks": ["age"], "training": options | {"hidden": [8, 8]}}


def test_each_matrix_is_in_memory_once_whatever_clips_lack(shards, corpus, tmp_path, monkeypatch):
    """Clips without audio, and Val without labels, are not read: to leave them out later is to copy the rest."""
    seen = {}

    def train(features, labels, val_features, val_labels, *rest, **options):
        seen["clips"] = [list(labels.clip_id), list(val_labels.clip_id)]
        seen["n_bytes"] = features.nbytes + val_features.nbytes
        seen["held"] = tracemalloc.get_traced_memory()[0] - before
        raise InterruptedError

    monkeypatch.setattr(system_mlp, "train_mlp", train)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    with pytest.raises(InterruptedError):
        system_mlp.train_mlp_system(shards, corpus, system(), 0, tmp_path / "s")
    tracemalloc.stop()
    ids = corpus.labels.clip_id
    assert seen["clips"] == [
        list(ids[(SPLITS == "Train") & ~NO_AUDIO]),
        list(ids[(SPLITS == "Val") & ~NO_AUDIO & ~UNLABELLED]),
    ]
    assert seen["n_bytes"] <= seen["held"] < 1.3 * seen["n_bytes"]


def test_every_clip_of_val_and_test_is_predicted_also_without_audio_or_label(shards, corpus, tmp_path):
    system_mlp.train_mlp_system(shards, corpus, system(max_epochs=1), 0, tmp_path / "s")
    for split in ("Val", "Test"):
        found = read_predictions(tmp_path / "s" / f"{split.lower()}.parquet")
        assert list(found.clip_id) == list(corpus.labels.clip_id[split == SPLITS])
        assert np.isfinite(found.age).all()
        lacking = found.age[NO_AUDIO[split == SPLITS]]
        heard = corpus.labels.age[(SPLITS == "Train") & ~np.isnan(corpus.labels.age) & ~NO_AUDIO]
        np.testing.assert_allclose(lacking, np.median(heard))


def test_statuses_are_read_without_features(shards):
    statuses = read_statuses(shards)
    assert len(statuses) == N
    assert {clip_id for clip_id, word in statuses.items() if word == "missing"} == {
        f"{i:03d}" for i in np.flatnonzero(NO_AUDIO)
    }
