"""Rules fitted on Val: equal to references, independent of held-out speakers, and without optimistic bias."""

import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from exvo.corpus.labels import Country, Labels
from exvo.evaluation.metrics import mae, mean_ccc, predicted_class, uar
from exvo.evaluation.predictions import Predictions
from exvo.fusion.combine import task_folds
from exvo.fusion.fuse import CrossFit, FusionConfig, Run, fuse
from exvo.fusion.stacking import LogisticStack, RidgeStack
from exvo.fusion.weights import values_of_weights

COUNTRIES = tuple(Country(code, str(code)) for code in range(3))
TEST_IDS = np.array(["t0", "t1", "t2"])


def make_labels(random, n_speakers=20, n_each=12):
    n = n_speakers * n_each
    speaker = np.repeat(np.arange(n_speakers), n_each)
    return Labels(
        clip_id=np.array([f"v{i}" for i in range(n)]),
        split=np.full(n, "Val"),
        speaker=np.array([f"s{i}" for i in speaker]),
        age=random.uniform(20, 39, n_speakers)[speaker],
        country=(speaker % 3).astype(np.int64),
        emotion=np.clip(random.normal(0.4, 0.25, (n, 10)), 0, 1),
        countries=COUNTRIES,
    )


def predict(random, clip_id, labels=None, noise=1.0):
    """Labels with noise as predictions; noise alone without labels."""
    n = len(clip_id)
    age, emotion = random.normal(30, 4, n), np.clip(random.normal(0.4, 0.2, (n, 10)), 0, 1)
    chance = random.dirichlet(np.ones(3), n)
    if labels is not None:
        age = labels.age + noise * 4 * random.normal(size=n)
        emotion = np.clip(labels.emotion + noise * 0.2 * random.normal(size=(n, 10)), 0, 1)
        chance = (chance + np.eye(3)[labels.country] * (1 - noise / 3)) / (2 - noise / 3)
    return Predictions(clip_id, age, chance, emotion, (0, 1, 2))


def make_runs(random, labels, noises):
    return {
        f"s{i}": [
            Run(
                predict(random, labels.clip_id, labels if w is not None else None, w or 0),
                predict(random, TEST_IDS),
            )
        ]
        for i, w in enumerate(noises)
    }


def fused(rule, runs, labels, cross=CrossFit(), prior=None):  # noqa: B008
    return fuse(FusionConfig("f", tuple(runs), rule=rule), runs, labels, TEST_IDS, cross, prior)


@pytest.mark.parametrize("task", ["emotion", "age", "country"])
def test_the_metric_of_many_weights_is_that_of_each_average(task):
    random = np.random.default_rng(0)
    labels = make_labels(random)
    labels = replace(
        labels, emotion=np.where(random.random(labels.emotion.shape) < 0.3, np.nan, labels.emotion)
    )
    labels.emotion[:, 4] = 0.5
    systems = [predict(random, labels.clip_id, labels, noise) for noise in (0.5, 1, 2)]
    stack = np.stack([getattr(system, task) for system in systems])
    weights = np.array([w for w in product(np.arange(5) / 4, repeat=3) if sum(w) == 1])
    values = values_of_weights(task, labels, stack)(weights)
    metric = {
        "emotion": lambda average: mean_ccc(labels.emotion, average)[1],
        "age": lambda average: -mae(labels.age, average),
        "country": lambda average: uar(labels.country, predicted_class(average)),
    }[task]
    expected = [metric(np.tensordot(w, stack, axes=1)) for w in weights]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


def test_of_equal_probabilities_the_first_country_is_chosen_here_too():
    random = np.random.default_rng(1)
    labels = make_labels(random, 6, 4)
    chance = np.round(random.dirichlet(np.ones(3), len(labels)) * 2) / 2
    stack = np.stack([chance, chance[::-1]])
    for w in ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5]):
        expected = uar(labels.country, predicted_class(np.tensordot(w, stack, axes=1)))
        assert values_of_weights("country", labels, stack)(np.array([w]))[0] == pytest.approx(expected)


