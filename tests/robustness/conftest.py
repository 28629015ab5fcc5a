"""Finished runs of everything in miniature, made once for all tests of this folder that want them."""

import pytest
from all_kinds import TARGETS, from_scratch, workflow_of_all_kinds
from workflow_copy import Workflow


@pytest.fixture(scope="session")
def all_kinds(tmp_path_factory) -> Workflow:
    workflow = workflow_of_all_kinds(tmp_path_factory.mktemp("all_kinds") / "workflow")
    workflow.run(*TARGETS)
    return workflow


@pytest.fixture(scope="session")
def in_three_shards(all_kinds, tmp_path_factory) -> Workflow:
    """The same from scratch, the corpus cut otherwise and named by its whole path."""
    return from_scratch(all_kinds, tmp_path_factory.mktemp("three") / "workflow", shards=3, whole_path=True)
