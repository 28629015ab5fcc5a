"""Every kind of bad clip through every stage, feature, system and fusion to the report: EXVO_CHANGES=all."""

import json
import os
import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from all_kinds import FEATURE_FUSION, SYSTEMS, TARGETS
from bad_corpus import add_bad_clips
from small_run import SUBMISSION
from test_determinism import FEATURES, MODELS, STAGES, frames, rows

from exvo.audio.store import WITHOUT_AUDIO
from exvo.corpus.table import read_corpus
from exvo.evaluation.check_submission import check_submission
from exvo.evaluation.predictions import read_predictions

pytestmark = [
    pytest.mark.xdist_group("all kinds"),
    pytest.mark.skipif(os.environ.get("EXVO_CHANGES") != "all", reason="a whole run: make test-changes"),
]


@pytest.fixture(scope="module")
def mixed(all_kinds, tmp_path_factory):
    """The run of all kinds anew, with bad clips; and these."""
    workflow = all_kinds.copy(tmp_path_factory.mktemp("whole") / "workflow")
    for folder in ("results", ".snakemake"):
        shutil.rmtree(workflow.root / folder)
    bad = add_bad_clips(workflow)
    workflow.run(*TARGETS)
    return workflow, bad


@pytest.mark.parametrize(
    "folder", [f"audio/{stage}" for stage in STAGES] + [f"features/{name}" for name in FEATURES]
)
def test_good_clips_are_those_of_a_run_without_the_bad_ones(all_kinds, mixed, folder):
    workflow, bad = mixed
    (_, expected), (_, found) = (rows(run, folder) for run in (all_kinds, workflow))
    assert found.num_rows > expected.num_rows
    good = pc.is_in(found["clip_id"], expected["clip_id"].combine_chunks())
    assert {*found.filter(pc.invert(good))["clip_id"].to_pylist()} <= {*bad}
    assert found.filter(good).equals(expected)
    before, after = (frames(run, folder) for run in (all_kinds, workflow))
    assert [clip_id for clip_id in before if after[clip_id] != before[clip_id]] == []


@pytest.mark.parametrize("model", MODELS)
def test_every_model_predicts_every_clip_and_by_its_prior_where_there_is_no_audio(mixed, model):
    workflow, _ = mixed
    labels = read_corpus(workflow.corpus).labels
    quality = pq.read_table(workflow.root / "results/quality/clips.parquet").to_pylist()
    silent = {row["clip_id"] for row in quality if row["raw_status"] in WITHOUT_AUDIO}
    folder = workflow.root / "results" / model / "0"
    priors = json.loads((folder / "config.json").read_text())["priors"]
    for split in ("Val", "Test"):
        found = read_predictions(folder / f"{split.lower()}.parquet")
        assert list(found.clip_id) == list(labels.clip_id[labels.split == split])
        assert np.isfinite(found.age).all() and np.isfinite(found.emotion).all()
        np.testing.assert_allclose(found.country.sum(axis=1), 1, rtol=1e-5)
        by_prior = {c for c, age in zip(found.clip_id, found.age, strict=True) if age == priors["age"]}
        assert by_prior == silent & {*found.clip_id}


def test_the_outcome_and_the_report_are_whole(mixed):
    workflow, _ = mixed
    assert check_submission(workflow.root / SUBMISSION, read_corpus(workflow.corpus)).problems == []
    record = json.loads((workflow.root / "results/fusion/fusion.json").read_text())
    assert {*record["fusions"]} >= {*FEATURE_FUSION, "weighted", "stacked"}
    assert {name for fusion in record["fusions"].values() for name in fusion["systems"]} == {*SYSTEMS}
    page = (workflow.root / "results/report/report.html").read_text()
    assert page.count("<section id=") == 10 and "Without benchmark files" not in page
