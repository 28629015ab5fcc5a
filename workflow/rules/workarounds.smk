import os
import shlex
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# What Snakemake 9.27 does wrong and a run must get past; each has its test in tests/robustness/test_places.py. Jobs read
# this too, since they read the Snakefile.


def quote_python():
    """Let jobs start where the path of Python has a space in it: it is a word of their command lines as it stands.

    https://github.com/snakemake/snakemake/issues/2645
    """
    if os.path.exists(sys.executable):  # not yet quoted
        sys.executable = shlex.quote(sys.executable)


def allow_sources_from_the_future():
    """Let jobs read sources that are newer than what is made of them, as in an archive from another time zone.

    Snakemake would throw away what was made. Whether a job has to run does not go by the age of a source here: sources
    are `ancient()`, and parameters say what is in them. https://github.com/snakemake/snakemake/issues/3254
    """
    check = DAG.check_output_mtime

    async def check_made_files(dag, job, outputs):
        made = [file for file in job.input if not file.is_ancient]
        await check(dag, SimpleNamespace(rule=job.rule, input=made), outputs)

    DAG.check_output_mtime = check_made_files


def refuse_braces():
    """Say at once what no job would get past: Snakemake fills in braces, also in the path of the script of a rule."""
    if "{" in workflow.basedir:
        raise WorkflowError(
            f"{workflow.basedir}: no job can start from a folder with braces in its path. Move the checkout, or rename"
            " the folder."
        )


def tell_of_scripts_from_the_future():
    """Say which jobs run again at every call: Snakemake compares the age of a rule's script with that of its results."""
    scripts = Path(workflow.basedir, "scripts").glob("*.py")
    if any(script.stat().st_mtime > time.time() for script in scripts):
        logger.warning(
            "Notice: scripts of rules are dated in the future, so their jobs run again at every call:"
            f" touch {shlex.quote(workflow.basedir)}/scripts/*.py"
        )


refuse_braces()
if workflow.is_main_process:
    tell_of_scripts_from_the_future()
quote_python()
allow_sources_from_the_future()
