"""Training of the organisers' network: masks, choice of epoch, seeds, storage; moments of features."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exvo.corpus.labels import EMOTIONS, TASKS, Country, Labels
from exvo.evaluation.metrics import mae, mean_ccc, predicted_class, uar
from exvo.features.store import FeatureRow, write_utterances
from exvo.networks.mlp import MlpConfig
from exvo.training import learner as training_learner
from exvo.training.old_names import present_record, present_state
from exvo.training.predict import predict_arrays
from exvo.training.standardise import standard_moments
from exvo.training.storage import load_trained, save_trained
from exvo.training.train import train_network
from exvo.training.trained import TrainingConfig
from exvo.training.vectors import VectorBatches, VectorStore

N_FEATURES = 30
ORGANISERS = TrainingConfig(
    batch_size=8, max_epochs=20, patience=5, optimizer="adam", learning_rate=1e-3, schedule="constant",
    weight_decay=1e-4, gradient_clip=0.0, combination="uncertainty", emotion_loss="mse_sum", age_loss="mse",
)  # fmt: skip
QUICK = replace(ORGANISERS, max_epochs=3)


def stored(features, clip_ids, names=None):
    """The features of some clips as a store reads them from a shard."""
    names = names or [f"f{i}" for i in range(features.shape[1])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "0000.parquet")
        rows = [FeatureRow(c, row, "ok", "") for c, row in zip(clip_ids, features, strict=True)]
        write_utterances(path, rows, names)
        store = VectorStore([(path,)], clip_ids)
    store.fingerprint = lambda: []
    return store


def fit(
    features, labels, val_features, val_labels, config=QUICK, seed=0, tasks=TASKS, folder=None, **options
):
    """Train on features of Train and Val, whose clips are called after their split."""
    train = replace(labels, clip_id=np.array([f"t{c}" for c in labels.clip_id], dtype=object))
    val = replace(val_labels, clip_id=np.array([f"v{c}" for c in val_labels.clip_id], dtype=object))
    store = stored(np.concatenate([features, val_features]), [*train.clip_id, *val.clip_id])
    moments = store.moments(train.clip_id)
    with tempfile.TemporaryDirectory() as scratch:
        return train_network(
            store,
            train,
            val,
            MlpConfig(tasks=tasks),
            config,
            moments,
            seed,
            folder or Path(scratch, "mlp", "0"),
            **options,
        )


def predict(trained, features, names=None):
    ids = [f"c{i}" for i in range(len(features))]
    return predict_arrays(trained, stored(features, ids, names), ids)


def planted(n, seed, n_countries=3):
    """Features and labels in which every task is a noisy linear function of the features."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, N_FEATURES)).astype(np.float32)
    weights = np.random.default_rng(99).standard_normal((N_FEATURES, 11 + n_countries)) / N_FEATURES**0.5
    signal = features @ weights + 0.1 * rng.standard_normal((n, 11 + n_countries))
    blank = np.full(n, "")
    labels = Labels(
        clip_id=np.array([f"{i:05d}" for i in range(n)]),
        split=blank,
        speaker=blank,
        age=29 + 4 * signal[:, 10],
        country=signal[:, 11:].argmax(axis=1),
        emotion=1 / (1 + np.exp(-2 * signal[:, :10])),
        countries=tuple(Country(7 * i, f"Country {i}") for i in range(n_countries)),
    )
    scale = np.logspace(-3, 3, N_FEATURES, dtype=np.float32)
    return (features + 5) * scale, labels


def drop(labels, task, rows):
    column = {task: getattr(labels, task).copy()}
    column[task][rows] = -1 if task == "country" else np.nan
    return replace(labels, **column)


def same(first, second):
    return all(torch.equal(first.state[name], second.state[name]) for name in first.state)


@pytest.fixture(scope="module")
def data():
    return (*planted(200, 0), *planted(80, 1))


@pytest.fixture(scope="module")
def trained(data):
    return fit(*data, QUICK, seed=3)