def test_the_search_chooses_the_weights_that_trying_each_one_chooses():
    random = np.random.default_rng(2)
    labels = make_labels(random, 10, 6)
    runs = make_runs(random, labels, (0.7, 1.0, 1.4, 2.0))
    tasks = fused("weighted", runs, labels).description["tasks"]
    grid = [np.array(w) / 10 for w in product(range(11), repeat=4) if sum(w) == 10] + [np.full(4, 0.25)]
    for task, record in tasks.items():
        stack = np.stack([getattr(run.val, task) for (run,) in runs.values()])

        def value(w, task=task, stack=stack):
            average = np.tensordot(w, stack, axes=1)
            if task == "emotion":
                return mean_ccc(labels.emotion, average)[1]
            return (
                -mae(labels.age, average) if task == "age" else uar(labels.country, predicted_class(average))
            )

        best = max(value(w) for w in grid)
        tied = [w for w in grid if value(w) > best - 1e-9]
        nearest = min(tied, key=lambda w: (round(float((w**2).sum()), 12), *(-w)))
        assert list(record["weights"].values()) == pytest.approx(nearest)
        assert record["chosen_by"] == "grid" and record["n_candidates"] == 287


def test_five_systems_of_nineteen_thousand_clips_take_a_few_seconds():
    random = np.random.default_rng(3)
    labels = make_labels(random, 400, 48)
    stacks = {
        task: np.stack([getattr(predict(random, labels.clip_id, labels, 1 + i / 5), task) for i in range(5)])
        for task in ("emotion", "age", "country")
    }
    weights = random.dirichlet(np.ones(5), 1001)
    start = time.process_time()
    for task, stack in stacks.items():
        values_of_weights(task, labels, stack)(weights)
    assert time.process_time() - start < 8  # 49 s when each average was made and scored by itself


@pytest.mark.parametrize("rule", ["weighted", "stacked"])
def test_a_speakers_own_labels_do_not_enter_its_out_of_fold_predictions(rule):
    random = np.random.default_rng(4)
    labels = make_labels(random)
    runs = make_runs(random, labels, (0.8, 1.2, None))
    before = fused(rule, runs, labels)
    held_out = labels.speaker == "s7"
    # All labels of this speaker change except the country, which decides the folds.
    changed = replace(
        labels,
        age=np.where(held_out, 80.0, labels.age),
        emotion=np.where(held_out[:, None], 1 - labels.emotion, labels.emotion),
    )
    after = fused(rule, runs, changed)
    for task in ("age", "emotion", "country"):
        np.testing.assert_array_equal(
            getattr(before.out_of_fold, task)[held_out], getattr(after.out_of_fold, task)[held_out]
        )
    assert np.abs(before.out_of_fold.age - after.out_of_fold.age)[~held_out].max() > 0
    if rule == "stacked":
        assert np.abs(before.test.age - after.test.age).max() > 0


@pytest.mark.parametrize("rule", ["weighted", "stacked"])
def test_out_of_fold_scores_of_noise_are_not_optimistic(rule):
    random = np.random.default_rng(5)
    inside, outside = [], []
    for _ in range(7):
        labels = make_labels(random, 10, 4)
        labels = replace(labels, country=np.full(len(labels), -1))
        fusion = fused(rule, make_runs(random, labels, (None,) * 5), labels)
        inside.append(fusion.description["val"]["ccc"])
        outside.append(fusion.description["out_of_fold_val"]["ccc"])
    assert np.mean(inside) > 0.04
    assert np.mean(outside) < 0.02


