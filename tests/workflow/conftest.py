"""A finished run of the whole workflow on a small corpus, made once for all tests of this folder."""

import pytest
from workflow_copy import Workflow, copy_workflow

from exvo.corpus.demo import make_demo_corpus

REPORT = "results/report/report.html"


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    root = tmp_path_factory.mktemp("finished") / "workflow"
    workflow = copy_workflow(root)
    make_demo_corpus(root / "corpus", n_clips=36, n_speakers=12, seed=1, n_workers=2)
    workflow.run("results/fusion/test_preds.csv", REPORT)
    return workflow
