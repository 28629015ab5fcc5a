"""A HuBERT trained further: from which weights, at which rate, to what end."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from exvo.audio.convert import ConvertConfig
from exvo.audio.store import SAMPLE_RATE, Clip, write_shard
from exvo.corpus.labels import Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import read_predictions
from exvo.hubert.embeddings import EmbeddingConfig, embed_shard
from exvo.hubert.encoder import HubertConfig, build_hubert, frontend_frames, hidden_states
from exvo.hubert.fine_tuned_network import FineTune, FineTunedConfig, FineTunedNetwork
from exvo.predict.recordings import predict_files
from exvo.systems.hubert import train_system
from exvo.systems.load import load_system
from exvo.systems.local_files import LocalFiles
from exvo.training import train as sequence_training

SIZE = HubertConfig(
    frontend="logmel", n_mels=20, d_model=16, n_heads=2, ffn=16, n_layers=2, positional_kernel=8
)
IDS = np.array([f"c{n:02d}" for n in range(36)], dtype=object)
SPLIT = np.array(["Train"] * 24 + ["Val"] * 6 + ["Test"] * 6)


def signals():
    """Bursts of noise in which age is the place of a band: 20 years at 1 kHz, 40 at 3 kHz."""
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 40, len(IDS))
    clips = []
    for years in age:
        t = np.arange(rng.integers(4000, 9000)) / SAMPLE_RATE
        tone = np.sin(2 * np.pi * (1000 + 100 * (years - 20)) * t + rng.uniform(0, 6))
        clips.append((0.2 * tone + 0.02 * rng.standard_normal(len(t))).astype(np.float32))
    return [np.round(clip * 2**15) / np.float32(2**15) for clip in clips], age


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    model = build_hubert(SIZE, seed=1)
    clips, age = signals()
    frames = np.concatenate(list(frontend_frames(model, clips))).reshape(-1, 20)
    model.feature_extractor.set_moments(frames.mean(axis=0), frames.std(axis=0))
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(SIZE)))
    write_shard(folder / "audio.parquet", [Clip(*c) for c in zip(IDS, clips, strict=True)], {}, bits=24)
    feature = asdict(EmbeddingConfig(source="checkpoint", checkpoint=str(folder), device="cpu"))
    shard = folder / "0000.npy", folder / "0000.parquet"
    embed_shard(
        folder / "audio.parquet", *shard, EmbeddingConfig.from_dict({**feature, "layers": "frontend"})
    )
    n = len(IDS)
    labels = Labels(
        IDS, SPLIT, np.full(n, ""), age, np.full(n, -1), np.full((n, 10), np.nan), (Country(0, "Here"),)
    )
    return shard, Corpus(folder, IDS, labels), {**feature, "layers": [0, 2]}, model


def system(feature, *, share=0.5, **training):
    return {
        "stage": "raw",
        "feature": "hubert",
        "encoder": "hubert",
        "tasks": ["age"],
        "training": {
            "fine_tune": {"learning_rate_share": share, "layer_drop": 0.1},
            "max_epochs": 3,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "head": 16,
            "spec_augment": {"time_masks": 1, "channel_masks": 0},
            **training,
        },
        "feature_config": feature,
        "audio": {"convert": asdict(ConvertConfig())},
    }


def encoder_of(trained):
    prefix = "hubert.encoder."
    return {k.removeprefix(prefix): v for k, v in trained.state.items() if k.startswith(prefix)}


def test_the_front_end_and_the_rest_make_the_whole_encoder(data):
    _, _, _, model = data
    clips = signals()[0][:3]
    config = FineTunedConfig(hubert=SIZE, weights="", layers=(0, 2))
    network = FineTunedNetwork(config, 40, 1, 30.0, 5.0, seed=0).eval()
    network.load_encoder(model)
    seen = []
    network.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    frames = [torch.from_numpy(f) for f in frontend_frames(model, clips)]
    lengths = torch.tensor([len(f) for f in frames])
    network(torch.nn.utils.rnn.pad_sequence(frames, batch_first=True), lengths)
    for clip, found, length in zip(hidden_states(model, clips, (0, 2)), seen[0], lengths, strict=True):
        expected = np.concatenate(list(clip), axis=1)
        np.testing.assert_allclose(found[:length].detach(), expected, atol=1e-4)


def test_training_starts_from_the_weights_and_moves_them_at_their_share(data, tmp_path):
    shard, corpus, feature, model = data
    distance = {}
    for share in (0.0, 0.01, 1.0):
        train_system(shard, corpus, system(feature, share=share), 0, tmp_path / f"{share}")
        found = encoder_of(load_system(tmp_path / f"{share}"))
        start = model.encoder.state_dict()
        assert found.keys() == start.keys()
        distance[share] = max(float((found[name] - start[name]).abs().max()) for name in start)
    # AdamW moves a weight by about the learning rate a step.
    assert distance[0.0] == 0
    assert 0 < distance[0.01] < 0.05 * distance[1.0]


def test_fine_tuning_learns_what_the_frozen_layers_do_not_tell(data, tmp_path):
    shard, corpus, feature, _ = data
    scores = {}
    for share in (0.0, 0.5):
        train_system(
            shard,
            corpus,
            system(feature | {"layers": [2]}, share=share, max_epochs=20),
            0,
            tmp_path / f"{share}",
        )
        scores[share] = json.loads((tmp_path / f"{share}/metrics.json").read_text())["val"]["mae"]
    assert scores[0.5] < 0.8 * scores[0.0]


def test_a_broken_training_ends_with_the_bits_of_a_whole_one(data, tmp_path, monkeypatch):
    shard, corpus, feature, _ = data
    train_system(shard, corpus, system(feature), 0, tmp_path / "whole")
    real, calls = sequence_training.validate, iter(range(1))

    def validate(*parts):
        if next(calls, None) is None:
            raise OSError("power cut")
        return real(*parts)

    with monkeypatch.context() as patch:
        patch.setattr(sequence_training, "validate", validate)
        with pytest.raises(OSError, match="power cut"):
            train_system(shard, corpus, system(feature), 0, tmp_path / "broken")
    train_system(shard, corpus, system(feature), 0, tmp_path / "broken")
    whole, broken = (load_system(tmp_path / name) for name in ("whole", "broken"))
    assert whole.history[0]["loss"] == broken.history[0]["loss"]
    assert all(torch.equal(whole.state[name], broken.state[name]) for name in whole.state)


def test_a_recording_is_predicted_as_in_the_workflow(data, tmp_path):
    shard, corpus, feature, _ = data
    train_system(shard, corpus, system(feature), 0, tmp_path / "system")
    test = read_predictions(tmp_path / "system/test.parquet")
    soundfile.write(tmp_path / "last.wav", signals()[0][-1], SAMPLE_RATE, subtype="PCM_16")
    local = LocalFiles(checkpoints=(Path(feature["checkpoint"]),))
    (answer,) = predict_files([tmp_path / "last.wav"], [tmp_path / "system"], local=local)
    np.testing.assert_allclose(answer.age, test.age[-1], rtol=1e-4)
    assert np.isnan(list(answer.emotions.values())).all()


def test_what_does_not_fit_is_refused():
    config = FineTunedConfig(hubert=SIZE, weights="", layers=(3,), fine_tune=FineTune())
    with pytest.raises(ValueError, match="0 to 2"):
        FineTunedNetwork(config, 40, 1, 30.0, 5.0, seed=0)
    config = FineTunedConfig(hubert=SIZE, weights="", layers=(2,))
    with pytest.raises(ValueError, match="the encoder expects 40"):
        FineTunedNetwork(config, 512, 1, 30.0, 5.0, seed=0)