def test_learns_a_planted_relation_far_better_than_the_mean():
    features, labels = planted(800, 0)
    val_features, val_labels = planted(300, 1)
    trained = fit(features, labels, val_features, val_labels, ORGANISERS, seed=0)
    emotion, age, country = predict(trained, val_features)
    assert mean_ccc(val_labels.emotion, emotion)[1] > 0.6  # a constant has 0
    assert uar(val_labels.country, predicted_class(country)) > 0.75  # a constant has 1/3
    spread = mae(val_labels.age, np.full(300, labels.age.mean()))
    assert mae(val_labels.age, age) < 0.6 * spread
    np.testing.assert_allclose(country.sum(axis=1), 1)


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(data, trained):
    torch.manual_seed(5)
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    again = fit(*data, QUICK, seed=3)
    assert same(trained, again)
    assert not same(trained, fit(*data, QUICK, seed=4))
    predict(trained, data[2])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_an_interrupted_training_resumes_to_the_same_bits(data, trained, tmp_path, monkeypatch):
    real, epochs = training_learner.validate, iter(range(2))

    def validate(*parts):
        if next(epochs, None) is None:
            raise OSError("power cut")
        return real(*parts)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        patch.setattr(training_learner, "validate", validate)
        fit(*data, QUICK, seed=3, folder=tmp_path)
    resumed = fit(*data, QUICK, seed=3, folder=tmp_path)
    assert same(trained, resumed)
    assert len(list((tmp_path / "logs/tensorboard").iterdir())) == 2  # it went on, and did not start anew


def test_an_epoch_has_each_clip_once_with_its_features_and_labels():
    features, labels = planted(150, 0)
    labels = drop(labels, "age", slice(2, None))
    store = stored(features[::-1], labels.clip_id[::-1])
    epoch = VectorBatches(store, labels, batch_size=2, seed=0).epoch(3)
    assert len(epoch) == 75  # more than are gathered at once
    batches = list(epoch)
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows) == list(range(150)) and list(rows) != sorted(rows)
    for batch in batches:
        np.testing.assert_array_equal(batch.frames[:, 0], features[batch.rows])
        np.testing.assert_array_equal(batch.targets["country"], labels.country[batch.rows])
        assert ("age" in batch.labelled) == (min(batch.rows) < 2)
    # The same ones in any order, as a training that resumes asks for them.
    for number in (70, 3, 64, 63):
        assert torch.equal(epoch[number].frames, batches[number].frames)
    other = VectorBatches(store, labels, batch_size=4, seed=0).epoch(4)
    assert [len(batch.rows) for batch in other] == [4] * 37 + [2]
    assert list(np.concatenate([batch.rows for batch in other])) != list(rows)


@pytest.mark.parametrize("n_together", [1, 2, 3, 7, 79])
def test_predictions_do_not_depend_on_the_neighbours_in_a_single_bit(data, trained, n_together):
    whole = predict(trained, data[2])
    parts = [predict(trained, data[2][i : i + n_together]) for i in range(0, len(data[2]), n_together)]
    for many, few in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(many, np.concatenate(few))


def test_epoch_kept_is_the_one_of_the_best_selection_score(data, trained):
    scores = [record["val_selection"] for record in trained.history]
    assert trained.best_epoch == 1 + int(np.argmax(scores))
    emotion, age, country = predict(trained, data[2])
    best = trained.history[trained.best_epoch - 1]
    assert best["val_ccc"] == pytest.approx(mean_ccc(data[3].emotion, emotion)[1], rel=1e-5)
    assert best["val_mae"] == pytest.approx(mae(data[3].age, age), rel=1e-5)
    assert best["val_uar"] == pytest.approx(uar(data[3].country, predicted_class(country)))


@pytest.mark.parametrize(
    ("scores", "losses", "best", "n_epochs"),
    [
        ([0.1, 0.3, 0.2, 0.25, 0.4], [5, 4, 3, 2, 1], 2, 4),  # stops before the fifth
        ([0.1, 0.3, 0.3, 0.2, 0.2], [5, 4, 3, 2, 1], 3, 5),  # equal scores: the lower loss
        ([-np.inf] * 5, [5, 3, 4, 3, 3], 2, 4),  # no score is defined: the lowest loss
        ([-np.inf, 0.1, -np.inf, 0.1, -np.inf], [1, 9, 1, 9, 1], 2, 4),
        ([0.3, 0.2, np.nan, np.nan, np.nan], [np.nan] * 5, 1, 3),
    ],
)
def test_choice_of_the_epoch(data, monkeypatch, scores, losses, best, n_epochs):
    validations = iter(zip(scores, losses, strict=True))

    def validate(*_):
        score, loss = next(validations)
        return {"val_selection": score, "val_loss": loss}

    monkeypatch.setattr(training_learner, "validate", validate)
    trained = fit(*data, replace(QUICK, max_epochs=5, patience=2), seed=0)
    assert (trained.best_epoch, len(trained.history)) == (best, n_epochs)


def test_weights_kept_are_those_of_the_best_epoch_and_not_of_the_last(data, monkeypatch):
    short = fit(*data, replace(QUICK, max_epochs=1), seed=0)
    scores = iter([0.9, 0.1, 0.1])
    monkeypatch.setattr(
        training_learner, "validate", lambda *_: {"val_selection": next(scores), "val_loss": 1.0}
    )
    assert same(short, fit(*data, QUICK, seed=0))


