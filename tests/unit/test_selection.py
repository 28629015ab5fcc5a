"""Which candidate is submitted, and what is said of the others."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_stacking import TEST_IDS, make_labels, make_runs

from exvo.evaluation.bootstrap import BootstrapConfig, SpeakerBootstrap, difference
from exvo.evaluation.metrics import Scores, score
from exvo.fusion.fuse import CrossFit, FusionConfig, Run
from exvo.fusion.selection import Candidate, describe, find_candidates, ranked

NAN = float("nan")


def scored(name, ccc, uar, mae):
    s_mtl = 99.0  # never used: computed again from its parts
    return Candidate(
        name, "fusion", None, Scores(ccc, (ccc,) * 10, uar, mae, s_mtl, 9, 9, 9, ("emotion",)), None
    )


def names(candidates):
    return [candidate.name for candidate in ranked(candidates)]


def test_the_best_has_the_highest_s_mtl():
    # 3 / (1/0.5 + 1/0.5 + 4) = 0.375; 3 / (1/0.6 + 1/0.5 + 4.5) = 0.367; 3 / (1/0.4 + 1/0.6 + 3.5) = 0.391
    assert names([scored("a", 0.5, 0.5, 4), scored("b", 0.6, 0.5, 4.5), scored("c", 0.4, 0.6, 3.5)]) == list(
        "cab"
    )


def test_without_s_mtl_more_tasks_come_first_then_their_harmonic_mean():
    candidates = [
        scored("age only", NAN, NAN, 1.0),
        scored("no emotion", -0.1, 0.5, 4),
        scored("no emotion, better", -0.3, 0.6, 4),
        scored("all, badly", 0.01, 0.3, 9),
        scored("nothing", NAN, NAN, NAN),
    ]
    assert names(candidates) == ["all, badly", "no emotion, better", "no emotion", "age only", "nothing"]
    assert names([scored("first", NAN, NAN, NAN), scored("second", NAN, NAN, NAN)]) == ["first", "second"]


@pytest.fixture(scope="module")
def compared():
    random = np.random.default_rng(0)
    labels = make_labels(random, 25, 8)
    runs = make_runs(random, labels, (0.8, 1.0, 3.0))
    runs["s0"].append(Run(replace(runs["s0"][0].val, age=runs["s0"][0].val.age + 1), runs["s0"][0].test))
    configs = [FusionConfig("w", ("s0", "s1", "s2")), FusionConfig("two", ("s0", "s1"), rule="paper")]
    source = SpeakerBootstrap(labels, BootstrapConfig(resamples=200))
    return labels, runs, find_candidates(configs, runs, labels, TEST_IDS, CrossFit(), source)


def test_candidates_are_the_fusions_and_each_single_system(compared):
    labels, runs, candidates = compared
    assert [(c.name, c.kind) for c in candidates] == [
        ("w", "fusion"),
        ("two", "fusion"),
        ("s0", "system"),
        ("s1", "system"),
        ("s2", "system"),
    ]
    single = candidates[2]
    np.testing.assert_allclose(single.fusion.test.age, runs["s0"][0].test.age)
    np.testing.assert_allclose(single.fusion.out_of_fold.age, runs["s0"][0].val.age + 0.5)
    for candidate in candidates:
        assert candidate.scores == score(labels, candidate.fusion.out_of_fold)
        assert candidate.draws.value("s_mtl") == pytest.approx(candidate.scores.s_mtl, abs=1e-12)


def test_the_record_compares_the_submitted_with_every_other(compared):
    labels, _, candidates = compared
    best = ranked(candidates)[0]
    record = json.loads(json.dumps(describe(candidates, best, None, labels), allow_nan=False))
    assert record["submitted"] == record["candidates"][0]["name"] == best.name
    assert record["runner_up"] == record["candidates"][1]["name"]
    assert set(record["differences"]) == {"w", "two", "s0", "s1", "s2"} - {best.name}
    worst = ranked(candidates)[-1]
    found = difference(best.draws, worst.draws, "s_mtl")
    assert record["differences"][worst.name]["s_mtl"]["value"] == pytest.approx(found.value)
    assert record["differences"][worst.name]["s_mtl"]["p"] < 0.05
    s_mtl = record["candidates"][0]["intervals"]["s_mtl"]
    assert s_mtl["low"] < best.scores.s_mtl < s_mtl["high"] and s_mtl["n_speakers"] == 25
