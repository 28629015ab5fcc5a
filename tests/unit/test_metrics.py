"""Metrics against numbers worked out by hand and against torchmetrics and scikit-learn."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, recall_score

from exvo.evaluation import metrics

NAN = float("nan")


@pytest.fixture
def random():
    return np.random.default_rng(7)


def answers(age, country, emotion):
    return SimpleNamespace(
        clip_id=np.array([f"{i:05d}" for i in range(len(age))]),
        age=np.array(age, float),
        country=np.array(country),
        emotion=np.array(emotion, float),
    )


def test_ccc_standard_by_hand():
    # target 1 2 3 4: mean 2.5, var 5/4; prediction 2 2 4 4: mean 3, var 1; cov (1.5 + 0.5 + 0.5 + 1.5)/4 = 1.
    # 2 * 1 / (1.25 + 1 + 0.25) = 0.8
    assert metrics.ccc([1, 2, 3, 4], [2, 2, 4, 4]) == pytest.approx(0.8)


def test_ccc_organisers_by_hand():
    # The same with variances over n - 1 = 3: 5/3 and 4/3, covariance still 1: 2 / (3 + 0.25) = 0.61538...
    assert metrics.ccc([1, 2, 3, 4], [2, 2, 4, 4], form="organisers") == 0.6154


def test_ccc_of_perfect_opposite_and_shifted_predictions():
    target = np.array([0.0, 1.0, 2.0])
    assert metrics.ccc(target, target) == pytest.approx(1)
    assert metrics.ccc(target, 2 - target) == pytest.approx(-1)
    # A shift of 1 with var 2/3: 2 * 2/3 / (4/3 + 1) = 4/7.
    assert metrics.ccc(target, target + 1) == pytest.approx(4 / 7)


def test_ccc_agrees_with_torchmetrics(random):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional")
    target = random.normal(size=200)
    prediction = 0.5 * target + random.normal(size=200)

    def peer(t, p):
        return functional.concordance_corrcoef(torch.tensor(p), torch.tensor(t)).item()

    # torchmetrics divides all by n - 1, which cancels where the means are equal...
    centred = prediction - prediction.mean() + target.mean()
    assert metrics.ccc(target, centred) == pytest.approx(peer(target, centred), abs=1e-9)
    # ...and shrinks to nothing as the same sample is repeated, which leaves the all-n form as it is.
    shifted = prediction + 0.8
    repeated = peer(np.tile(target, 5000), np.tile(shifted, 5000))
    assert metrics.ccc(target, shifted) == pytest.approx(repeated, abs=1e-6)


@pytest.mark.parametrize("form", ["standard", "organisers"])
def test_ccc_where_there_is_nothing_to_agree_with(form):
    assert np.isnan(
        metrics.ccc([0.1, 0.1, 0.1], [0.1, 0.1, 0.1], form=form)
    )  # 0/0, and 0.1 does not sum exactly
    assert np.isnan(metrics.ccc([0.1, 0.1, 0.1], [0.1, 0.5, 0.9], form=form))
    assert np.isnan(metrics.ccc([0.4], [0.4], form=form))
    assert np.isnan(metrics.ccc([], [], form=form))
    assert np.isnan(metrics.ccc([NAN, NAN], [0.1, 0.2], form=form))
    # Exactly: a rounded 1e-17 would be a positive term of S_MTL.
    for constant in np.linspace(0.05, 0.95, 19):
        assert metrics.ccc([0.1, 0.5, 0.9], [constant] * 3, form=form) == 0


def test_ccc_masks_missing_labels_but_not_missing_predictions():
    assert metrics.ccc([1, 2, NAN, 3, 4], [2, 2, 99, 4, 4]) == pytest.approx(0.8)
    assert metrics.ccc([1, 2, NAN, 3, 4], [2, 2, NAN, 4, 4]) == pytest.approx(0.8)
    assert np.isnan(metrics.ccc([1, 2, 3, 4], [2, 2, NAN, 4]))


def test_ccc_rejects_unequal_lengths_and_unknown_forms():
    with pytest.raises(ValueError, match="same length"):
        metrics.ccc([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="organisers"):
        metrics.ccc([1, 2], [1, 2], form="lin")


def test_mean_ccc_leaves_out_emotions_without_varying_labels():
    target = np.array([[1, NAN, 0.2], [2, NAN, 0.2], [3, NAN, 0.2], [4, NAN, 0.2]])
    prediction = np.array([[2, 1, 0.1], [2, 1, 0.2], [4, 1, 0.3], [4, 1, 0.4]])
    per_emotion, mean = metrics.mean_ccc(target, prediction)
    np.testing.assert_allclose(per_emotion, [0.8, NAN, NAN])
    assert mean == pytest.approx(0.8)


def test_mean_ccc_of_columns_is_the_ccc_of_each(random):
    target, prediction = random.random((50, 10)), random.random((50, 10))
    target[random.random((50, 10)) < 0.3] = NAN
    for form in ("standard", "organisers"):
        per_emotion, mean = metrics.mean_ccc(target, prediction, form)
        one_by_one = [metrics.ccc(t, p, form=form) for t, p in zip(target.T, prediction.T, strict=True)]
        np.testing.assert_allclose(per_emotion, one_by_one)
        assert mean == pytest.approx(np.mean(one_by_one))


def test_uar_by_hand_and_only_over_classes_present():
    # class 0: 2 of 3 right, class 2: 1 of 1; class 1 is not in the target, though it is predicted.
    assert metrics.uar([0, 0, 0, 2], [0, 0, 1, 2]) == pytest.approx((2 / 3 + 1) / 2)


def test_uar_agrees_with_scikit_learn(random):
    target, predicted = random.integers(0, 4, 300), random.integers(0, 4, 300)
    assert metrics.uar(target, predicted) == pytest.approx(recall_score(target, predicted, average="macro"))


def test_uar_masks_missing_labels_but_not_missing_predictions():
    assert metrics.uar([0, -1, 1], [0, 1, 1]) == 1
    assert metrics.uar([0, -1, 1], [0, -1, 1]) == 1
    assert np.isnan(metrics.uar([0, 1], [0, -1]))
    assert np.isnan(metrics.uar([-1, -1], [0, 1]))
    assert np.isnan(metrics.uar(np.array([], int), np.array([], int)))


def test_mae_agrees_with_scikit_learn_and_masks(random):
    target, prediction = random.uniform(20, 39, 100), random.uniform(20, 39, 100)
    assert metrics.mae(target, prediction) == pytest.approx(mean_absolute_error(target, prediction))
    assert metrics.mae([20, NAN, 30], [21, 99, 33]) == 2
    assert np.isnan(metrics.mae([20, 30], [21, NAN]))
    assert np.isnan(metrics.mae([NAN], [3]))


@pytest.mark.parametrize(
    ("ccc", "uar", "mae", "expected"),
    [
        (0.416, 0.506, 4.22, 0.348),  # Table 1 of the paper; the first two could stand either way round
        (0.506, 0.416, 4.22, 0.348),
        (0.552, 0.641, 4.01, 0.406),  # Table 3
        (0.559, 0.659, 4.00, 0.410),  # Table 4
        (0.475, 0.518, 4.34, 0.358),
    ],
)
def test_s_mtl_gives_the_figures_of_the_paper(ccc, uar, mae, expected):
    assert metrics.s_mtl(ccc, uar, mae) == pytest.approx(expected, abs=1e-3)


def test_s_mtl_is_missing_where_a_term_is_not_positive():
    assert metrics.s_mtl(0.5, 0.5, 4.0) == pytest.approx(3 / 8)
    assert metrics.s_mtl(0.5, 0.5, 0.0) == pytest.approx(3 / 4)
    for bad in [(0, 0.5, 4), (-0.1, 0.5, 4), (0.5, 0, 4), (NAN, 0.5, 4), (0.5, NAN, 4), (0.5, 0.5, NAN)]:
        assert np.isnan(metrics.s_mtl(*bad))
    assert np.isnan(metrics.s_mtl(0.5, 0.5, float("inf")))


def worked_example():
    emotion = np.full((4, 10), NAN)
    emotion[:, 0] = [1, 2, 3, 4]
    labels = answers([20, NAN, 30, NAN], [0, 1, 1, -1], emotion)
    emotion = np.full((4, 10), 0.5)
    emotion[:, 0] = [2, 2, 4, 4]
    country = [[0.6, 0.4], [0.7, 0.3], [0.5, 0.5], [0, 1]]  # the tie goes to class 0
    return labels, answers([22, 25, 30, 25], country, emotion)


def test_score_of_a_worked_example():
    scores = metrics.score(*worked_example())
    assert scores.ccc == pytest.approx(0.8)
    assert scores.ccc_per_emotion[0] == pytest.approx(0.8)
    assert np.isnan(scores.ccc_per_emotion[1:]).all()
    assert scores.uar == pytest.approx(0.5)
    assert scores.mae == pytest.approx(1)
    assert scores.s_mtl == pytest.approx(3 / (1.25 + 2 + 1))
    assert (scores.n_emotion, scores.n_country, scores.n_age) == (4, 3, 2)
    assert metrics.selection_score(scores) == pytest.approx(scores.s_mtl)


def test_score_of_a_system_of_one_task():
    labels, predictions = worked_example()
    predictions.age[:] = NAN
    predictions.country = np.full((4, 2), NAN)
    scores = metrics.score(labels, predictions)
    assert np.isnan([scores.uar, scores.mae, scores.s_mtl]).all()
    assert (scores.predicted, scores.n_emotion, scores.n_country, scores.n_age) == (("emotion",), 4, 0, 0)
    assert metrics.selection_score(scores) == pytest.approx(0.8)
    assert metrics.selection_score(scores, ("emotion", "age")) == float("-inf")


def test_score_without_countries():
    labels, predictions = worked_example()
    labels.country[:] = -1
    predictions.country = np.empty((4, 0))
    scores = metrics.score(labels, predictions)
    assert np.isnan(scores.uar)
    assert scores.n_country == 0
    assert metrics.selection_score(scores) == pytest.approx(2 / (1.25 + 1))


def test_score_rejects_clips_in_another_order():
    labels, predictions = worked_example()
    predictions.clip_id = predictions.clip_id[::-1]
    with pytest.raises(ValueError, match="align"):
        metrics.score(labels, predictions)


def test_scores_survive_json():
    scores = metrics.score(*worked_example())
    record = scores.to_json()
    assert record["ccc_per_emotion"][1] is None
    again = metrics.Scores.from_json(record)
    assert again.to_json() == record
    assert again.s_mtl == scores.s_mtl


def test_selection_score_never_chooses_an_undefined_epoch():
    scores = metrics.score(*worked_example())
    assert metrics.selection_score(replace(scores, ccc=-0.1)) == float("-inf")
    assert metrics.selection_score(replace(scores, uar=0.0)) == float("-inf")
    assert metrics.selection_score(replace(scores, mae=NAN)) == float("-inf")
    assert metrics.selection_score(replace(scores, n_emotion=0, n_age=0, n_country=0)) == float("-inf")
    assert metrics.selection_score(replace(scores, uar=0.0, n_country=0)) == pytest.approx(2 / 2.25)
    assert metrics.selection_score(replace(scores, mae=0.0), ("age",)) == float("inf")