def test_without_labels_on_val_the_last_epoch_is_kept(data):
    val_labels = data[3]
    for task in ("emotion", "age", "country"):
        val_labels = drop(val_labels, task, slice(None))
    trained = fit(*data[:3], val_labels, replace(QUICK, patience=1), seed=0)
    assert trained.best_epoch == len(trained.history) == 3
    assert np.isnan(trained.history[0]["val_loss"])
    empty = fit(*data[:2], data[2][:0], data[3].take(np.arange(0)), QUICK, seed=0)
    assert same(trained, empty)


def test_clips_without_any_label_change_nothing_but_the_moments(data):
    features, labels, *val = data
    rows = np.arange(150, 200)
    for task in ("emotion", "age", "country"):
        labels = drop(labels, task, rows)
    features = features.copy()
    features[150:] = features[:50]
    first = fit(features, labels, *val, QUICK, seed=0)
    features[150:] = features[:50][::-1]  # the same moments, the features of the unlabelled clips exchanged
    second = fit(features, labels, *val, QUICK, seed=0)
    torch.testing.assert_close(first.state["mean"], second.state["mean"], rtol=1e-6, atol=0)
    for ours, theirs in zip(predict(first, val[0]), predict(second, val[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_sparse_labels_train_every_task(data):
    features, labels, *val = data
    labels = drop(labels, "age", slice(6, None))
    labels = drop(labels, "country", np.s_[:188])
    trained = fit(features, labels, *val, QUICK, seed=0)
    assert trained.n_labelled == {"emotion": 200, "age": 6, "country": 12}
    assert trained.priors["age"] == np.median(labels.age[:6])
    assert all(np.isfinite(part).all() for part in predict(trained, val[0]))


def test_a_task_without_labels_is_untrained_and_nan(data):
    features, labels, *val = data
    trained = fit(features, drop(labels, "age", slice(None)), *val, QUICK, seed=0)
    emotion, age, country = predict(trained, val[0])
    assert trained.untrained == ("age",)
    assert np.isnan(age).all()
    assert np.isnan(trained.priors["age"])
    assert np.isfinite(emotion).all()
    assert np.isfinite(country).all()
    assert np.isfinite(trained.history[-1]["val_selection"])


def test_an_emotion_without_labels_is_untrained_and_0(data):
    features, labels, *val = data
    horror = EMOTIONS.index("Horror")
    trained = fit(features, drop(labels, "emotion", np.s_[:, horror]), *val, QUICK, seed=0)
    emotion = predict(trained, val[0])[0]
    assert trained.untrained == ("Horror",)
    assert (emotion[:, horror] == 0).all()
    assert trained.priors["emotion"][horror] == 0
    assert (np.delete(emotion, horror, axis=1) > 0).all()


@pytest.mark.parametrize("task", ["emotion", "age", "country"])
def test_a_system_of_one_task_leaves_the_others_nan(data, task):
    trained = fit(*data, QUICK, seed=0, tasks=(task,))
    answers = dict(zip(("emotion", "age", "country"), predict(trained, data[2]), strict=True))
    assert {name for name, part in answers.items() if np.isfinite(part).all()} == {task}
    assert {name for name, part in answers.items() if np.isnan(part).all()} == set(answers) - {task}
    assert np.isfinite(trained.history[-1]["val_selection"])


def test_priors_are_the_constants_that_train_makes_best(data, trained):
    labels = data[1]
    np.testing.assert_allclose(trained.priors["emotion"], labels.emotion.mean(axis=0), rtol=1e-5)
    # No other constant has a smaller MAE on Train: the mean, which is another number here, has a larger one.
    error = {age: np.abs(labels.age - age).mean() for age in (trained.priors["age"], labels.age.mean())}
    assert trained.priors["age"] == np.median(labels.age) and len(error) == 2
    assert error[trained.priors["age"]] == min(error.values())
    np.testing.assert_allclose(
        trained.priors["country"], np.bincount(labels.country, minlength=3) / 200, rtol=1e-6
    )


def test_storage_round_trip_gives_the_same_predictions(data, tmp_path):
    labels = drop(data[1], "age", slice(None))
    trained = fit(data[0], labels, *data[2:], QUICK, seed=3)
    save_trained(tmp_path / "model", trained)
    loaded = load_trained(tmp_path / "model", [MlpConfig])
    for ours, theirs in zip(predict(trained, data[2]), predict(loaded, data[2]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (loaded.network_config, loaded.training_config) == (MlpConfig(), QUICK)
    assert (loaded.countries, loaded.seed, loaded.untrained) == (trained.countries, 3, ("age",))
    assert (loaded.best_epoch, loaded.features_digest) == (trained.best_epoch, trained.features_digest)
    np.testing.assert_equal(loaded.priors, trained.priors)
    files = ["config.json", "history.csv", "model.safetensors"]
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == files


def test_a_folder_of_the_earlier_format_is_read_under_the_names_of_today():
    old = {
        "model": "organisers",
        "config": {
            "tasks": ["age"], "hidden": [8, 4], "head": 3, "learning_rate": 0.1, "weight_decay": 0.2, "batch_size": 5,
            "max_epochs": 6, "patience": 7, "initial_log_variance": -0.1, "max_deviation": 9.0, "device": "cpu",
            "precision": "float32",
        },
        "n_features": 30,
        "system": {"feature": "compare-egemaps", "encoder": "mlp", "training": {"max_deviation": 9.0}},
    }  # fmt: skip
    record = present_record(old)
    assert MlpConfig.from_dict(record["network"]) == MlpConfig(("age",), (8, 4), 3, 9.0)
    training = TrainingConfig.from_dict(record["training"])
    assert training == replace(
        ORGANISERS, learning_rate=0.1, weight_decay=0.2, batch_size=5, max_epochs=6, patience=7,
        initial_log_variance=-0.1, device="cpu",
    )  # fmt: skip
    assert (record["kind"], record["n_channels"]) == ("mlp", 30)
    assert record["system"] == {
        "feature": "opensmile-egemaps",
        "encoder": "mlp",
        "training": {"max_sd": 9.0},
    }
    assert present_record(record) == record
    state = {"network.trunk.0.weight": 1, "network.log_variances.age": 2, "standardisation.constant": 3}
    state |= {"standardisation.mean": 4, "standardisation.scale": 5}
    assert present_state(state) == {"trunk.0.weight": 1, "mean": 4, "scale": 5}


def test_features_of_other_names_are_refused(data, trained):
    with pytest.raises(ValueError, match="names or their order"):
        predict(trained, data[2], names=[f"f{i}" for i in range(N_FEATURES)][::-1])
    with pytest.raises(ValueError, match="trained on 30"):
        predict(trained, data[2][:, :29])


def test_a_network_of_mixed_precision_predicts_without_cuda(data, trained):
    mixed = replace(trained, training_config=replace(QUICK, precision="bf16", device="auto"))
    for ours, theirs in zip(predict(trained, data[2]), predict(mixed, data[2]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_errors_say_what_to_change(data):
    features, labels, *val = data
    with pytest.raises(ValueError, match="no clip of Train has a label of age"):
        fit(features, drop(labels, "age", slice(None)), *val, QUICK, seed=0, tasks=("age",))
    with pytest.raises(ValueError, match="set it to fp32"):
        fit(*data, replace(QUICK, device="cpu", precision="bf16"), seed=0)
    with pytest.raises(ValueError, match="is none of"):
        fit(*data, replace(QUICK, precision="double"), seed=0)


def test_moments_are_those_of_float64_at_any_scale():
    rng = np.random.default_rng(0)
    scale = 10.0 ** np.arange(-6, 7, 2)
    features = (rng.standard_normal((1500, 7)) * scale + 3 * scale).astype(np.float32)
    rows = rng.permutation(1500)[:1200]
    moments = standard_moments(features, rows)
    np.testing.assert_allclose(moments["mean"], features[rows].mean(axis=0, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(moments["std"], features[rows].std(axis=0, dtype=float), rtol=1e-6)
    assert standard_moments(features, np.arange(1500)) == standard_moments(features)
    with pytest.raises(ValueError, match="does any clip of Train have audio"):
        standard_moments(features[:0])


def test_features_that_do_not_vary_have_an_sd_of_0():
    features = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    features[:, 0] = 0.1
    features[:, 1] = 1e-42  # and an SD too small to divide by
    features[0, 1] = 0
    std = standard_moments(features)["std"]
    assert std[:2] == [0, 0] and std[2] > 0.9


def test_a_feature_constant_on_train_says_nothing_on_val(data):
    features, val_features = data[0].copy(), data[2].copy()
    features[:, 4] = 2.5
    trained = fit(features, data[1], val_features, data[3], QUICK, seed=0)
    before = predict(trained, val_features)
    val_features[:, 4] = 1e5
    for ours, theirs in zip(before, predict(trained, val_features), strict=True):
        np.testing.assert_array_equal(ours, theirs)
