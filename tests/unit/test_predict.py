"""Prediction of single recordings: as in the workflow, wherever the model is, and nothing that a model names is run."""

import json
import os
import shlex
from dataclasses import asdict
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from safetensors.torch import save_file
from typer.testing import CliRunner

from exvo.audio.convert import ConvertConfig
from exvo.audio.store import SAMPLE_RATE, Clip, write_shard
from exvo.cli import app
from exvo.corpus.labels import Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import read_predictions
from exvo.features.logmel import LogmelConfig, logmel_shard
from exvo.hubert.embeddings import EmbeddingConfig, embed_shard
from exvo.hubert.encoder import HubertConfig, build_hubert
from exvo.hubert.weights import exact_source
from exvo.predict.recordings import predict_files
from exvo.systems import hubert, mlp
from exvo.systems.local_files import LocalFiles

SIZE = HubertConfig(frontend="logmel", d_model=16, n_heads=2, ffn=16, n_layers=2, positional_kernel=8)
MODEL = Path("results/models/system/0")
OUTSIDE = "bob/encoder"


def write_encoder(folder, seed):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(build_hubert(SIZE, seed=seed).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(SIZE)))


def train(root, checkpoint, feature="hubert", encoder=hubert):
    """Train a system in the working folder ``alice/run`` of a root, on an encoder under the root."""
    home = root / "alice/run"
    home.mkdir(parents=True)
    write_encoder(root / checkpoint, seed=1)
    settings = asdict(EmbeddingConfig(source="checkpoint", checkpoint=str(root / checkpoint), device="cpu"))
    settings = exact_source(settings | {"layers": [0, 2]}) if feature == "hubert" else asdict(LogmelConfig())
    rng = np.random.default_rng(0)
    signals = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (9000, 20000, 300)]
    signals = [np.round(signal * 2**15) / np.float32(2**15) for signal in signals]
    ids = np.array(["a", "b", "c"], dtype=object)
    write_shard(home / "audio.parquet", [Clip(*c) for c in zip(ids, signals, strict=True)], {}, bits=24)
    shard = home / "0000.npy", home / "0000.parquet"
    if feature == "hubert":
        embed_shard(home / "audio.parquet", *shard, EmbeddingConfig.from_dict(settings))
    else:
        logmel_shard(home / "audio.parquet", *shard, LogmelConfig(**settings))
    labels = Labels(
        ids,
        np.array(["Train", "Val", "Test"]),
        np.full(3, ""),
        np.array([20.0, 30.0, 40.0]),
        np.array([0, 1, 1]),
        rng.random((3, 10)),
        (Country(0, "Here"), Country(3, "There")),
    )
    system = {
        "stage": "raw",
        "feature": feature,
        "encoder": encoder.__name__.split(".")[-1],
        "tasks": ["emotion", "age", "country"],
        "training": {"max_epochs": 1},
        "feature_config": settings,
        "audio": {"convert": asdict(ConvertConfig(ffmpeg=str(root / "alice/tools/ffmpeg")))},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        encoder.train_system(shard, Corpus(home, ids, labels), system, 0, MODEL)
    for name, signal in zip(ids, signals, strict=True):
        soundfile.write(home / f"{name}.wav", signal, SAMPLE_RATE, subtype="PCM_16")
    return home


@pytest.fixture
def inside(tmp_path):
    return train(tmp_path, "alice/run/encoder")


@pytest.fixture
def outside(tmp_path):
    return train(tmp_path, OUTSIDE)


BUNDLED = LocalFiles(ffmpeg="bundled")


def program(path, marker, then=""):
    """Write a program that leaves a mark when it is started."""
    path.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(marker))}\n{then}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("feature", "encoder"), [("hubert", mlp), ("logmel", mlp), ("logmel", hubert)])
