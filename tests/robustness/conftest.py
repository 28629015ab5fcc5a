"""A finished run of everything in miniature, made once for all tests of this folder that want it."""

import pytest
from all_kinds import TARGETS, workflow_of_all_kinds
from workflow_copy import Workflow


@pytest.fixture(scope="session")
def all_kinds(tmp_path_factory) -> Workflow:
    workflow = workflow_of_all_kinds(tmp_path_factory.mktemp("all_kinds") / "workflow")
    workflow.run(*TARGETS)
    return workflow
