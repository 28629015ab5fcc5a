import os
import shlex
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# Workarounds for faults of Snakemake 9.27; each has a test in tests/robustness/test_places.py. Jobs read them too, because
# they read the Snakefile.


def quote_python():
    """Let jobs start if the path of Python contains a space: Snakemake puts it into their command lines without quotes.

    https://github.com/snakemake/snakemake/issues/2645
    """
    if os.path.exists(sys.executable):  # not yet quoted
        sys.executable = shlex.quote(sys.executable)


def allow_sources_from_the_future():
    """Let jobs read sources that are newer than their results, as in an archive from another time zone.

    Snakemake would delete the results. The age of a source does not matter here: sources are `ancient()`, and digests of
    them are among the parameters. https://github.com/snakemake/snakemake/issues/3254
    """
    check = DAG.check_output_mtime

    async def check_made_files(dag, job, outputs):
        made = [file for file in job.input if not file.is_ancient]
        await check(dag, SimpleNamespace(rule=job.rule, input=made), outputs)

    DAG.check_output_mtime = check_made_files


def refuse_braces():
    """Refuse a folder with braces, in which no job can start: Snakemake reads them as wildcards in paths of scripts."""
    if "{" in workflow.basedir:
        raise WorkflowError(
            f"{workflow.basedir}: no job can start from a folder with braces in its path. Move the checkout, or rename"
            " the folder."
        )


def warn_of_scripts_from_the_future():
    """Warn of scripts from the future, whose jobs run at every call: Snakemake compares their age with the results'."""
    scripts = Path(workflow.basedir, "scripts").glob("*.py")
    if any(script.stat().st_mtime > time.time() for script in scripts):
        logger.warning(
            "Notice: scripts of rules are dated in the future, so their jobs run again at every call:"
            f" touch {shlex.quote(workflow.basedir)}/scripts/*.py"
        )


refuse_braces()
if workflow.is_main_process:
    warn_of_scripts_from_the_future()
quote_python()
allow_sources_from_the_future()
