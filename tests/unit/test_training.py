"""Training of sequence networks: what it learns, which epoch it keeps, what an interruption does to it."""

import json
import logging
import os
import pickle
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from exvo.corpus.labels import EMOTIONS, Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.metrics import mae, mean_ccc, predicted_class, uar
from exvo.evaluation.predictions import read_predictions
from exvo.features.logmel import logmel_statistics
from exvo.features.store import FeatureRow, write_sequences
from exvo.networks.conformer import ConformerConfig
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.networks.losses import LossWeights
from exvo.systems.conformer import train_system
from exvo.systems.train import network_configs
from exvo.training import learner as training_learner
from exvo.training import train as training_train
from exvo.training.batches import SpecAugment
from exvo.training.checkpoint import CHECKPOINT
from exvo.training.frames import FrameStore
from exvo.training.learner import learning_rate
from exvo.training.loop import Loop
from exvo.training.loss_weights import choose_loss_weights
from exvo.training.outputs import without_labels
from exvo.training.predict import predict_arrays
from exvo.training.priors import priors
from exvo.training.storage import load_trained, save_trained
from exvo.training.train import train_network
from exvo.training.trained import LossGrid, TrainingConfig

N_MELS = 16
TINY = ConformerNetworkConfig(
    blocks=ConformerConfig(
        d_model=16, n_heads=2, ffn=32, n_blocks=1, kernel=7, dropout=0.1, subsampling_channels=4
    ),
    d_attention=16,
    head=16,
)
QUICK = TrainingConfig(
    batch_size=8, max_epochs=4, learning_rate=3e-3, spec_augment=SpecAugment(max_channels=2), crop_frames=60
)


