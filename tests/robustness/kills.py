"""Killing a job of a run at a moment of its work, as its log and its files tell of it."""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

# Rules that share the script of another.
SCRIPTS = {"extract_hubert_frontend": "extract_hubert"}
TRAINING = ("pretrain_hubert", "train_system", "train_feature_fusion")
# What a training says once it trains: an epoch or some steps are done, or it goes on from a checkpoint.
_TRAINS = re.compile(r" INFO (?:epoch \d|step \d|\{|(?:pre-)?training resumes)")
BEFORE, INSIDE, TRAINS, WRITES, AFTER = PHASES = (
    "before its log began",
    "loading or computing",
    "training",
    "writing a file",
    "after its end",
)


@dataclass(frozen=True)
class Job:
    """A job of a run: its process, and the log and the unfinished files that were there when it was found."""

    process: psutil.Process
    root: Path
    unfinished: frozenset[Path]

    @property
    def runs(self) -> bool:
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def log(self) -> Path | None:
        """Return the log once the job has opened it."""
        logs = str(self.root / "results/logs")
        try:
            return next((Path(f.path) for f in self.process.open_files() if f.path.startswith(logs)), None)
        except psutil.Error:
            return None


def unfinished(root: Path) -> frozenset[Path]:
    return frozenset((root / "results").rglob(".*.tmp"))


def wait_for_job(run: subprocess.Popen, rule: str, root: Path, seconds: float = 3600) -> Job | None:
    """Return a rule's job once it is there; None where the run ends without one."""
    until = time.monotonic() + seconds
    while run.poll() is None:
        assert time.monotonic() < until, f"no job of {rule} came to run"
        try:
            for process in psutil.Process(run.pid).children(recursive=True):
                if any(part.endswith(f".{SCRIPTS.get(rule, rule)}.py") for part in process.cmdline()):
                    return Job(process, root, unfinished(root))
        except psutil.Error:  # a process that ended while it was looked at
            pass
        time.sleep(0.02)
    return None


def lines_of(log: Path | None) -> list[str]:
    return log.read_text().splitlines() if log is not None and log.is_file() else []


def measured(log: Path, *, training: bool) -> float:
    """Return how many seconds an undisturbed job took, from the first line of its log or from where it trained."""
    lines = [line for line in lines_of(log) if re.match(r"\d{4}-\d\d-\d\d ", line)]
    first = next(line for line in lines if not training or _TRAINS.search(line))
    times = [datetime.fromisoformat(line[:23].replace(",", ".")) for line in (first, lines[-1])]
    return (times[1] - times[0]).total_seconds()


def kill_at(
    run: subprocess.Popen, job: Job, victim: str, share: float, undisturbed: Path, *, training: bool
) -> str | None:
    """Kill when a share of a job's time has passed, and return its phase; None where there was nothing to kill.

    Parameters
    ----------
    run : subprocess.Popen
        Snakemake, in a process group of its own.
    job : Job
    victim : {"job", "snakemake", "both"}
        Where it is Snakemake alone, the job lives on.
    share : float
        Of the time that the job took in the undisturbed run, counted from the first line of its log or, of
        ``training``, from where it trains.
    undisturbed : Path
        The folder of that run.
    training : bool
    """
    log = None
    while job.runs:
        log = log or job.log()
        lines = lines_of(log)
        if lines and (not training or any(map(_TRAINS.search, lines))):
            break
        time.sleep(0.005)
    if log is not None:
        until = time.monotonic() + share * measured(
            undisturbed / log.relative_to(job.root), training=training
        )
        while time.monotonic() < until and job.runs:
            time.sleep(0.005)
    phase = _phase(job, lines_of(log))
    try:
        if victim == "job":
            job.process.kill()
        elif victim == "snakemake":
            run.kill()
        else:
            os.killpg(run.pid, signal.SIGKILL)
    except (psutil.Error, ProcessLookupError):
        return None
    return phase


def _phase(job: Job, lines: list[str]) -> str:
    if not job.runs or any(" INFO done in " in line for line in lines):
        return AFTER
    if not lines:
        return BEFORE
    if unfinished(job.root) - job.unfinished:
        return WRITES
    return TRAINS if any(map(_TRAINS.search, lines)) else INSIDE
