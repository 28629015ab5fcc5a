"""The same bits from run to run, wherever it runs, however many jobs run at once, and however the corpus is cut."""

import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from all_kinds import FEATURE_FUSION, POOLED, SYSTEMS, TARGETS, all_rules, from_scratch
from small_run import results

from exvo.features.store import read_sequences

pytestmark = pytest.mark.xdist_group("all kinds")


def test_every_rule_is_in_the_runs(all_kinds):
    printed = all_kinds.run(*TARGETS, flags=("--dry-run", "--forceall"))
    counts = printed.partition("Job stats:")[2].partition("total")[0]
    assert {*re.findall(r"^(\w+) +\d+$", counts, re.MULTILINE)} == all_rules()


@pytest.mark.skipif(os.environ.get("EXVO_CHANGES") != "all", reason="a third whole run: make test-changes")
def test_two_runs_from_scratch_leave_the_same_bytes(all_kinds, tmp_path):
    # More jobs at once, but no job has more threads: rules ask for two at most.
    again = from_scratch(all_kinds, tmp_path / "elsewhere", "--cores", "3")
    expected, found = results(all_kinds), results(again)
    assert list(found) == list(expected)
    assert [path for path in found if found[path] != expected[path]] == []


def rows(workflow, folder):
    """Return all rows of the shards of a folder, in id order, but for where in a shard the frames of a clip are."""
    paths = sorted((workflow.root / "results" / folder).glob("*.parquet"))
    table = pa.concat_tables(pq.read_table(path) for path in paths).sort_by("clip_id")
    return len(paths), table.drop_columns([name for name in ("start",) if name in table.column_names])


def frames(workflow, folder):
    found = {}
    for path in sorted((workflow.root / "results" / folder).glob("*.npy")):
        values, index = read_sequences(path, path.with_suffix(".parquet"))
        for row in index.to_pylist():
            found[row["clip_id"]] = values[row["start"] : row["start"] + row["n_frames"]].tobytes()
    return found


STAGES = ("raw", "dc", "denoised", "vad", "raw@0.9", "raw@1.1")
FEATURES = (
    "opensmile/vad",
    "logmel/raw",
    "logmel/raw@0.9",
    "logmel/raw@1.1",
    "hubert/denoised",
    "hubert_frontend/raw",
)


@pytest.mark.parametrize("stage", STAGES)
def test_audio_does_not_depend_on_the_shards(all_kinds, in_three_shards, stage):
    (n_two, two), (n_three, three) = (
        rows(all_kinds, f"audio/{stage}"),
        rows(in_three_shards, f"audio/{stage}"),
    )
    assert (n_two, n_three) == (2, 3) and two.equals(three)


@pytest.mark.parametrize("feature", FEATURES)
def test_features_do_not_depend_on_the_shards(all_kinds, in_three_shards, feature):
    (_, two), (_, three) = (rows(w, f"features/{feature}") for w in (all_kinds, in_three_shards))
    assert two.equals(three)
    two, three = (frames(w, f"features/{feature}") for w in (all_kinds, in_three_shards))
    assert [clip_id for clip_id in two if two[clip_id] != three[clip_id]] == []


REPRESENTATIONS = [f"systems/{system}" for system in POOLED] + [
    f"features/{feature}" for feature in ("opensmile", "logmel", "hubert")
]


@pytest.mark.parametrize("folder", REPRESENTATIONS)
def test_vectors_do_not_depend_on_the_shards(all_kinds, in_three_shards, folder):
    """They stand in the order of the shards, in one file whatever the shards."""
    folder = f"utterance_embeddings/{folder}"
    (n_two, two), (n_three, three) = (rows(w, folder) for w in (all_kinds, in_three_shards))
    assert n_two == n_three == 1 and two.equals(three)
    two, three = (frames(w, folder) for w in (all_kinds, in_three_shards))
    assert [clip_id for clip_id in two if two[clip_id] != three[clip_id]] == []


MODELS = [f"models/{system}" for system in SYSTEMS] + [f"fusion/{fusion}" for fusion in FEATURE_FUSION]


@pytest.mark.parametrize("model", MODELS)
def test_weights_and_predictions_do_not_depend_on_the_shards(all_kinds, in_three_shards, model):
    two, three = results(all_kinds), results(in_three_shards)
    names = [path for path in two if path.startswith(f"{model}/")]
    assert len(names) >= 6
    assert [name for name in names if two[name] != three[name]] == []


def test_what_is_submitted_and_said_does_not_depend_on_the_shards(all_kinds, in_three_shards):
    two, three = results(all_kinds), results(in_three_shards)
    names = [
        path for path in two if path.split("/")[0] in ("fusion", "tables", "quality", "figures", "pretrain")
    ]
    assert [name for name in names if two[name] != three[name]] == []