def test_an_encoder_on_a_feature_of_another_kind_predicts_as_in_the_workflow(tmp_path, feature, encoder):
    home = train(tmp_path, "alice/run/encoder", feature, encoder)
    val, test = (read_predictions(home / MODEL / f"{split}.parquet") for split in ("val", "test"))
    found = predict_files([home / "b.wav", home / "c.wav"], [home / MODEL], local=BUNDLED)
    for prediction, expected in zip(found, (val, test), strict=True):
        np.testing.assert_allclose(prediction.age, expected.age[0], rtol=1e-4)
        np.testing.assert_allclose(list(prediction.emotions.values()), expected.emotion[0], rtol=1e-3)


def test_a_recording_is_predicted_as_in_the_workflow(inside, tmp_path):
    folder = inside / MODEL
    val, test = (read_predictions(folder / f"{split}.parquet") for split in ("val", "test"))
    found = predict_files([inside / "b.wav", inside / "c.wav"], [folder], local=BUNDLED)
    for prediction, expected in zip(found, (val, test), strict=True):
        np.testing.assert_allclose(prediction.age, expected.age[0], rtol=1e-4)
        np.testing.assert_allclose(list(prediction.emotions.values()), expected.emotion[0], rtol=1e-3)
    # Paths are kept from the folder on: they say nothing of where it is, and move with it.
    assert not {"alice", tmp_path.name, "tools"} & set((folder / "config.json").read_text().split("/"))
    moved = inside.rename(tmp_path / "moved")
    assert predict_files([moved / "b.wav"], [moved / MODEL], local=BUNDLED)[0].age == found[0].age
    # Other weights under the same name are not taken.
    write_encoder(moved / "encoder", seed=2)
    with pytest.raises(ValueError, match="SHA-256"):
        predict_files([moved / "b.wav"], [moved / MODEL], local=BUNDLED)


def test_weights_from_another_root_are_named_by_the_user_and_checked(outside, tmp_path):
    text = (outside / MODEL / "config.json").read_text()
    assert "bob" not in text and "alice" not in text and '"checkpoint": "encoder"' in text
    command = ["predict", str(outside / "b.wav"), "--model", str(outside / MODEL), "--ffmpeg", "bundled"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 1 and "with --checkpoint PATH" in run.output
    write_encoder(tmp_path / "wrong", seed=2)
    wrong = CliRunner().invoke(app, [*command, "--checkpoint", str(tmp_path / "wrong")])
    assert wrong.exit_code == 1 and "which are not found" in wrong.output
    right = CliRunner().invoke(
        app, [*command, "--checkpoint", str(tmp_path / "wrong"), "--checkpoint", str(tmp_path / OUTSIDE)]
    )
    assert right.exit_code == 0, right.output
    expected = read_predictions(outside / MODEL / "val.parquet")
    assert f"age      {expected.age[0]:.1f}" in right.output


@pytest.mark.parametrize("named", ["{folder}/ffmpeg", "ffmpeg", "./ffmpeg", "../../../../tools/ffmpeg"])
def test_a_program_in_the_folder_of_a_model_is_not_started(inside, tmp_path, named, monkeypatch):
    folder, marker = inside / MODEL, tmp_path / "started"
    (inside / "tools").mkdir()
    for place in (folder, inside / "tools"):
        program(place / "ffmpeg", marker)
    config = json.loads((folder / "config.json").read_text())
    config["system"]["audio"]["convert"]["ffmpeg"] = named.format(folder=folder)
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ValueError, match="no program is started because a model names it"):
        predict_files([inside / "b.wav"], [folder])
    (prediction,) = predict_files([inside / "b.wav"], [folder], local=BUNDLED)
    assert prediction.status == "ok" and not marker.exists()


def test_the_program_that_the_user_names_is_started(inside, tmp_path):
    marker = tmp_path / "started"
    mine = program(tmp_path / "mine", marker, f'exec {shlex.quote(imageio_ffmpeg.get_ffmpeg_exe())} "$@"')
    (prediction,) = predict_files([inside / "b.wav"], [inside / MODEL], local=LocalFiles(ffmpeg=str(mine)))
    assert prediction.status == "ok" and marker.exists()
