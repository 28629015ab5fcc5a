"""Run one Snakemake job: its log, its threads and its errors. Imports nothing heavy.

A script of the workflow defines a function that maps the ``snakemake`` object to one call of this package, and passes
it to `run_job`.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run_job(main: Callable[[Any], None], snakemake: Any) -> None:  # noqa: ANN401 - Snakemake's object has no public type
    """Call ``main(snakemake)`` with logging to ``snakemake.log[0]``; an error ends the job, with its traceback there.

    Parameters
    ----------
    main : callable
        Takes the ``snakemake`` object.
    snakemake : object
        As Snakemake gives it to a script.
    """
    limit_threads(snakemake.threads)
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=path,
        filemode="w",
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        force=True,
    )
    logging.captureWarnings(True)
    log = logging.getLogger("exvo")
    start = time.perf_counter()
    log.info("%s, %d threads", snakemake.rule, snakemake.threads)
    try:
        main(snakemake)
    except Exception as error:
        log.exception("the job failed")
        # Snakemake shows the log (show-failed-logs); a second traceback would only hide it.
        print(f"{snakemake.rule}: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    log.info("done in %.1f s", time.perf_counter() - start)


def limit_threads(n_threads: int) -> None:
    """Set the number of threads of the numerical libraries; call it before they are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(n_threads)


def lend_to_scripts(source: Path) -> None:
    """Let the scripts that this process starts import the package from a checkout.

    Parameters
    ----------
    source : Path
        The folder that holds the package.
    """
    paths = [str(source), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
