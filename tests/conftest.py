"""A made-up finished run, for the tests of the report and of what browsers make of it."""

import pytest
from made_run import MadeRun


@pytest.fixture(scope="session")
def made_run(tmp_path_factory):
    return MadeRun(tmp_path_factory.mktemp("made") / "run")
