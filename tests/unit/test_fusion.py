"""Fusion on predictions whose best combination is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from exvo.corpus.labels import EMOTIONS, Country, Labels
from exvo.evaluation.metrics import mae, mean_ccc, predicted_class, uar
from exvo.evaluation.predictions import Predictions
from exvo.fusion.fuse import FusionConfig, Run, fuse
from exvo.fusion.weights import search_weights

N = 60
COUNTRIES = (Country(0, "China"), Country(3, "Venezuela"))


def make_labels(seed=0):
    random = np.random.default_rng(seed)
    return Labels(
        clip_id=np.array([f"v{i:02d}" for i in range(N)], dtype=object),
        split=np.full(N, "Val"),
        speaker=np.array([f"s{i // 6}" for i in range(N)]),
        age=random.uniform(20, 39, N),
        country=random.integers(0, 2, N),
        emotion=random.random((N, len(EMOTIONS))),
        countries=COUNTRIES,
    )


def predict(clip_id, seed, truth=None, noise=1.0):
    random = np.random.default_rng(seed)
    age = random.normal(30, 5, N) if truth is None else truth.age + 5 * noise * random.normal(size=N)
    emotion = random.random((N, 10))
    first = random.random(N)
    if truth is not None:
        emotion = truth.emotion + noise * 0.3 * random.normal(size=(N, 10))
        first = np.clip(0.5 + np.where(truth.country == 0, 0.3, -0.3) + noise * (first - 0.5), 0, 1)
    return Predictions(clip_id, age, np.stack([first, 1 - first], axis=1), emotion, (0, 3))


TEST_IDS = np.array([f"t{i:02d}" for i in range(N)])


def make_run(labels, seed, noise=1.0):
    return Run(predict(labels.clip_id, seed, labels, noise), predict(TEST_IDS, seed + 1000))


def only(run, *tasks):
    """The run with NaN in all other tasks."""

    def keep(predictions):
        gone = {t: np.full_like(getattr(predictions, t), np.nan) for t in ("age", "country", "emotion")}
        return replace(predictions, **{t: v for t, v in gone.items() if t not in tasks})

    return Run(keep(run.val), keep(run.test))


def test_weights_go_to_the_system_that_knows():
    labels = make_labels()
    knows = Run(
        Predictions(labels.clip_id, labels.age, np.eye(2)[labels.country], labels.emotion, (0, 3)),
        predict(TEST_IDS, 5),
    )
    noise = Run(predict(labels.clip_id, 1), predict(TEST_IDS, 6))
    fusion = fuse(
        FusionConfig("f", ("noise", "knows")), {"noise": [noise], "knows": [knows]}, labels, TEST_IDS
    )
    for task in ("emotion", "age"):
        assert fusion.description["tasks"][task]["weights"] == {"noise": 0.0, "knows": 1.0}
    # For country any weight above one half gets all clips right: the tie goes towards equal.
    country = fusion.description["tasks"]["country"]
    assert country["val_score"] == 1
    assert country["weights"]["knows"] <= 0.6
    np.testing.assert_array_equal(fusion.test.emotion, knows.test.emotion)


def test_a_feature_fusion_uses_its_own_predictions():
    labels = make_labels()
    runs = {name: [make_run(labels, seed)] for seed, name in enumerate("ab")}
    runs["j"] = [only(make_run(labels, seed, 0.5), "age", "emotion") for seed in (8, 9)]
    config = FusionConfig("j", ("a", "b"), rule="feature_fusion", inputs="features", training={"head": 3})
    fusion = fuse(config, runs, labels, TEST_IDS)
    for split in ("val", "test"):
        expected = sum(getattr(run, split).emotion for run in runs["j"]) / 2
        np.testing.assert_allclose(getattr(fusion, split).emotion, expected)
    np.testing.assert_array_equal(fusion.out_of_fold.age, fusion.val.age)
    record = json.loads(json.dumps(fusion.description, allow_nan=False))
    assert record["feature_fusion"] == {"inputs": "features", "training": {"head": 3}, "n_seeds": 2}
    assert list(record["systems"]) == ["a", "b"] and record["rule"] == "feature_fusion"
    age = record["tasks"]["age"]
    assert age["chosen_by"] == "training on Train" and "weights" not in age
    assert age["val_score"] == age["out_of_fold_val_score"] == mae(labels.age, fusion.val.age)
    assert record["tasks"]["country"]["chosen_by"] == "none" and np.isnan(fusion.test.country).all()
    assert len(record["notes"]) == 1 and record["notes"][0].startswith("country: the feature fusion does not")
    with pytest.raises(ValueError, match="no runs of its feature fusion"):
        fuse(config, {name: runs[name] for name in "ab"}, labels, TEST_IDS)


def test_opposite_errors_are_averaged_out():
    labels = make_labels()
    low = replace(predict(labels.clip_id, 1), age=labels.age - 3)
    high = replace(predict(labels.clip_id, 1), age=labels.age + 1)
    runs = {"low": [Run(low, predict(TEST_IDS, 1))], "high": [Run(high, predict(TEST_IDS, 2))]}
    fusion = fuse(FusionConfig("f", ("low", "high"), step=0.25), runs, labels, TEST_IDS)
    # 1/4 * (-3) + 3/4 * 1 = 0
    assert fusion.description["tasks"]["age"]["weights"] == {"low": 0.25, "high": 0.75}
    assert fusion.description["tasks"]["age"]["val_score"] == pytest.approx(0, abs=1e-9)
    test = 0.25 * runs["low"][0].test.age + 0.75 * runs["high"][0].test.age
    np.testing.assert_allclose(fusion.test.age, test)


def test_identical_systems_get_equal_weights_even_off_the_grid():
    labels = make_labels()
    run = make_run(labels, 4)
    names = ("a", "b", "c")
    fusion = fuse(FusionConfig("f", names, step=0.1), {name: [run] for name in names}, labels, TEST_IDS)
    for task in ("emotion", "age", "country"):
        assert list(fusion.description["tasks"][task]["weights"].values()) == pytest.approx([1 / 3] * 3)
        assert fusion.description["tasks"][task]["n_candidates"] == 67  # comb(12, 2) and equal weights


def test_the_grid_finds_what_trying_every_weight_finds():
    labels = make_labels()
    a, b = make_run(labels, 1, 0.8), make_run(labels, 2, 1.2)
    fusion = fuse(FusionConfig("f", ("a", "b"), step=0.05), {"a": [a], "b": [b]}, labels, TEST_IDS)
    tries = {w: (w * a.val.emotion + (1 - w) * b.val.emotion) for w in np.linspace(0, 1, 21)}
    best = max(mean_ccc(labels.emotion, t)[1] for t in tries.values())
    assert fusion.description["tasks"]["emotion"]["val_score"] == pytest.approx(best)
    best = min(mae(labels.age, w * a.val.age + (1 - w) * b.val.age) for w in np.linspace(0, 1, 21))
    assert fusion.description["tasks"]["age"]["val_score"] == pytest.approx(best)
    best = max(
        uar(labels.country, predicted_class(w * a.val.country + (1 - w) * b.val.country))
        for w in np.linspace(0, 1, 21)
    )
    assert fusion.description["tasks"]["country"]["val_score"] == pytest.approx(best)


def test_weights_are_chosen_on_the_labelled_clips_alone():
    labels = make_labels()
    low = replace(predict(labels.clip_id, 1), age=labels.age - 3)
    high = replace(predict(labels.clip_id, 1), age=labels.age + 1)
    runs = {"low": [Run(low, predict(TEST_IDS, 1))], "high": [Run(high, predict(TEST_IDS, 2))]}
    unknown = np.arange(N) % 3 == 0
    unknown[:20] = True
    partly = replace(labels, age=np.where(unknown, np.nan, labels.age))
    age = fuse(FusionConfig("f", ("low", "high"), step=0.25), runs, partly, TEST_IDS).description["tasks"][
        "age"
    ]
    assert age["weights"] == {"low": 0.25, "high": 0.75}
    assert age["n_clips"] == (~unknown).sum()


def test_seeds_are_averaged_before_systems():
    labels = make_labels()
    seeds, other = [make_run(labels, s) for s in (1, 2, 3)], make_run(labels, 9)
    config = FusionConfig("f", ("a", "b"), rule="average")
    fusion = fuse(config, {"a": seeds, "b": [other]}, labels, TEST_IDS)
    expected = (np.mean([r.test.age for r in seeds], axis=0) + other.test.age) / 2
    np.testing.assert_allclose(fusion.test.age, expected)
    np.testing.assert_allclose(fusion.test.country.sum(axis=1), 1)
    assert fusion.description["systems"]["a"]["n_seeds"] == 3


def test_the_paper_averages_country_and_age_and_takes_emotion_from_one():
    labels = make_labels()
    runs = {"hubert": [make_run(labels, 1)], "strf": [make_run(labels, 2)]}
    config = FusionConfig("paper", ("strf", "hubert"), rule="paper", emotion_from="hubert")
    fusion = fuse(config, runs, labels, TEST_IDS)
    hubert, strf = runs["hubert"][0].test, runs["strf"][0].test
    np.testing.assert_array_equal(fusion.test.emotion, hubert.emotion)
    np.testing.assert_allclose(fusion.test.age, (hubert.age + strf.age) / 2)
    np.testing.assert_allclose(fusion.test.country, (hubert.country + strf.country) / 2)


def test_a_task_without_val_labels_gets_equal_weights_and_a_note():
    labels = replace(make_labels(), age=np.full(N, np.nan))
    runs = {"a": [make_run(make_labels(), 1)], "b": [make_run(make_labels(), 2)]}
    description = fuse(FusionConfig("f", ("a", "b")), runs, labels, TEST_IDS).description
    age = description["tasks"]["age"]
    assert age["weights"] == {"a": 0.5, "b": 0.5}
    assert (age["chosen_by"], age["n_clips"], age["n_speakers"], age["val_score"]) == (
        "no labels",
        0,
        0,
        None,
    )
    assert any(note.startswith("age: no labels on Val") for note in description["notes"])
    json.dumps(description, allow_nan=False)


def test_without_val_clips_what_systems_do_on_test_is_averaged():
    labels = make_labels().take(np.zeros(N, dtype=bool))

    def test_alone(run):
        values = {task: getattr(run.val, task)[:0] for task in ("age", "country", "emotion")}
        return Run(replace(run.val, clip_id=run.val.clip_id[:0], **values), run.test)

    runs = [make_run(make_labels(), seed) for seed in range(2)]
    given = {"a": [test_alone(runs[0])], "b": [test_alone(only(runs[1], "age"))]}
    fusion = fuse(FusionConfig("f", ("a", "b")), given, labels, TEST_IDS)
    np.testing.assert_allclose(fusion.test.age, (runs[0].test.age + runs[1].test.age) / 2)
    np.testing.assert_array_equal(fusion.test.emotion, runs[0].test.emotion)
    np.testing.assert_array_equal(fusion.test.country, runs[0].test.country)
    tasks = fusion.description["tasks"]
    assert tasks["age"]["chosen_by"] == "no labels" and tasks["age"]["weights"] == {"a": 0.5, "b": 0.5}
    assert tasks["age"]["val_score"] is None and fusion.description["n_val_clips"] == 0
    none = {name: [Run(seeds[0].val, seeds[0].val)] for name, seeds in given.items()}
    assert len(fuse(FusionConfig("f", ("a", "b")), none, labels, []).test) == 0


def test_labels_that_do_not_vary_choose_nothing():
    labels = replace(make_labels(), emotion=np.ones((N, 10)))
    runs = {"a": [make_run(make_labels(), 1)], "b": [make_run(make_labels(), 2)]}
    description = fuse(FusionConfig("f", ("a", "b")), runs, labels, TEST_IDS).description
    assert description["tasks"]["emotion"]["chosen_by"] == "undefined"
    assert description["tasks"]["emotion"]["weights"] == {"a": 0.5, "b": 0.5}


def test_counts_are_of_the_labelled_clips_and_their_known_speakers():
    labels = make_labels()
    labels.country[:55] = -1  # the last five clips, of speaker s9
    labels.speaker[0] = ""
    runs = {"a": [make_run(make_labels(), 1)]}
    tasks = fuse(FusionConfig("f", ("a",)), runs, labels, TEST_IDS).description["tasks"]
    assert (tasks["country"]["n_clips"], tasks["country"]["n_speakers"]) == (5, 1)
    assert (tasks["emotion"]["n_clips"], tasks["emotion"]["n_speakers"]) == (N, 10)
    assert tasks["age"]["chosen_by"] == "only system"


def test_systems_of_one_task_combine_into_all_three():
    labels = make_labels()
    runs = {
        "emotion": [only(make_run(labels, 1), "emotion")],
        "rest": [only(make_run(labels, 2), "age", "country")],
    }
    fusion = fuse(FusionConfig("f", ("emotion", "rest")), runs, labels, TEST_IDS)
    assert fusion.description["tasks"]["emotion"]["weights"] == {"emotion": 1.0, "rest": 0.0}
    assert fusion.description["tasks"]["country"]["weights"] == {"emotion": 0.0, "rest": 1.0}
    assert not np.isnan(fusion.test.emotion).any()
    assert fusion.description["val"]["s_mtl"] > 0


def test_a_task_nobody_does_stays_missing():
    labels = make_labels()
    runs = {"a": [only(make_run(labels, 1), "emotion", "age")]}
    fusion = fuse(FusionConfig("f", ("a",)), runs, labels, TEST_IDS)
    assert np.isnan(fusion.test.country).all()
    assert fusion.description["tasks"]["country"]["weights"] == {"a": 0.0}
    assert any("no system" in note for note in fusion.description["notes"])


def test_many_systems_are_combined_by_steps_within_bounds():
    labels = make_labels()
    names = tuple(f"s{i}" for i in range(8))
    runs = {name: [make_run(labels, i, 0.5 + 0.3 * i)] for i, name in enumerate(names)}
    description = fuse(FusionConfig("f", names), runs, labels, TEST_IDS).description
    emotion = description["tasks"]["emotion"]
    assert emotion["chosen_by"] == "steps"
    assert emotion["n_candidates"] < 2000
    assert sum(emotion["weights"].values()) == pytest.approx(1)
    assert emotion["val_score"] >= max(s["val"]["ccc"] for s in description["systems"].values())
    assert any("may end in a local optimum" in note for note in description["notes"])


def test_steps_and_grid_agree_where_there_is_one_summit():
    summit = np.array([0.5, 0.3, 0.2])

    def value_of(weights):
        return -((weights - summit) ** 2).sum(axis=1)

    grid = search_weights(value_of, 3, step=0.1, max_candidates=1000)
    steps = search_weights(value_of, 3, step=0.1, max_candidates=10)
    np.testing.assert_allclose(grid.weights, summit)
    assert np.abs(steps.weights - summit).max() < 0.1
    assert (grid.how, steps.how) == ("grid", "steps")


def test_ties_go_to_the_weights_nearest_to_equal():
    def plateau(weights):
        return (weights[:, 0] > 0.65).astype(float)

    two = search_weights(plateau, 2, step=0.1, max_candidates=100)
    np.testing.assert_allclose(two.weights, [0.7, 0.3])
    # (0.7, 0.2, 0.1) and (0.7, 0.1, 0.2) are as near: the one named first gets more.
    three = search_weights(plateau, 3, step=0.1, max_candidates=100)
    np.testing.assert_allclose(three.weights, [0.7, 0.2, 0.1])


def test_differences_of_rounding_are_ties():
    found = search_weights(lambda w: 1e-13 * w[:, 0], 2, step=0.1, max_candidates=100)
    np.testing.assert_allclose(found.weights, [0.5, 0.5])


def test_steps_try_each_entry_by_itself():
    def beyond_a_valley(weights):
        return np.where(weights[:, 1] > 0.95, 1.0, -((weights - 1 / 3) ** 2).sum(axis=1))

    found = search_weights(beyond_a_valley, 3, step=0.1, max_candidates=1)
    assert found.value == 1 and found.weights.tolist() == [0, 1, 0]


def test_steps_can_give_all_weight_to_one():
    found = search_weights(lambda w: w[:, 1], 3, step=0.25, max_candidates=1)
    np.testing.assert_allclose(found.weights, [0, 1, 0])
    assert found.weights[0] == found.weights[2] == 0


def test_the_same_call_gives_the_same_fusion():
    labels = make_labels()
    runs = {"a": [make_run(labels, 1)], "b": [make_run(labels, 2)]}
    one, two = (fuse(FusionConfig("f", ("a", "b")), runs, labels, TEST_IDS) for _ in range(2))
    assert one.description == two.description
    np.testing.assert_array_equal(one.test.emotion, two.test.emotion)


def test_clips_in_another_order_are_aligned():
    labels = make_labels()
    run, back = make_run(labels, 1), np.arange(N)[::-1]

    def reverse(p):
        return Predictions(p.clip_id[back], p.age[back], p.country[back], p.emotion[back], p.country_codes)

    fusion = fuse(
        FusionConfig("f", ("a",)), {"a": [Run(reverse(run.val), reverse(run.test))]}, labels, TEST_IDS
    )
    np.testing.assert_array_equal(fusion.val.age, run.val.age)
    np.testing.assert_array_equal(fusion.test.age, run.test.age)


def test_wrong_inputs_are_named():
    labels = make_labels()
    run = make_run(labels, 1)
    with pytest.raises(ValueError, match="no runs of system 'b'"):
        fuse(FusionConfig("f", ("a", "b")), {"a": [run]}, labels, TEST_IDS)
    with pytest.raises(ValueError, match="1 of 61 clips have none: t99"):
        fuse(FusionConfig("f", ("a",)), {"a": [run]}, labels, [*TEST_IDS, "t99"])
    holed = replace(run.val, age=np.where(np.arange(N) == 3, np.nan, run.val.age))
    with pytest.raises(ValueError, match="no age for 1 of 60 clips, first 'v03'"):
        fuse(FusionConfig("f", ("a",)), {"a": [Run(holed, run.test)]}, labels, TEST_IDS)
    with pytest.raises(ValueError, match="countries"):
        other = Run(replace(run.val, country_codes=(0, 1)), replace(run.test, country_codes=(0, 1)))
        fuse(FusionConfig("f", ("a",)), {"a": [other]}, labels, TEST_IDS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"systems": ()}, "systems"),
        ({"systems": ("a", "a")}, "systems"),
        ({"rule": "best"}, "rule"),
        ({"step": 0.3}, "step"),
        ({"step": 0.0}, "step"),
        ({"emotion_from": "c"}, "emotion_from"),
    ],
)
def test_a_config_that_cannot_work_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        FusionConfig(**({"name": "f", "systems": ("a", "b")} | wrong))
