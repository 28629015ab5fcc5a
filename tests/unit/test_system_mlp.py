"""From feature shards to a trained organisers' network: which clips are read, and how often they are in memory."""

import hashlib
import runpy
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from exvo.corpus.labels import Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import read_predictions
from exvo.features.store import FeatureRow, read_sequences, read_statuses, write_sequences, write_utterances
from exvo.features.vectors import as_shards
from exvo.systems import mlp as system_mlp
from exvo.systems import train as system_training
from exvo.systems.load import load_system
from exvo.training import vectors
from exvo.training.vectors import VectorStore

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
    options = {"hidden": [8, 8], "optimizer": "adam", "schedule": "constant", "batch_size": 8, **training}
    return {"encoder": "mlp", "tasks": ["age"], "training": options}


def test_each_vector_is_in_memory_once_whatever_clips_lack(shards, corpus, tmp_path, monkeypatch):
    """Clips without audio, and Val without labels, are not read: to leave them out later is to copy the rest."""
    seen = {}

    def train(store, train, val, *rest, **options):
        seen["clips"] = [list(train.clip_id), list(val.clip_id)]
        seen["n_bytes"] = store.values.nbytes
        seen["held"] = tracemalloc.get_traced_memory()[0] - before
        raise InterruptedError

    monkeypatch.setattr(system_training, "train_network", train)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    with pytest.raises(InterruptedError):
        system_mlp.train_system(shards, corpus, system(), 0, tmp_path / "s")
    tracemalloc.stop()
    ids = corpus.labels.clip_id
    assert seen["clips"] == [
        list(ids[(SPLITS == "Train") & ~NO_AUDIO]),
        list(ids[(SPLITS == "Val") & ~NO_AUDIO & ~UNLABELLED]),
    ]
    assert seen["n_bytes"] <= seen["held"] < 1.3 * seen["n_bytes"]


def test_every_clip_of_val_and_test_is_predicted_also_without_audio_or_label(shards, corpus, tmp_path):
    system_mlp.train_system(shards, corpus, system(max_epochs=1), 0, tmp_path / "s")
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


def test_frames_are_read_as_their_mean_and_sd(corpus, tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for shard in range(2):
        rows = [
            FeatureRow(f"{i:03d}", None, "missing", "no file")
            if NO_AUDIO[i]
            else FeatureRow(f"{i:03d}", rng.standard_normal((rng.integers(1, 9), 3)), "ok", "")
            for i in range(shard, N, 2)
        ]
        paths += [tmp_path / f"{shard:04d}.npy", tmp_path / f"{shard:04d}.parquet"]
        write_sequences(*paths[-2:], rows, 3, "float32")
    system_mlp.train_system(paths, corpus, system(max_epochs=1), 0, tmp_path / "s")
    trained = load_system(tmp_path / "s")
    assert trained.n_channels == 6 and trained.features_digest is None
    assert np.isfinite(read_predictions(tmp_path / "s/test.parquet").age).all()
    store = VectorStore(as_shards(paths), ["001", "050"])
    frames = np.load(paths[2])
    first = read_sequences(*paths[2:])[1].to_pylist()[0]
    of_first = frames[first["start"] : first["start"] + first["n_frames"]].astype(float)
    np.testing.assert_allclose(store.values[0], [*of_first.mean(axis=0), *of_first.std(axis=0)], rtol=1e-6)
    assert store.has_audio(["001", "050"]).tolist() == [True, False]


def test_a_vector_that_is_not_finite_is_refused_by_clip_and_column(shards, monkeypatch):
    real = vectors.read_utterances

    def bad(*where):
        (found,) = real(*where)
        found.values[3, 17] = np.inf
        return [found]

    monkeypatch.setattr(vectors, "read_utterances", bad)
    with pytest.raises(ValueError, match="inf in column 17 of clip 004"):
        VectorStore([(path,) for path in shards], ["001", "002", "003", "004"])


def test_a_shard_and_a_split_without_audio_or_clips_are_predicted(corpus, tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for shard, (first, last) in enumerate([(0, 50), (50, N)]):
        # The first shard has no audio of Val and Test.
        rows = [
            FeatureRow(f"{i:03d}", None, "missing", "no file")
            if shard == 0 and SPLITS[i] != "Train"
            else FeatureRow(f"{i:03d}", rng.standard_normal((4, 3)), "ok", "")
            for i in range(first, last)
        ]
        paths += [tmp_path / f"{shard:04d}.npy", tmp_path / f"{shard:04d}.parquet"]
        write_sequences(*paths[-2:], rows, 3, "float16")
    system_mlp.train_system(paths, corpus, system(max_epochs=1), 0, tmp_path / "s")
    assert np.isfinite(read_predictions(tmp_path / "s/val.parquet").age).all()
    train = replace(corpus, labels=replace(corpus.labels, split=np.full(N, "Train", dtype=object)))
    system_mlp.train_system(paths, train, system(max_epochs=1), 0, tmp_path / "t")
    assert len(read_predictions(tmp_path / "t/val.parquet").age) == 0


def test_a_job_keeps_the_sha256_of_the_weights_for_every_encoder(corpus, tmp_path, monkeypatch):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    kept = {}
    monkeypatch.setattr("exvo.corpus.table.read_corpus", lambda *_: corpus)
    monkeypatch.setattr(
        system_mlp, "train_system", lambda _features, _corpus, system, *_, **__: kept.update(system)
    )
    options = {"source": "checkpoint", "checkpoint": str(weights), "sha256": None, "bundle": "HUBERT_BASE"}
    job = SimpleNamespace(
        input=SimpleNamespace(features=[], table=str(tmp_path / "table.csv"), statistics=[], perturbed=[]),
        output=SimpleNamespace(model=str(tmp_path / "0/model.safetensors")),
        params=SimpleNamespace(
            config={**system(), "feature": "hubert-base", "feature_config": options},
            module="exvo.systems.mlp",
            labels={"limit": None},
        ),
        wildcards=SimpleNamespace(seed="0"),
        threads=1,
    )
    script = Path(__file__).parents[2] / "workflow/scripts/train_system.py"
    runpy.run_path(str(script))["main"](job)
    assert kept["feature_config"] == options | {"sha256": hashlib.sha256(b"weights").hexdigest()}
