"""Training of the organisers' network: standardisation, masks, choice of epoch, seeds, storage."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from exvo.corpus.labels import EMOTIONS, Country, Labels
from exvo.evaluation.metrics import mae, mean_ccc, predicted_class, uar
from exvo.training import mlp_training
from exvo.training.mlp_storage import load_trained, save_trained
from exvo.training.mlp_training import MlpConfig, predict_mlp, train_mlp
from exvo.training.standardise import Standardisation

N_FEATURES = 30
QUICK = MlpConfig(max_epochs=3)


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
    return train_mlp(*data, QUICK, seed=3, feature_names=[f"f{i}" for i in range(N_FEATURES)])


def test_learns_a_planted_relation_far_better_than_the_mean():
    features, labels = planted(800, 0)
    val_features, val_labels = planted(300, 1)
    trained = train_mlp(features, labels, val_features, val_labels, MlpConfig(), seed=0)
    emotion, age, country = predict_mlp(trained, val_features)
    assert mean_ccc(val_labels.emotion, emotion)[1] > 0.6  # a constant has 0
    assert uar(val_labels.country, predicted_class(country)) > 0.75  # a constant has 1/3
    spread = mae(val_labels.age, np.full(300, labels.age.mean()))
    assert mae(val_labels.age, age) < 0.6 * spread
    np.testing.assert_allclose(country.sum(axis=1), 1)


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(data, trained):
    torch.manual_seed(5)
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    again = train_mlp(*data, QUICK, seed=3)
    assert same(trained, again)
    assert not same(trained, train_mlp(*data, QUICK, seed=4))
    predict_mlp(trained, data[2])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


@pytest.mark.parametrize("n_together", [1, 2, 3, 7, 79])
def test_predictions_do_not_depend_on_the_neighbours_in_a_single_bit(data, trained, n_together):
    whole = predict_mlp(trained, data[2])
    parts = [predict_mlp(trained, data[2][i : i + n_together]) for i in range(0, len(data[2]), n_together)]
    for many, few in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(many, np.concatenate(few))
    assert [len(part) for part in predict_mlp(trained, data[2][:0])] == [0, 0, 0]


def test_training_does_not_touch_its_inputs_unless_told_to(data):
    features, val_features = data[0].copy(), data[2].copy()
    first = train_mlp(features, data[1], val_features, data[3], QUICK, seed=3)
    np.testing.assert_array_equal(features, data[0])
    second = train_mlp(features, data[1], val_features, data[3], QUICK, seed=3, overwrite=True)
    assert abs(features.mean()) < 1e-3
    assert abs(val_features.mean()) < 1
    assert same(first, second)


def test_epoch_kept_is_the_one_of_the_best_selection_score(data, trained):
    scores = [record["val_selection"] for record in trained.history]
    assert trained.best_epoch == 1 + int(np.argmax(scores))
    emotion, age, country = predict_mlp(trained, data[2])
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

    monkeypatch.setattr(mlp_training, "_validate", validate)
    trained = train_mlp(*data, replace(QUICK, max_epochs=5, patience=2), seed=0)
    assert (trained.best_epoch, len(trained.history)) == (best, n_epochs)


def test_weights_kept_are_those_of_the_best_epoch_and_not_of_the_last(data, monkeypatch):
    short = train_mlp(*data, replace(QUICK, max_epochs=1), seed=0)
    scores = iter([0.9, 0.1, 0.1])
    monkeypatch.setattr(
        mlp_training, "_validate", lambda *_: {"val_selection": next(scores), "val_loss": 1.0}
    )
    assert same(short, train_mlp(*data, QUICK, seed=0))


def test_without_labels_on_val_the_last_epoch_is_kept(data):
    val_labels = data[3]
    for task in ("emotion", "age", "country"):
        val_labels = drop(val_labels, task, slice(None))
    trained = train_mlp(*data[:3], val_labels, replace(QUICK, patience=1), seed=0)
    assert trained.best_epoch == len(trained.history) == 3
    assert np.isnan(trained.history[0]["val_loss"])
    empty = train_mlp(*data[:2], data[2][:0], data[3].take(np.arange(0)), QUICK, seed=0)
    assert same(trained, empty)


def test_clips_without_any_label_change_nothing_but_the_moments(data):
    features, labels, *val = data
    rows = np.arange(150, 200)
    for task in ("emotion", "age", "country"):
        labels = drop(labels, task, rows)
    features = features.copy()
    features[150:] = features[:50]
    first = train_mlp(features, labels, *val, QUICK, seed=0)
    features[150:] = features[:50][::-1]  # the same moments, the features of the unlabelled clips exchanged
    second = train_mlp(features, labels, *val, QUICK, seed=0)
    np.testing.assert_allclose(first.standardisation.mean, second.standardisation.mean, rtol=1e-6)
    for ours, theirs in zip(predict_mlp(first, val[0]), predict_mlp(second, val[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_sparse_labels_train_every_task(data):
    features, labels, *val = data
    labels = drop(labels, "age", slice(6, None))
    labels = drop(labels, "country", np.s_[:188])
    trained = train_mlp(features, labels, *val, QUICK, seed=0)
    assert trained.n_labelled == {"emotion": 200, "age": 6, "country": 12}
    assert trained.priors["age"] == np.median(labels.age[:6])
    assert all(np.isfinite(part).all() for part in predict_mlp(trained, val[0]))


def test_a_task_without_labels_is_untrained_and_nan(data):
    features, labels, *val = data
    trained = train_mlp(features, drop(labels, "age", slice(None)), *val, QUICK, seed=0)
    emotion, age, country = predict_mlp(trained, val[0])
    assert trained.untrained == ("age",)
    assert np.isnan(age).all()
    assert np.isnan(trained.priors["age"])
    assert np.isfinite(emotion).all()
    assert np.isfinite(country).all()
    assert np.isfinite(trained.history[-1]["val_selection"])


def test_an_emotion_without_labels_is_untrained_and_0(data):
    features, labels, *val = data
    horror = EMOTIONS.index("Horror")
    trained = train_mlp(features, drop(labels, "emotion", np.s_[:, horror]), *val, QUICK, seed=0)
    emotion = predict_mlp(trained, val[0])[0]
    assert trained.untrained == ("Horror",)
    assert (emotion[:, horror] == 0).all()
    assert trained.priors["emotion"][horror] == 0
    assert (np.delete(emotion, horror, axis=1) > 0).all()


@pytest.mark.parametrize("task", ["emotion", "age", "country"])
def test_a_system_of_one_task_leaves_the_others_nan(data, task):
    trained = train_mlp(*data, replace(QUICK, tasks=(task,)), seed=0)
    answers = dict(zip(("emotion", "age", "country"), predict_mlp(trained, data[2]), strict=True))
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


def test_age_starts_at_the_mean_of_train(data):
    config = replace(QUICK, max_epochs=1, learning_rate=0.0)
    age = predict_mlp(train_mlp(*data, config, seed=0), data[2])[1]
    assert abs(age - data[1].age.mean()).max() < 1


def test_storage_round_trip_gives_the_same_predictions(data, tmp_path):
    labels = drop(data[1], "age", slice(None))
    names = [f"f{i}" for i in range(N_FEATURES)]
    trained = train_mlp(data[0], labels, *data[2:], QUICK, seed=3, feature_names=names)
    save_trained(tmp_path / "model", trained)
    loaded = load_trained(tmp_path / "model")
    for ours, theirs in zip(predict_mlp(trained, data[2]), predict_mlp(loaded, data[2]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (loaded.config, loaded.countries, loaded.seed) == (trained.config, trained.countries, 3)
    assert (loaded.untrained, loaded.best_epoch) == (("age",), trained.best_epoch)
    np.testing.assert_equal(loaded.priors, trained.priors)
    np.testing.assert_equal(loaded.history, trained.history)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "history.csv",
        "model.safetensors",
    ]


def test_features_of_other_names_are_refused(data, trained):
    with pytest.raises(ValueError, match="names or their order"):
        predict_mlp(trained, data[2], feature_names=[f"f{i}" for i in range(N_FEATURES)][::-1])
    with pytest.raises(ValueError, match="fitted on 30 features"):
        predict_mlp(trained, data[2][:, :29])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_by_row_and_column(data, trained, bad):
    for i in (0, 2):
        features = [data[0].copy(), data[1], data[2].copy(), data[3]]
        features[i][61, 17] = bad
        with pytest.raises(ValueError, match="row 61, column 17"):
            train_mlp(*features, QUICK, seed=0)
    with pytest.raises(ValueError, match="row 61, column 17"):
        predict_mlp(trained, features[2])


def test_errors_say_what_to_change(data):
    features, labels, *val = data
    with pytest.raises(ValueError, match="Train: features of shape"):
        train_mlp(features[:-1], labels, *val, QUICK, seed=0)
    with pytest.raises(ValueError, match="no clip of Train has a label of age"):
        train_mlp(features, drop(labels, "age", slice(None)), *val, replace(QUICK, tasks=("age",)), seed=0)
    with pytest.raises(ValueError, match="set it to fp32"):
        train_mlp(*data, replace(QUICK, device="cpu", precision="bf16"), seed=0)
    with pytest.raises(ValueError, match="is none of"):
        train_mlp(*data, replace(QUICK, precision="double"), seed=0)


def test_standardised_train_has_mean_0_and_variance_1_at_any_scale():
    rng = np.random.default_rng(0)
    scale = 10.0 ** np.arange(-6, 7, 2)
    features = (rng.standard_normal((1500, 7)) * scale + 3 * scale).astype(np.float32)
    moments = Standardisation.fit(features, 10.0)
    standardised = moments.apply(features)
    np.testing.assert_allclose(standardised.mean(axis=0, dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axis=0, dtype=float), 1, atol=1e-5)
    np.testing.assert_allclose(moments.mean, features.mean(axis=0, dtype=float), rtol=1e-6)
    assert standardised.flags.c_contiguous
    assert not moments.constant.any()
    np.testing.assert_array_equal(moments.apply(np.asfortranarray(features)), standardised)


def test_constant_features_become_0_and_outliers_are_limited():
    features = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    features[:, 0] = 0.1
    features[:, 1] = 1e-42  # and a deviation too small to divide by
    features[0, 1] = 0
    moments = Standardisation.fit(features, 10.0)
    assert moments.constant.tolist() == [True, True, False]
    assert moments.scale[:2].tolist() == [1, 1]
    assert abs(moments.apply(features)[:, :2]).max() < 1e-7
    far = moments.apply(np.array([[0.1, 0, 1e6], [0.1, 0, -3e38]], dtype=np.float32))
    assert far[:, 2].tolist() == [10, -10]


def test_a_feature_constant_on_train_says_nothing_on_val(data):
    features, val_features = data[0].copy(), data[2].copy()
    features[:, 4] = 2.5
    trained = train_mlp(features, data[1], val_features, data[3], QUICK, seed=0)
    before = predict_mlp(trained, val_features)
    val_features[:, 4] = 1e5
    for ours, theirs in zip(before, predict_mlp(trained, val_features), strict=True):
        np.testing.assert_array_equal(ours, theirs)
