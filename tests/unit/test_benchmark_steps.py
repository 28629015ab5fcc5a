"""Which jobs the report counts as its cost."""

import pytest
import yaml
from test_plan import completed
from workflow_copy import REPOSITORY

from exvo.corpus.demo import make_demo_corpus
from exvo.workflow.benchmark_steps import benchmark_steps
from exvo.workflow.plan import Plan

SHARDS = ("0000", "0001")
FINE_TUNED = {"stage": "raw", "feature": "hubert", "encoder": "hubert", "training": {"fine_tune": {}}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    make_demo_corpus(root, n_clips=36, n_speakers=12, seed=1, n_workers=1)
    return root


def steps(corpus, systems, **sections):
    """Return the steps of a run of some systems alone, all in one fusion."""
    config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    config["corpus"] = {"root": str(corpus), "shards": 2}
    config |= {"seeds": [0, 1], "systems": systems, "tables": {"table1": {}}}
    config["fusions"] = {"all": {"systems": list(systems)}}
    for name, section in sections.items():
        config[name] = config.get(name, {}) | section
    return benchmark_steps(Plan(completed(config)))


def parts(folder):
    return [f"{folder}/{shard}" for shard in SHARDS]


def test_a_fine_tuned_system_cost_its_front_end_and_not_the_embeddings(corpus):
    found = steps(corpus, {"tuned": FINE_TUNED})
    assert found == {
        "audio, raw": parts("audio/raw"),
        "counting broken clips": ["quality/check_raw"],
        "hubert_frontend, raw": parts("features/hubert_frontend/raw"),
        "training, tuned": ["models/tuned/0", "models/tuned/1"],
        "quality": ["quality"],
        "fusion, scores, tables": ["fusion"],
    }
    found = steps(corpus, {"tuned": FINE_TUNED, "frozen": FINE_TUNED | {"training": {}}})
    assert found["hubert, raw"] == parts("features/hubert/raw") and "hubert_frontend, raw" in found


def test_strfs_at_other_speeds_cost_statistics_figures_and_more_audio(corpus):
    training = {"frontend": "strf", "speed_perturbation": True}
    entry = {"stage": "baseline", "feature": "logmel", "encoder": "conformer", "training": training}
    found = steps(corpus, {"strf": entry})
    derived = [f"baseline@{speed}/{shard}" for speed in (0.9, 1.1) for shard in SHARDS]
    assert found["counting broken clips"] == ["quality/check_baseline"]
    assert found["logmel statistics, baseline"] == ["features/logmel/baseline/statistics"]
    assert found["STRF figures"] == ["figures/strf/strf_0"]
    assert found["audio, baseline at other speeds"] == [f"audio/{name}" for name in derived]
    assert found["logmel, baseline at other speeds"] == [f"features/logmel/{name}" for name in derived]


def test_a_feature_fusion_costs_what_it_reads_of_its_systems(corpus):
    systems = {"mlp": {"stage": "raw", "feature": "opensmile", "encoder": "mlp"}, "tuned": FINE_TUNED}
    entry = {"systems": list(systems), "rule": "feature_fusion"}
    fusions = {"pooled": entry, "features": entry | {"inputs": "features"}}
    found = steps(corpus, systems, fusions=fusions)
    pooled = [f"utterance_embeddings/systems/{name}/{seed}" for seed in (0, 1) for name in systems]
    by_feature = [f"utterance_embeddings/features/{name}/raw" for name in ("opensmile", "hubert_frontend")]
    assert found["utterance embeddings"] == pooled + by_feature
    assert found["training, pooled"] == ["fusion/pooled/0", "fusion/pooled/1"]


@pytest.mark.parametrize(
    "checkpoint", ["results/pretrain/second", "results/pretrain/second/model.safetensors"]
)
def test_an_encoder_of_ones_own_costs_all_that_it_was_made_from(corpus, checkpoint):
    pretrain = {
        "stage": "dc",
        "clusters": {"mfcc": {"of": "mfcc"}, "hidden": {"of": "hidden", "model": "first", "layer": 1}},
        "models": {
            "first": {"targets": ["mfcc"], "encoder": {"frontend": "conv"}},
            "second": {"targets": ["hidden"]},
            "other": {"targets": ["mfcc"]},
        },
    }
    features = {"hubert": {"source": "checkpoint", "checkpoint": checkpoint}}
    found = steps(corpus, {"tuned": FINE_TUNED}, pretrain=pretrain, features=features)
    made = {name: found[name] for name in found if "dc" in name or name.startswith(("clusters", "pre-"))}
    assert made == {
        "clusters, mfcc": ["clusters/mfcc/clusters", *parts("clusters/mfcc")],
        "logmel, dc": parts("features/logmel/dc"),
        "waveform, dc": parts("features/waveform/dc"),
        "pre-training, first": ["pretrain/first"],
        "clusters, hidden": ["clusters/hidden/clusters", *parts("clusters/hidden")],
        "pre-training, second": ["pretrain/second"],
    }
    # Someone else's folder of the same name is no part of this run.
    elsewhere = {"hubert": {"source": "checkpoint", "checkpoint": f"/elsewhere/{checkpoint}"}}
    assert "pre-training, second" not in steps(
        corpus, {"tuned": FINE_TUNED}, pretrain=pretrain, features=elsewhere
    )
