"""What the jobs of a run cost, from the files that Snakemake wrote of them, and the line of cost against clips."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

PER_SHARD = ("audio", "features")
# Steps whose rules take several threads for a shard.
THREADED = ("audio/raw", "audio/baseline", "features/opensmile/")


@dataclass(frozen=True)
class Job:
    """One finished job.

    Attributes
    ----------
    name : str
        Its benchmark file below ``results/benchmarks``, without the ending.
    step : str
        The name without shard or seed: the jobs of one rule on one stage, feature or system.
    n_clips : int
        Of its shard, or of the corpus where it is no shard job.
    wall_s, cpu_s, peak_mb : float
        NaN where Snakemake had no time to look. CPU time misses most of what child processes (ffmpeg) used.
    threads : int
        Cores that the job holds.
    """

    name: str
    step: str
    n_clips: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    threads: int = 1


@dataclass(frozen=True)
class Run:
    """A run of the workflow, finished or growing.

    Attributes
    ----------
    n_clips : int
        That have been decoded.
    jobs : dict of str to Job
        By name.
    disk_bytes : dict of str to int
        Below ``results``, by kind of file: ``audio/<stage>``, ``features/<feature>/<stage>``, and the other folders.
    """

    n_clips: int
    jobs: dict[str, Job]
    disk_bytes: dict[str, int]


def read_run(folder: Path, threads: int = 2) -> Run:
    """Read the costs of a run.

    Parameters
    ----------
    folder : Path
        Where Snakemake ran: it holds ``results``.
    threads : int
        Of jobs that decode or extract ComParE: two, as the rules say, or what ``--set-threads`` gave them.

    Raises
    ------
    ValueError
        Where there are no benchmarks, or no decoded audio to count clips by.
    """
    results = folder / "results"
    shards = clips_per_shard(results)
    if not shards:
        raise ValueError(f"{results}/audio: no decoded shard, so the clips cannot be counted")
    n_clips, jobs = sum(shards.values()), {}
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        name = path.relative_to(results / "benchmarks").with_suffix("").as_posix()
        step, _, last = name.rpartition("/")
        step = step if last.isdigit() else name
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        of_shard = name.startswith(PER_SHARD) and last.isdigit()
        costs = (number(rows[-1][column]) for column in ("s", "cpu_time", "max_rss"))
        jobs[name] = Job(
            name,
            step,
            shards.get(last, 0) if of_shard else n_clips,
            *costs,
            threads=threads if step.startswith(THREADED) else 1,
        )
    if not jobs:
        raise ValueError(f"{results}/benchmarks: no benchmark files")
    return Run(n_clips, jobs, disk_bytes(results))


def clips_per_shard(results: Path) -> dict[str, int]:
    """Return how many clips each shard has, by the audio that was decoded."""
    for stage in ("raw", "baseline"):
        paths = sorted((results / "audio" / stage).glob("*.parquet"))
        if paths:
            return {path.stem: pq.read_metadata(path).num_rows for path in paths}
    return {}


def disk_bytes(results: Path) -> dict[str, int]:
    """Return the bytes of files below a folder by their kind."""
    depth = {"audio": 2, "features": 3}
    sizes: dict[str, int] = {}
    for path in results.rglob("*"):
        parts = path.relative_to(results).parts
        if path.is_file():
            kind = "/".join(parts[: min(depth.get(parts[0], 1), len(parts))])
            sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
    return sizes


def number(text: str) -> float:
    """Return a number of a benchmark file, NaN for what Snakemake could not measure."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def step_costs(run: Run) -> dict[str, dict[str, float]]:
    """Return what each step of a run took: jobs, clips, summed wall and CPU seconds, the highest peak in MB."""
    costs = {}
    for step in dict.fromkeys(job.step for job in run.jobs.values()):
        jobs = [job for job in run.jobs.values() if job.step == step]
        per_shard = step.startswith(PER_SHARD) and jobs[0].name != step
        peaks = [job.peak_mb for job in jobs if not np.isnan(job.peak_mb)]
        costs[step] = {
            "jobs": len(jobs),
            "clips": sum(job.n_clips for job in jobs) if per_shard else run.n_clips,
            "wall_s": float(np.nansum([job.wall_s for job in jobs])),
            "cpu_s": float(np.nansum([job.cpu_s for job in jobs])),
            "peak_mb": max(peaks) if peaks else float("nan"),
        }
    return costs


def fit_lines(runs: Sequence[Mapping[str, Mapping[str, float]]], what: str) -> dict[str, tuple[float, float]]:
    """Fit a line of a cost against clips for every step, by least squares of relative errors.

    Costs of 1,000 and of 59,201 clips differ sixtyfold; errors are relative, so that small runs count.

    Parameters
    ----------
    runs : sequence of mapping
        Of `step_costs`.
    what : str
        ``wall_s``, ``cpu_s`` or ``peak_mb``.

    Returns
    -------
    dict of str to (fixed, per clip)
        Where all runs have one size, the fixed part cannot be seen and is 0.
    """
    lines = {}
    for step in dict.fromkeys(step for run in runs for step in run):
        points = [(run[step]["clips"], run[step][what]) for run in runs if step in run]
        points = [(x, y) for x, y in points if x > 0 and y > 0]
        if not points:
            continue
        x, y = np.array(points, float).T
        terms = np.stack([np.ones_like(x), x], axis=1) if len(set(x)) > 1 else x[:, np.newaxis]
        solution = np.linalg.lstsq(terms / y[:, np.newaxis], np.ones_like(y), rcond=None)[0]
        lines[step] = (0.0, *solution.tolist())[-2:]
    return lines