def test_stacking_undoes_what_an_average_cannot():
    random = np.random.default_rng(6)
    labels = make_labels(random, 40, 20)
    narrow = predict(random, labels.clip_id, labels, 1.0)
    narrow = replace(narrow, emotion=0.4 + 0.2 * (narrow.emotion - 0.4), age=30 + 0.3 * (narrow.age - 45))
    runs = {"a": [Run(narrow, predict(random, TEST_IDS))], **make_runs(random, labels, (1.5,))}
    stacked, average = (
        fused(rule, runs, labels).description["out_of_fold_val"] for rule in ("stacked", "average")
    )
    assert stacked["ccc"] > average["ccc"] + 0.1
    assert stacked["mae"] < average["mae"] - 1
    ages = fused("stacked", runs, labels).description["tasks"]["age"]
    assert ages["model"] == "ridge" and sum(ages["shares"].values()) == pytest.approx(1)


def test_a_ridge_combiner_is_the_ridge_of_its_chosen_penalty_and_inputs():
    random = np.random.default_rng(7)
    labels = make_labels(random)
    systems = [predict(random, labels.clip_id, labels, noise) for noise in (0.6, 1.2, 2)]
    folds = np.arange(len(labels)) % 4
    target = np.where(random.random(len(labels)) < 0.2, np.nan, labels.age)
    stack = np.stack([system.age for system in systems])
    found = RidgeStack(stack, target, folds).fit([0, 1, 3])
    known = ~np.isnan(target) & (folds != 2)
    scaler = StandardScaler().fit(stack.T[known])
    ridge = Ridge(alpha=found.record["penalty"] * known.sum()).fit(
        scaler.transform(stack.T[known]), target[known]
    )
    np.testing.assert_allclose(found(stack), ridge.predict(scaler.transform(stack.T)), rtol=1e-9)

    emotion = np.where(random.random((len(labels), 10)) < 0.2, np.nan, labels.emotion)
    stack = np.stack([system.emotion for system in systems])
    found = RidgeStack(stack, emotion, folds).fit(range(4))
    column = 3
    inputs = stack.transpose(1, 0, 2).reshape(len(labels), -1)
    inputs = inputs[:, column::10] if found.record["inputs"] == "own" else inputs
    known = ~np.isnan(emotion[:, column])
    scaler = StandardScaler().fit(inputs[known])
    target = emotion[known, column]
    ridge = Ridge(alpha=found.record["penalty"] * known.sum()).fit(scaler.transform(inputs[known]), target)
    predicted = ridge.predict(scaler.transform(inputs))
    stretched = target.mean() + (predicted - target.mean()) * target.std() / predicted[known].std()
    np.testing.assert_allclose(found(stack)[:, column], np.clip(stretched, 0, 1), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("n_countries", [2, 3])
def test_logistic_regression_is_that_of_scikit_learn(n_countries):
    random = np.random.default_rng(8)
    labels = make_labels(random)
    country = labels.country % n_countries
    stack = np.stack([predict(random, labels.clip_id, labels, noise).country for noise in (1, 2)])
    folds = np.repeat(np.arange(20), 12) % 4
    found = LogisticStack(stack, country, folds).fit(range(4))
    inputs = np.log(np.maximum(stack, 1e-6)).transpose(1, 0, 2).reshape(len(labels), -1)
    penalty = found.record["penalty"]
    peer = LogisticRegression(C=1 / (penalty * len(labels)), class_weight="balanced", max_iter=2000, tol=1e-8)
    chances = np.zeros((len(labels), 3))
    chances[:, :n_countries] = peer.fit(inputs, country).predict_proba(inputs)
    np.testing.assert_allclose(found(stack), chances, atol=1e-4)


def test_too_few_speakers_are_averaged_with_a_notice():
    random = np.random.default_rng(9)
    labels = make_labels(random)
    few = replace(labels, age=np.where(np.isin(labels.speaker, ["s1", "s2", "s3"]), labels.age, np.nan))
    runs = make_runs(random, labels, (0.8, 1.2))
    few = replace(few, emotion=few.emotion.copy())
    few.emotion[~np.isin(few.speaker, ["s4", "s5"]), 5] = np.nan
    for rule in ("stacked", "weighted"):
        fusion = fused(rule, runs, few)
        age = fusion.description["tasks"]["age"]
        assert age["chosen_by"] == "too few speakers" and set(age["weights"].values()) == {0.5}
        assert any("age: 3 speakers with labels" in note for note in fusion.description["notes"])
    fusion = fused("stacked", runs, few)
    assert any(note.endswith("systems are averaged: Horror") for note in fusion.description["notes"])
    average = np.mean([run.val.emotion[:, 5] for (run,) in runs.values()], axis=0)
    np.testing.assert_allclose(fusion.val.emotion[:, 5], average)
    one_country = replace(labels, country=np.zeros_like(labels.country))
    fusion = fused("stacked", runs, one_country)
    assert fusion.description["tasks"]["country"]["chosen_by"] == "too few speakers"
    assert any("second country" in note for note in fusion.description["notes"])


def test_a_country_of_one_speaker_costs_a_stacked_fusion_nothing():
    random = np.random.default_rng(12)
    labels = make_labels(random, 30, 6)
    country = np.where(labels.country == 2, 0, labels.country)
    alone = replace(labels, country=np.where(labels.speaker == "s7", 2, country))
    runs = make_runs(random, alone, (0.3, 0.3))
    stacked, average = (fused(rule, runs, alone) for rule in ("stacked", "average"))
    # The systems know this country; a fit that has never seen it would miss all of its clips: UAR 2/3 at best.
    assert average.description["out_of_fold_val"]["uar"] > 0.9
    assert stacked.description["out_of_fold_val"]["uar"] == average.description["out_of_fold_val"]["uar"]
    record = stacked.description["tasks"]["country"]
    assert record["chosen_by"] == "too few speakers" and set(record["weights"].values()) == {0.5}
    (note,) = [note for note in stacked.description["notes"] if note.startswith("country")]
    assert note.endswith("too few for a fit: 2, so equal weights")
    # Speakers in three folds are enough.
    three = replace(labels, country=np.where(np.isin(labels.speaker, ["s7", "s8", "s9"]), 2, country))
    assert fused("stacked", runs, three).description["tasks"]["country"]["chosen_by"] == "stacking"


@pytest.mark.parametrize("rule", ["weighted", "stacked", "per_task"])
@pytest.mark.parametrize("n_systems", [3, 8])
def test_an_age_that_cannot_be_learned_costs_nothing(rule, n_systems):
    random = np.random.default_rng(13)
    labels = make_labels(random, 25, 8)
    # Most are young and a few are old: the median is far below the mean, and below any average of these systems.
    age = np.where(random.random(25) < 0.7, 21.0, 60.0)[np.repeat(np.arange(25), 8)]
    labels = replace(labels, age=age)
    runs = make_runs(random, labels, (None,) * n_systems)
    constant = mae(age, np.full(len(age), 21.0))
    without, with_prior = (fused(rule, runs, labels, prior=prior) for prior in (None, 21.0))
    found = with_prior.description
    assert without.description["out_of_fold_val"]["mae"] > constant + 2
    assert found["out_of_fold_val"]["mae"] == pytest.approx(constant, abs=1e-6)
    record = found["tasks"]["age"]
    assert record["train_prior"] == {"weight": 1.0, "years": 21.0}
    assert sum((record.get("weights") or record["shares"]).values()) == pytest.approx(0)
    np.testing.assert_allclose(with_prior.test.age, 21.0)
    for task in ("emotion", "country"):  # only age uses the prior
        assert "train_prior" not in found["tasks"][task]
        np.testing.assert_array_equal(getattr(with_prior.test, task), getattr(without.test, task))


@pytest.mark.parametrize("rule", ["weighted", "stacked"])
def test_the_prior_has_the_weight_that_val_gives_it(rule):
    random = np.random.default_rng(14)
    labels = make_labels(random, 25, 8)
    good = make_runs(random, labels, (0.05, 0.05))
    record = fused(rule, good, labels, prior=25.0).description["tasks"]["age"]
    assert record["train_prior"]["weight"] == 0
    # Of a system that exaggerates by two from the prior, half the way back is right.
    wide = replace(good["s0"][0].val, age=2 * labels.age - 30)
    far = {"a": [Run(wide, replace(predict(random, TEST_IDS), age=np.array([20.0, 30.0, 50.0])))]}
    fusion = fused("weighted", far, labels, prior=30.0)
    record = fusion.description["tasks"]["age"]
    assert record["train_prior"] == {"weight": 0.5, "years": 30.0} and record["weights"] == {"a": 0.5}
    np.testing.assert_allclose(fusion.test.age, [25.0, 30.0, 40.0])
    assert fusion.description["out_of_fold_val"]["mae"] == pytest.approx(0, abs=1e-9)
    # Predictions of a speaker are fitted on other speakers, the weight of the prior included.
    other = replace(labels, age=np.where(labels.speaker == "s7", 90.0, labels.age))
    held_out = labels.speaker == "s7"
    before, after = (fused(rule, far, one, prior=30.0).out_of_fold.age[held_out] for one in (labels, other))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("rule", ["average", "paper"])
def test_rules_that_learn_nothing_know_no_prior(rule):
    random = np.random.default_rng(15)
    labels = make_labels(random, 10, 4)
    runs = make_runs(random, labels, (None, None))
    with_prior, without = (fused(rule, runs, labels, prior=prior) for prior in (30.0, None))
    assert with_prior.description == without.description
    np.testing.assert_array_equal(with_prior.test.age, without.test.age)


def test_per_task_takes_each_task_from_the_rule_that_does_best_on_other_speakers():
    random = np.random.default_rng(11)
    labels = make_labels(random, 40, 8)
    narrow = predict(random, labels.clip_id, labels, 1.0)
    narrow = replace(narrow, emotion=0.4 + 0.2 * (narrow.emotion - 0.4))
    runs = {"a": [Run(narrow, predict(random, TEST_IDS))], **make_runs(random, labels, (1.5, 1.5))}
    parts = {rule: fused(rule, runs, labels) for rule in ("average", "weighted", "stacked")}
    chosen = fused("per_task", runs, labels)
    for task, sign in (("emotion", 1), ("age", -1), ("country", 1)):
        record = chosen.description["tasks"][task]
        scores = {r: sign * p.description["tasks"][task]["out_of_fold_val_score"] for r, p in parts.items()}
        assert scores[record["rule"]] == max(scores.values())
        np.testing.assert_array_equal(getattr(chosen.test, task), getattr(parts[record["rule"]].test, task))
    assert chosen.description["tasks"]["emotion"]["rule"] == "stacked"


def test_per_task_chooses_for_a_fold_by_the_other_folds():
    n_choices = set()
    for seed in range(4):
        random = np.random.default_rng(20 + seed)
        labels = make_labels(random, 10, 4)
        runs = make_runs(random, labels, (1.5, 1.6))
        parts = {
            rule: fused(rule, runs, labels).out_of_fold.age for rule in ("average", "weighted", "stacked")
        }
        found = fused("per_task", runs, labels).out_of_fold.age
        folds = task_folds("age", labels, CrossFit())
        chosen = []
        for fold in range(5):
            others = folds != fold
            errors = {rule: mae(labels.age[others], age[others]) for rule, age in parts.items()}
            chosen.append(min(errors, key=errors.get))
            np.testing.assert_array_equal(found[~others], parts[chosen[-1]][~others])
        n_choices.add(len(set(chosen)))
    assert max(n_choices) > 1  # else the test would not tell folds apart


def test_the_same_call_learns_the_same():
    random = np.random.default_rng(10)
    labels = make_labels(random)
    runs = make_runs(random, labels, (0.8, 1.2))
    one, two, other = (fused("stacked", runs, labels, CrossFit(5, seed)) for seed in (0, 0, 1))
    assert one.description == two.description
    np.testing.assert_array_equal(one.out_of_fold.emotion, two.out_of_fold.emotion)
    assert (one.out_of_fold.age != other.out_of_fold.age).any()
