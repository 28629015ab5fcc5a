"""Systems on embeddings: the sum over layers, training, storage."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from exvo.corpus.labels import Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import read_predictions
from exvo.features.store import FeatureRow, write_sequences
from exvo.hubert.embeddings import EmbeddingConfig
from exvo.networks.embedding_network import EmbeddingNetwork, EmbeddingNetworkConfig, LayerSum
from exvo.systems.conformer import train_system as train_conformer_system
from exvo.systems.hubert import train_system
from exvo.systems.load import load_system
from exvo.training.frames import FrameStore
from exvo.training.predict import predict_clips

D = 12


def network(**options):
    config = EmbeddingNetworkConfig(n_layers=3, d_attention=8, head=8, **options)
    return EmbeddingNetwork(config, 3 * D, 4, 30.0, 5.0, seed=1).eval()


def test_layers_are_normalised_and_summed_by_softmax():
    layers = torch.tensor([[[1.0, 3.0], [20.0, 10.0]]])
    total = LayerSum(2)
    with torch.no_grad():
        total.weight.copy_(torch.tensor([np.log(3.0), 0.0]))
    # Normalised, the layers are (-1, 1) and (1, -1); the weights are 3/4 and 1/4.
    np.testing.assert_allclose(total(layers).detach(), [[-0.5, 0.5]], atol=1e-4)
    assert list(LayerSum(1).parameters()) == []


@pytest.mark.parametrize("projection", [None, 5])
def test_a_clip_is_predicted_as_by_itself_whatever_follows_it(projection):
    model = network(projection=projection)
    frames = torch.randn(2, 9, 3 * D, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 4])
    frames[1, 4:] = torch.nan
    together = model(frames, lengths)
    sum(value.sum() for value in together.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    alone = model(frames[1:, :4], lengths[1:])
    for task, value in together.items():
        np.testing.assert_allclose(value[1].detach(), alone[task][0].detach(), atol=1e-5)
    assert together["country"].shape == (2, 4)


def test_frames_that_do_not_hold_the_layers_are_refused():
    with pytest.raises(ValueError, match="do not hold 3 layers"):
        EmbeddingNetwork(EmbeddingNetworkConfig(n_layers=3), 20, 4, 30.0, 5.0, seed=1)


def write_corpus(folder, n=60):
    """Age shows in the first of two layers alone, at a low level; the second is loud and says nothing."""
    rng = np.random.default_rng(0)
    age, pattern = rng.uniform(20, 39, n), rng.standard_normal(D)
    ids = np.array([f"c{clip:03d}" for clip in range(n)], dtype=object)
    rows = []
    for clip, clip_id in enumerate(ids):
        length = rng.integers(5, 30)
        told = (age[clip] - 29.5) / 5 * pattern + 0.3 * rng.standard_normal((length, D))
        frames = np.concatenate([0.01 * told, 9 * rng.standard_normal((length, D))], axis=1)
        rows.append(
            FeatureRow(clip_id, None if clip == 50 else frames, "missing" if clip == 50 else "ok", "")
        )
    shard = folder / "0000.npy", folder / "0000.parquet"
    write_sequences(*shard, rows, 2 * D, "float16")
    split = np.array(["Train"] * 40 + ["Val"] * 10 + ["Test"] * 10)
    countries = (Country(0, "Here"), Country(3, "There"))
    labels = Labels(ids, split, np.full(n, ""), age, rng.integers(0, 2, n), rng.random((n, 10)), countries)
    return [shard], labels


def test_a_system_trains_on_embeddings_and_predicts_every_clip(tmp_path):
    shards, labels = write_corpus(tmp_path)
    training = {"max_epochs": 30, "batch_size": 8, "learning_rate": 1e-2, "head": 16, "projection": 8}
    training |= {"spec_augment": {"time_masks": 1, "max_channels": 2}}
    system = {"encoder": "hubert", "feature": "hubert", "tasks": ["age"], "training": training}
    # Of the encoder that the embeddings are of, only its digest is read.
    (tmp_path / "encoder.pt").write_bytes(b"weights")
    feature = EmbeddingConfig(source="checkpoint", checkpoint=str(tmp_path / "encoder.pt"), layers=(0, 4))
    system |= {"feature_config": asdict(feature)}
    train_system(shards[0], Corpus(tmp_path, labels.clip_id, labels), system, 0, tmp_path / "s")
    scores = json.loads((tmp_path / "s/metrics.json").read_text())["val"]
    val = labels.take(labels.split == "Val")
    assert scores["mae"] < 0.5 * np.abs(val.age - labels.age[:40].mean()).mean()
    trained = load_system(tmp_path / "s")
    assert trained.network_config.n_layers == 2
    weights = torch.softmax(trained.state["layers.weight"], dim=0)
    assert weights[0] > 0.51, "the layer that tells age should have gained"
    test = read_predictions(tmp_path / "s/test.parquet")
    store = FrameStore(shards)
    again = predict_clips(trained, store, labels.clip_id[labels.split == "Test"])
    np.testing.assert_array_equal(test.age, again.age)
    assert test.age[0] == trained.priors["age"]
    with pytest.raises(ValueError, match="encoder hubert has no key blocks"):
        train_system(shards[0], None, {**system, "training": {"blocks": {}}}, 0, tmp_path / "s")


def test_a_network_on_logmel_needs_its_statistics(tmp_path):
    shards, labels = write_corpus(tmp_path)
    system = {"encoder": "conformer", "tasks": ["age"], "training": {}}
    with pytest.raises(ValueError, match="mean and std"):
        train_conformer_system(shards[0], Corpus(tmp_path, labels.clip_id, labels), system, 0, tmp_path / "s")