def write_corpus(folder, n, missing=()):
    """Clips in which every task shows in the spectrum; labels are partly unknown, as they are in life."""
    rng = np.random.default_rng(0)
    patterns = np.random.default_rng(99).standard_normal((5, N_MELS))
    age, country = rng.uniform(20, 39, n), rng.integers(0, 3, n)
    valence = rng.random((n, 1))
    emotion = np.where(np.arange(10) % 2, valence, 1 - valence)
    level = np.concatenate([valence * 4 - 2, (age[:, None] - 29.5) / 5, np.eye(3)[country]], axis=1)
    rows = []
    for clip in range(n):
        frames = level[clip] @ patterns + 0.3 * rng.standard_normal((rng.integers(20, 80), N_MELS)) - 8
        gone = clip in missing
        rows.append(FeatureRow(f"c{clip:03d}", None if gone else frames, "missing" if gone else "ok", ""))
    folder.mkdir(parents=True, exist_ok=True)
    shards = [(folder / f"{shard}.npy", folder / f"{shard}.parquet") for shard in range(2)]
    for shard, paths in enumerate(shards):
        write_sequences(*paths, rows[shard::2], N_MELS, "float16")
    age[::4], country[1::4], emotion[2::4], emotion[:, 5] = np.nan, -1, np.nan, np.nan
    split = np.array(["Train"] * (n // 2) + ["Val"] * (n // 4) + ["Test"] * (n - n // 2 - n // 4))
    ids = np.array([f"c{clip:03d}" for clip in range(n)], dtype=object)
    countries = tuple(Country(7 * i, f"Country {i}") for i in range(3))
    labels = Labels(ids, split, np.full(n, ""), age, country, emotion, countries)
    logmel_statistics(shards, set(ids[: n // 2]), folder / "statistics.json")
    return shards, labels, folder / "statistics.json"


def arguments(folder, n=48):
    shards, labels, statistics = write_corpus(folder, n)
    train, val = (labels.take(labels.split == split) for split in ("Train", "Val"))
    return {
        "store": FrameStore(shards),
        "labels_train": train,
        "labels_val": val,
        "network_config": TINY,
        "training_config": QUICK,
        "statistics": json.loads(statistics.read_text()),
        "seed": 3,
    }


def same(first, second):
    assert first.state.keys() == second.state.keys()
    return all(torch.equal(first.state[name], second.state[name]) for name in first.state)


def losses(trained):
    return [{k: v for k, v in r.items() if "seconds" not in k} for r in trained.history]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return arguments(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def trained(data, folder):
    return train_network(**data, folder=folder)


def interrupted(data, folder, monkeypatch, after, **options):
    """Train until an error ends it in the epoch after some."""
    real, calls = training_learner.validate, iter(range(after))

    def validate(*parts):
        if next(calls, None) is None:
            raise OSError("power cut")
        return real(*parts)

    with monkeypatch.context() as patch:
        patch.setattr(training_learner, "validate", validate)
        with pytest.raises(OSError, match="power cut"):
            train_network(**data, folder=folder, **options)


def test_learns_a_planted_relation_far_better_than_the_mean(tmp_path):
    data = arguments(tmp_path / "corpus", 400)
    config = TrainingConfig(batch_size=16, max_epochs=12, learning_rate=1e-2)
    trained = train_network(**data | {"training_config": config}, folder=tmp_path)
    val = data["labels_val"]
    emotion, age, country = predict_arrays(trained, data["store"], val.clip_id)
    assert mean_ccc(val.emotion, emotion)[1] > 0.5  # a constant has 0
    assert uar(val.country, predicted_class(country)) > 0.8  # a constant has 1/3
    assert mae(val.age, age) < 0.7 * mae(val.age, np.full(len(val), np.nanmean(data["labels_train"].age)))
    np.testing.assert_allclose(country.sum(axis=1), 1)
    assert (emotion[:, EMOTIONS.index("Horror")] == 0).all() and trained.untrained == ("Horror",)
    best = trained.history[trained.best_epoch - 1]
    assert best["val_ccc"] == pytest.approx(mean_ccc(val.emotion, emotion)[1], rel=1e-5)
    assert best["val_mae"] == pytest.approx(mae(val.age, age), rel=1e-5)


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(data, trained, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = train_network(**data, folder=tmp_path / "a")
    assert same(trained, again) and losses(trained) == losses(again)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(trained, train_network(**data | {"seed": 4}, folder=tmp_path / "b"))


@pytest.mark.parametrize("after", [1, 3])
def test_resumed_training_ends_with_the_bits_of_an_unbroken_one(data, trained, tmp_path, monkeypatch, after):
    interrupted(data, tmp_path, monkeypatch, after)
    resumed = train_network(**data, folder=tmp_path)
    assert same(trained, resumed) and losses(trained) == losses(resumed)
    assert resumed.best_epoch == trained.best_epoch
    assert len((tmp_path / "logs/metrics.csv").read_text().splitlines()) == 1 + len(trained.history)
    shown = EventAccumulator(str(tmp_path / "logs/tensorboard")).Reload().Scalars("val_loss")
    assert [event.value for event in shown] == pytest.approx([r["val_loss"] for r in trained.history])
    assert len(list((tmp_path / "logs/tensorboard").iterdir())) == 2  # it went on, and did not start anew


def test_kernels_and_versions_of_clips_resume_too(data, tmp_path, monkeypatch):
    strf = replace(TINY, frontend="strf", strf=replace(TINY.strf, n_kernels=3))
    data = data | {"network_config": strf, "training_config": replace(QUICK, speed_perturbation=True)}
    fast = {1.1: FrameStore(write_corpus(tmp_path / "fast", 24)[0])}
    whole = train_network(**data, folder=tmp_path / "whole", perturbed=fast)
    interrupted(data, tmp_path / "cut", monkeypatch, 2, perturbed=fast)
    resumed = train_network(**data, folder=tmp_path / "cut", perturbed=fast)
    assert same(whole, resumed)
    np.testing.assert_equal(losses(whole), losses(resumed))  # a NaN equals a NaN
    assert len(list((tmp_path / "cut/logs/tensorboard").iterdir())) == 2
    # Before training, and after each of four epochs, two of them before the interruption.
    for name, values in whole.strf_history.items():
        assert values.shape == (5, 3)
        np.testing.assert_array_equal(values, resumed.strf_history[name])


def test_learned_loss_weights_resume_too(data, tmp_path, monkeypatch):
    config = replace(QUICK, combination="uncertainty", emotion_loss="ccc")
    data = data | {"training_config": config}
    whole = train_network(**data, folder=tmp_path / "whole")
    interrupted(data, tmp_path / "cut", monkeypatch, 2)
    resumed = train_network(**data, folder=tmp_path / "cut")
    assert same(whole, resumed) and losses(whole) == losses(resumed)
    assert whole.history[0]["s_age"] != whole.history[-1]["s_age"]


def test_killed_process_resumes_to_the_same_bits(data, trained, tmp_path):
    child = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_training import FrameStore, arguments, train_network
from exvo.training.loop import Loop

step = Loop._take_step
def dies_in_the_third_epoch(loop, batches):
    if (loop.epoch, loop.place) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(loop, batches)

Loop._take_step = dies_in_the_third_epoch
store = FrameStore({[tuple(map(str, paths)) for paths in data["store"].shards]!r})
train_network(**arguments(Path({str(tmp_path / "corpus")!r})) | {{"store": store}}, folder={str(tmp_path)!r})
"""
    process = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    record = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert len(record["state"]["learner"]["history"]) == 2
    resumed = train_network(**data, folder=tmp_path)
    assert len(list((tmp_path / "logs/tensorboard").iterdir())) == 2  # it went on, and did not start anew
    assert same(trained, resumed) and losses(trained) == losses(resumed)


def test_finished_training_is_not_trained_again(data, trained, folder, monkeypatch):
    monkeypatch.setattr(Loop, "_take_step", None)
    again = train_network(**data, folder=folder)
    assert same(trained, again) and again.history == trained.history


@pytest.mark.parametrize(
    "what", ["damaged", "foreign", "of another training", "of other frames", "not wanted"]
)
def test_checkpoint_that_does_not_fit_is_left_alone(data, trained, tmp_path, monkeypatch, caplog, what):
    data = data | {"store": FrameStore(write_corpus(tmp_path / "corpus", 48)[0])}
    interrupted(data, tmp_path, monkeypatch, 2)
    path = tmp_path / CHECKPOINT
    if what == "damaged":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "foreign":
        path.write_bytes(pickle.dumps(Evil(tmp_path / "executed")))
    elif what == "of another training":
        other = data | {"training_config": replace(QUICK, weight_decay=0.5)}
        interrupted(other, tmp_path, monkeypatch, 2)
    elif what == "of other frames":
        os.utime(data["store"].shards[0][0], ns=(1, 1))
    with caplog.at_level(logging.INFO, logger="exvo"):
        again = train_network(**data, folder=tmp_path, resume=what != "not wanted")
    assert same(trained, again)
    assert len(again.history) == len(trained.history)
    assert ("training starts anew" in caplog.text) == (what != "not wanted")
    assert not (tmp_path / "executed").exists()
    assert "resumes after" not in caplog.text


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_checkpoint_holds_tensors_and_plain_types(folder, trained):
    record = torch.load(folder / CHECKPOINT, weights_only=True)

    def check(value):
        if isinstance(value, dict):
            for part in value.values():
                check(part)
        elif isinstance(value, list | tuple):
            for part in value:
                check(part)
        else:
            assert value is None or isinstance(value, torch.Tensor | int | float | str | bool), type(value)

    check(record)
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("scores", "val_losses", "best", "n_epochs"),
    [
        ([0.1, 0.3, 0.2, 0.25, 0.4], [5, 4, 3, 2, 1], 2, 4),  # stops before the fifth
        ([0.1, 0.3, 0.3, 0.2, 0.2], [5, 4, 3, 2, 1], 3, 5),  # equal scores: the lower loss
        ([-np.inf] * 5, [5, 3, 4, 3, 3], 2, 4),  # no score is defined: the lowest loss
    ],
)
def test_choice_of_the_epoch(data, tmp_path, monkeypatch, scores, val_losses, best, n_epochs):
    states = []

    def validate(network, *_):
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"val_selection": scores[len(states) - 1], "val_loss": val_losses[len(states) - 1]}

    monkeypatch.setattr(training_learner, "validate", validate)
    config = replace(QUICK, max_epochs=5, patience=2)
    trained = train_network(**data | {"training_config": config}, folder=tmp_path)
    assert (trained.best_epoch, len(trained.history)) == (best, n_epochs)
    assert all(torch.equal(trained.state[name], value) for name, value in states[best - 1].items())


def test_learning_rate_rises_then_falls_to_zero():
    config = TrainingConfig(learning_rate=2.0, warmup_fraction=0.2)
    rates = [learning_rate(place, config) for place in (0, 0.1, 0.2, 0.6, 1)]
    np.testing.assert_allclose(rates, [0, 1, 2, 1, 0], atol=1e-12)
    assert learning_rate(0.0, replace(config, warmup_fraction=0.0)) == 2.0


def test_only_labelled_clips_are_trained_on_and_tasks_without_labels_are_said(data, tmp_path):
    bare = replace(data["labels_train"], age=np.full(24, np.nan))
    trained = train_network(**data | {"labels_train": bare}, folder=tmp_path / "a")
    assert trained.untrained == ("age", "Horror") and trained.trained_tasks == ("emotion", "country")
    _, age, _ = predict_arrays(trained, data["store"], ["c000"])
    assert np.isnan(age).all() and np.isnan(trained.priors["age"])
    alone = replace(TINY, tasks=("age",))
    with pytest.raises(ValueError, match="no clip of Train has a label of age"):
        train_network(**data | {"labels_train": bare, "network_config": alone}, folder=tmp_path)
    ids = data["labels_train"].clip_id
    seen = set()
    real = FrameStore.frames

    class Watched(FrameStore):
        def frames(self, row, *args):
            seen.add(self.clip_id[row])
            return real(self, row, *args)

    config = replace(QUICK, max_epochs=1)
    watched = data | {
        "store": Watched(data["store"].shards),
        "network_config": alone,
        "training_config": config,
    }
    single = train_network(**watched, folder=tmp_path / "c")
    assert seen & set(ids) == set(ids[~np.isnan(data["labels_train"].age)])
    assert single.history[0]["val_selection"] == pytest.approx(1 / single.history[0]["val_mae"])


def test_prediction_does_not_depend_on_the_batch(data, trained):
    ids = data["labels_val"].clip_id
    many = predict_arrays(trained, data["store"], ids)
    for row in (0, 7):
        for whole, one in zip(many, predict_arrays(trained, data["store"], ids[row : row + 1]), strict=True):
            np.testing.assert_allclose(whole[row], one[0], rtol=1e-4, atol=1e-5)
    assert [len(part) for part in predict_arrays(trained, data["store"], [])] == [0, 0, 0]


def test_loss_weights_are_chosen_on_val_and_all_trials_recorded(data, tmp_path):
    grid = LossGrid(age=(1.0,), emotion=(10.0, 80.0), country=(1.0, 8.0), max_epochs=1)
    config = replace(QUICK, loss_weight_grid=grid, max_epochs=1)
    chosen = choose_loss_weights(**data | {"training_config": config}, folder=tmp_path)
    rows = np.genfromtxt(tmp_path / "tuning.csv", delimiter=",", names=True)
    assert [(r["emotion"], r["country"]) for r in rows] == [(10, 1), (10, 8), (80, 1), (80, 8)]
    best = rows[np.argmax(rows["val_selection"])]
    assert chosen == replace(config, loss_weights=LossWeights(1.0, best["emotion"], best["country"]))
    learned = replace(config, combination="uncertainty")
    with pytest.raises(ValueError, match="loss_weight_grid: loss weights are chosen only"):
        choose_loss_weights(**data | {"training_config": learned}, folder=tmp_path)


def test_speed_perturbation_needs_frames_and_changes_the_training(data, trained, tmp_path):
    config = replace(QUICK, speed_perturbation=True)
    with pytest.raises(ValueError, match="no frames of Train at other speeds"):
        train_network(**data | {"training_config": config}, folder=tmp_path)
    shards, _, _ = write_corpus(tmp_path / "fast", 24)
    fast = {1.1: FrameStore(shards)}
    other = train_network(**data | {"training_config": config}, folder=tmp_path, perturbed=fast)
    assert not same(trained, other)


def test_cuda_gets_deterministic_operations_and_products(monkeypatch):
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with training_train._surroundings(1, torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()


def test_mixed_precision_needs_cuda(data, tmp_path):
    config = replace(QUICK, precision="fp16", device="cpu")
    with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
        train_network(**data | {"training_config": config}, folder=tmp_path)


def test_strf_kernels_are_watched_and_stored(data, tmp_path):
    strf = replace(TINY, frontend="strf", strf=replace(TINY.strf, n_kernels=3))
    config = replace(QUICK, max_epochs=2)
    trained = train_network(
        **data | {"network_config": strf, "training_config": config}, folder=tmp_path / "checkpoint"
    )
    assert {name: values.shape for name, values in trained.strf_history.items()} == {
        "rate": (3, 3),
        "scale": (3, 3),
    }
    assert (np.diff(trained.strf_history["rate"], axis=0) != 0).any()
    save_trained(tmp_path, trained)
    for name, values in load_trained(tmp_path, [ConformerNetworkConfig]).strf_history.items():
        np.testing.assert_array_equal(values, trained.strf_history[name])


def test_stored_network_predicts_the_same(data, trained, tmp_path):
    save_trained(tmp_path, trained)
    loaded = load_trained(tmp_path, [ConformerNetworkConfig])
    assert (loaded.network_config, loaded.training_config) == (TINY, QUICK)
    assert same(trained, loaded) and losses(loaded) == losses(trained)
    ids = data["labels_val"].clip_id
    for first, second in zip(
        *(predict_arrays(t, data["store"], ids) for t in (trained, loaded)), strict=True
    ):
        np.testing.assert_array_equal(first, second)
    assert without_labels(data["labels_train"], TINY.tasks) == loaded.untrained
    assert loaded.priors == priors(data["labels_train"], TINY.tasks)


def test_system_predicts_every_clip_of_val_and_test(tmp_path):
    shards, labels, statistics = write_corpus(tmp_path / "corpus", 48, missing=(3, 26, 40))
    training = {
        "max_epochs": 2,
        "batch_size": 8,
        "blocks": {
            "d_model": 8,
            "n_heads": 1,
            "ffn": 8,
            "n_blocks": 1,
            "kernel": 3,
            "subsampling_channels": 2,
        },
        "spec_augment": None,
        "loss_weight_grid": {"age": [1.0], "emotion": [40.0, 80.0], "max_epochs": 1},
    }
    system = {"encoder": "conformer", "tasks": ["emotion", "age"], "training": training}
    corpus = Corpus(tmp_path, labels.clip_id, labels)
    files = [path for shard in shards for path in shard]
    train_system(files, corpus, system, 0, tmp_path / "system", statistics=statistics)
    files = {path.name for path in (tmp_path / "system").iterdir()}
    stored = {
        "model.safetensors",
        "config.json",
        "history.csv",
        "val.parquet",
        "test.parquet",
        "metrics.json",
    }
    assert files == stored | {"logs", "tuning.csv"}
    trained = load_trained(tmp_path / "system", [ConformerNetworkConfig])
    assert trained.training_config.loss_weights.emotion in (40.0, 80.0)
    for split, missing in (("val", 26), ("test", 40)):
        predictions = read_predictions(tmp_path / "system" / f"{split}.parquet")
        assert predictions.clip_id.tolist() == labels.clip_id[labels.split == split.title()].tolist()
        assert np.isnan(predictions.country).all() and np.isfinite(predictions.emotion).all()
        row = predictions.clip_id.tolist().index(f"c{missing:03d}")
        assert predictions.age[row] == trained.priors["age"]
    scores = json.loads((tmp_path / "system/metrics.json").read_text())["val"]
    assert scores["mae"] > 0 and scores["uar"] is None
    with pytest.raises(ValueError, match="no key hidden"):
        network_configs(
            {"encoder": "conformer", "tasks": ["age"], "training": {"hidden": [3]}}, ConformerNetworkConfig
        )


def test_nothing_is_drawn_where_nobody_watches(data, tmp_path, capfd):
    train_network(**data | {"training_config": replace(QUICK, max_epochs=1)}, folder=tmp_path)
    out, err = capfd.readouterr()
    assert "epoch" not in (out + err).lower()
    assert list(tmp_path.glob("logs/tensorboard/events*"))
    assert "loss" in (tmp_path / "logs/metrics.csv").read_text()


@pytest.mark.parametrize(
    ("place", "title"),
    [
        ("conformer-x/3", "conformer-x, seed 3"),
        ("conformer-x/3/tuning/004", "conformer-x, seed 3, trial 004"),
    ],
)
def test_a_terminal_gets_a_plain_line_an_epoch(data, tmp_path, monkeypatch, place, title):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        config = replace(QUICK, max_epochs=2)
        train_network(**data | {"training_config": config}, folder=tmp_path / place)
        monkeypatch.undo()
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    # A terminal ends lines with both characters; nothing else may move its cursor.
    assert re.fullmatch(r"[\x20-\x7e]+\r\n[\x20-\x7e]+\r\n", shown), shown
    first, second = shown.splitlines()
    assert re.fullmatch(rf"{title}: epoch 1 of 2 in \d+ s, val_loss [\d.]+, best epoch 1", first)
    assert second.startswith(f"{title}: epoch 2 of 2 in ")


def test_times_of_network_and_loading_are_of_these_alone(data, tmp_path, monkeypatch):
    pause = 0.3
    scoring = training_learner.score

    def slow_score(*parts):
        time.sleep(pause)
        return scoring(*parts)

    class Slow(FrameStore):
        def frames(self, *where):
            time.sleep(0.02)
            return super().frames(*where)

    monkeypatch.setattr(training_learner, "score", slow_score)
    slow = data | {"store": Slow(data["store"].shards), "training_config": replace(QUICK, max_epochs=1)}
    (record,) = train_network(**slow, folder=tmp_path).history
    # Clips with a label of a task, of Train and of Val.
    n_clips = sum(len(data[name]) for name in ("labels_train", "labels_val"))
    assert n_clips * 0.015 < record["loading_seconds"]
    assert record["network_seconds"] > 0
    assert record["network_seconds"] + record["loading_seconds"] + pause <= record["seconds"]
