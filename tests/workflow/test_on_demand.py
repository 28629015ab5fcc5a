"""Systems that stand in no table and no fusion: each is trained where its files are asked for, and only there."""

import pytest
from workflow_copy import copy_workflow

from exvo.corpus.demo import make_demo_corpus


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """A workflow of which nothing has run."""
    root = tmp_path_factory.mktemp("demand") / "workflow"
    workflow = copy_workflow(root)
    make_demo_corpus(root / "corpus", n_clips=36, n_speakers=12, seed=1, n_workers=1)
    return workflow


def test_a_system_is_trained_by_its_name_with_what_it_needs(workflow):
    shards = ("0000", "0001")
    steps = ("Decoding shard {} (raw)", "Filtering shard {}", "Denoising shard {}")
    steps += ("Extracting logmel spectrograms of shard {} (denoised)",)
    expected = {step.format(shard) for step in steps for shard in shards}
    expected |= {
        "Counting clips without audio (raw)",
        "Computing the statistics of logmel over Train (denoised)",
    }
    expected |= {"Training conformer-strf-denoised, seed 0"}
    assert workflow.planned("results/models/conformer-strf-denoised/0/metrics.json") == expected


def test_nothing_else_trains_it(workflow):
    jobs = workflow.planned("results/fusion/test_preds.csv", "results/report/report.html", "figures")
    trained = {job for job in jobs if job.startswith("Training conformer")}
    assert trained == {"Training conformer-logmel, seed 0", "Training conformer-strf, seed 0"}
    assert "Drawing the STRF kernels of conformer-strf, seed 0" in jobs
    assert not any("logmel" in job and "denoised" in job for job in jobs)
