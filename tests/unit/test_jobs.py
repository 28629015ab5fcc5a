import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
SCRIPT = """
from types import SimpleNamespace
from exvo.workflow.jobs import run_job

def main(snakemake):
    import os
    assert os.environ["OMP_NUM_THREADS"] == "3"
    {body}

run_job(main, SimpleNamespace(log=["{log}"], rule="some_rule", threads=3))
"""


def run(tmp_path, body):
    log = tmp_path / "logs/job.log"
    code = textwrap.dedent(SCRIPT).format(body=body, log=log)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr, log.read_text()


def test_a_job_logs_what_it_says_and_warns_of(tmp_path):
    body = "import logging, warnings; logging.info('halfway'); warnings.warn('beware')"
    code, _, log = run(tmp_path, body)
    assert code == 0
    assert "some_rule, 3 threads" in log and "halfway" in log and "beware" in log and "done in" in log


def test_the_real_error_is_in_the_log_and_its_message_on_the_terminal(tmp_path):
    code, error, log = run(tmp_path, "raise ValueError('clip 7 is odd')")
    assert code == 1
    assert "Traceback" in log and "ValueError: clip 7 is odd" in log
    assert error.strip() == "some_rule: ValueError: clip 7 is odd"


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_a_script_can_be_imported_without_running_and_cheaply(script):
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); "
        f"import {script}; assert callable({script}.main); "
        "heavy = {'torch', 'scipy', 'pandas', 'opensmile'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
