"""Pre-training on demand: which jobs an encoder needs, and that they see listed Train clips only."""

import json

import pyarrow.parquet as pq
import pytest

from exvo.corpus.table import read_corpus
from exvo.hubert.weights import load_hubert

pytestmark = pytest.mark.xdist_group("workflow")

SHARDS = ("0000", "0001")
SMALL = {"d_model": 16, "n_heads": 2, "ffn": 32, "n_layers": 1, "positional_groups": 2}


def labelled(clusters):
    label = "Labelling the frames of shard {} with the clusters {}"
    return {f"Fitting the clusters {clusters}"} | {label.format(shard, clusters) for shard in SHARDS}


FIRST = labelled("mfcc") | {"Pre-training first"}
SECOND = labelled("hidden") | {"Pre-training second"}
UNPACKED = {f"Unpacking the samples of shard {shard} (raw)" for shard in SHARDS}


@pytest.fixture(scope="module")
def workflow(finished, tmp_path_factory):
    """Two iterations, on all but one of the Train clips of a finished run."""
    workflow = finished.copy(tmp_path_factory.mktemp("pretrain") / "workflow")
    labels = read_corpus(workflow.corpus).labels
    train = sorted(labels.clip_id[labels.split == "Train"])
    (workflow.root / "clips.txt").write_text("\n".join(train[1:]) + "\n")
    training = {"max_steps": 3, "report_every": 2}
    workflow.config["pretrain"] = {
        "clips": "clips.txt",
        "clusters": {
            "mfcc": {"of": "mfcc", "k": 8},
            "hidden": {"of": "hidden", "model": "first", "layer": 1, "k": 6},
        },
        "models": {
            "first": {"targets": ["mfcc"], "encoder": SMALL, "training": dict(training)},
            "second": {"targets": ["hidden"], "start": "first", "encoder": SMALL, "training": dict(training)},
        },
    }
    target = "results/pretrain/second/model.safetensors"
    # Log-mel of raw is there already.
    assert workflow.planned(target) == FIRST | SECOND
    assert workflow.planned() == set()
    workflow.run(target)
    assert workflow.planned(target) == set()
    return workflow, train


def test_only_listed_train_clips_are_labelled(workflow):
    workflow, train = workflow
    for clusters in ("mfcc", "hidden"):
        folder = workflow.root / "results/clusters" / clusters
        found = [
            c for shard in SHARDS for c in pq.read_table(folder / f"{shard}.parquet")["clip_id"].to_pylist()
        ]
        assert sorted(found) == train[1:]
        report = json.loads((folder / "clusters.json").read_text())["report"]
        assert report["n_clips"] == len(train) - 1 and 1 < report["perplexity"] <= 8


def test_the_encoder_is_one_that_embeddings_can_be_taken_of(workflow):
    workflow, train = workflow
    folder = workflow.root / "results/pretrain/second"
    loaded = load_hubert({"source": "checkpoint", "checkpoint": str(folder), "sha256": None})
    assert loaded.model.config.d_model == 16
    recipe = json.loads((folder / "pretraining.json").read_text())
    assert recipe["n_clips"] + recipe["n_heldout"] == len(train) - 1
    assert not (folder / "checkpoint.pt").exists()
    assert len((folder / "curves.csv").read_text().splitlines()) == 3


def test_a_change_reruns_what_it_touches(workflow):
    workflow, train = workflow
    target = "results/pretrain/second/model.safetensors"
    pretrain = workflow.config["pretrain"]

    def planned(change):
        before = json.dumps(pretrain)
        change()
        jobs = workflow.planned(target)
        pretrain.clear()
        pretrain.update(json.loads(before))
        return jobs

    def models(name, key, value):
        return lambda: pretrain["models"][name][key].update(value)

    assert planned(models("second", "training", {"max_steps": 4})) == {"Pre-training second"}
    assert planned(models("first", "training", {"max_steps": 4})) == {"Pre-training first"} | SECOND
    assert planned(lambda: pretrain["clusters"]["hidden"].update(k=5)) == SECOND
    assert planned(lambda: pretrain.update(clips=None)) == FIRST | SECOND
    assert planned(lambda: pretrain.update(seed=1)) == FIRST | SECOND
    waves = {"targets": ["mfcc"], "encoder": {**SMALL, "frontend": "conv"}}
    with_waves = json.dumps(pretrain["models"] | {"waves": waves})
    assert planned(lambda: pretrain.update(models=json.loads(with_waves))) == set()
    pretrain["models"]["waves"] = waves
    assert workflow.planned("results/pretrain/waves/model.safetensors") == UNPACKED | {"Pre-training waves"}
    del pretrain["models"]["waves"]
    listed = workflow.root / "clips.txt"
    clips = listed.read_text()
    listed.write_text(clips)  # touched, not changed
    assert workflow.planned(target) == set()
    val = read_corpus(workflow.corpus).labels
    listed.write_text(f"{train[1]}\n{val.clip_id[val.split == 'Val'][0]}\n")
    assert "only clips of Train may be pre-trained on" in workflow.run(target, check=False)
    listed.write_text(clips)


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("cluster_inputs.py", "import numpy as np", "import numpy as np\nEDITED = 1", FIRST | SECOND),
        ("loop.py", "import torch", "import torch\nEDITED = 1", {"Pre-training first"} | SECOND),
        ("loop.py", "import torch", "import torch  # edited", set()),
    ],
)
def test_an_edited_module_reruns_what_it_implements(workflow, tmp_path, module, old, new, expected):
    copy = workflow[0].copy(tmp_path / "copy")
    path = copy.root / "src/exvo/pretraining" / module
    assert f"{old}\n" in path.read_text()
    path.write_text(path.read_text().replace(f"{old}\n", f"{new}\n", 1))
    assert copy.planned("results/pretrain/second/model.safetensors") == expected
