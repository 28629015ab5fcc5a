"""Runs from places, and on files, that Snakemake itself does not get past."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import small_workflow
from workflow_copy import Workflow

pytestmark = pytest.mark.xdist_group("robustness")
DECODED = "results/quality/check_raw.json"


def run(workflow: Workflow, *, python: str | Path = sys.executable, check: bool = True) -> str:
    """Decode with the Python of a path of its own, and return what was printed."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    workflow.run(DECODED, flags=("--dry-run",))  # writes the config
    done = subprocess.run(
        [python, "-m", "snakemake", "--cores", "2", "--configfile", "test.yaml", "--", DECODED],
        cwd=workflow.root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert not check or done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Workflow:
    workflow = small_workflow(tmp_path_factory.mktemp("made") / "workflow")
    shutil.rmtree(workflow.corpus / "wav")
    return workflow


def test_a_checkout_with_its_environment_may_stand_under_spaces_and_quotes(made, tmp_path):
    workflow = made.copy(tmp_path / "my lab (2) it's" / "workflow")
    environment = workflow.root / ".venv"
    environment.symlink_to(sys.prefix)
    run(workflow, python=environment / "bin/python")
    assert (workflow.root / DECODED).is_file()


def test_a_checkout_under_braces_is_refused_at_once(made, tmp_path):
    workflow = made.copy(tmp_path / "{lab}" / "workflow")
    (workflow.root / "test.yaml").write_text("{}")
    printed = workflow.run(DECODED, flags=("--dry-run",), check=False)
    assert "no job can start from a folder with braces in its path. Move the checkout" in printed
    assert "Traceback" not in printed and "NameError" not in printed


def test_sources_dated_in_the_future_are_read_and_their_results_kept(made, tmp_path):
    """Of a table, Test labels and recordings; and what was made is not made again."""
    workflow = made.copy(tmp_path / "workflow")
    later = time.time() + 5 * 3600
    for path in (*workflow.corpus.glob("*.csv"), *(workflow.corpus / "raw").iterdir()):
        os.utime(path, (later, later))
    run(workflow)
    assert workflow.planned(DECODED) == set()


def test_scripts_dated_in_the_future_are_reported(made, tmp_path):
    workflow = made.copy(tmp_path / "workflow")
    notice = "scripts of rules are dated in the future"
    assert notice not in workflow.run(DECODED, flags=("--dry-run",))
    later = time.time() + 5 * 3600
    os.utime(workflow.root / "workflow/scripts/convert_clips.py", (later, later))
    assert notice in workflow.run(DECODED, flags=("--dry-run",))


def test_a_result_from_the_future_is_still_no_input(made, tmp_path):
    """Only sources are passed over: between jobs it is a wrong clock, as Snakemake says."""
    workflow = made.copy(tmp_path / "workflow")
    run(workflow)
    (workflow.root / DECODED).unlink()
    later = time.time() + 5 * 3600
    os.utime(workflow.root / "results/audio/raw/0000.parquet", (later, later))
    assert "older modification time" in run(workflow, check=False)
    assert not (workflow.root / DECODED).exists()
