"""What a real run cost, step by step; the line of cost against clips over several runs; and a run on 32 cores.

It runs nothing: it reads the benchmark files and the sizes of results that runs of the workflow left behind. Give it
one folder for each size of corpus (1,000, 4,000, 16,000 and 59,201 clips, say). The graph of jobs, and so the longest
chain that no number of cores shortens, is that of the largest run; where that is smaller than ``--clips``, its jobs
grow along the lines, in as many shards. Of a run that is still growing, only the jobs that have ended are counted.

Run: ``python benchmarks/bench_scale.py --run DIR [DIR ...] [--clips N] [--cores N]``. It writes
``results/bench/scale.json`` and ``results/bench/scale.md``.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import CHALLENGE_CLIPS as N_CLIPS
from scale_costs import Job, Run, fit_lines, read_run, step_costs
from scale_graph import dependencies, project

RESULTS = Path("results/bench")
N_CORES = 32
MEASURED_CORES = 2
BUDGET_MB = 2000


def gather(folders: Sequence[Path], n_clips: int, cores: int, threads: int = 2) -> dict[str, Any]:
    """Read runs and project them.

    Parameters
    ----------
    folders : sequence of Path
        Where Snakemake ran.
    n_clips : int
        Of the corpus to project to.
    cores : int
    threads : int
        Of jobs that decode or extract ComParE, in these runs.

    Returns
    -------
    dict
        ``runs`` (clips, steps, bytes of disk a clip by kind of file, the highest peak), ``lines`` by step, and
        ``projections``: on the cores that runs are measured on, and on ``cores``.
    """
    runs = sorted(
        ((read_run(folder, threads), folder) for folder in folders), key=lambda pair: pair[0].n_clips
    )
    costs = [step_costs(run) for run, _ in runs]
    lines = {what: fit_lines(costs, what) for what in ("wall_s", "cpu_s", "peak_mb")}
    largest, folder = runs[-1]
    waits_for = dependencies(largest, folder / "results")
    growth = {
        step: max(1.0, at(line, n_clips) / at(line, largest.n_clips))
        for step, line in lines["wall_s"].items()
    }

    def grown(job: Job) -> float:
        return growth.get(job.step, 1.0)

    return {
        "clips": n_clips,
        "runs": [described(run, cost) for (run, _), cost in zip(runs, costs, strict=True)],
        "lines": {
            step: {
                what: {"fixed": by_step[step][0], "per_clip": by_step[step][1]}
                for what, by_step in lines.items()
                if step in by_step
            }
            for step in costs[-1]
        },
        "projections": [asdict(project(largest, waits_for, n, grown)) for n in (MEASURED_CORES, cores)],
    }


def at(line: tuple[float, float], n_clips: int) -> float:
    """Return the cost of a number of clips."""
    return line[0] + line[1] * n_clips


def described(run: Run, steps: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return what a run took."""
    peaks = {step: cost["peak_mb"] for step, cost in steps.items() if cost["peak_mb"] == cost["peak_mb"]}
    return {
        "clips": run.n_clips,
        "jobs": len(run.jobs),
        "job_wall_s": sum(cost["wall_s"] for cost in steps.values()),
        "cpu_s": sum(cost["cpu_s"] for cost in steps.values()),
        "highest_peak": max(peaks.items(), key=lambda item: item[1], default=("", float("nan"))),
        "above_budget": sorted(step for step, mb in peaks.items() if mb > BUDGET_MB),
        "steps": {step: dict(cost) for step, cost in steps.items()},
        "disk_bytes_per_clip": {kind: size / run.n_clips for kind, size in sorted(run.disk_bytes.items())},
    }


def tables(found: Mapping[str, Any]) -> str:
    """Return what `gather` found in Markdown."""
    runs, largest = found["runs"], found["runs"][-1]
    sizes = ", ".join(f"{run['clips']:,}" for run in runs)
    lines = [
        "# Scale",
        "",
        f"Runs of {sizes} clips. Wall and CPU time are summed over the jobs of a step; peaks are the highest of them.",
        "",
        f"| step, {largest['clips']:,} clips | jobs | wall, s | CPU, s | peak, MB | CPU, ms a clip | CPU fixed, s"
        " | peak, MB per 1,000 clips more |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for step, cost in largest["steps"].items():
        line = found["lines"].get(step, {})
        cpu, peak = (
            line.get(what, {"fixed": float("nan"), "per_clip": float("nan")}) for what in ("cpu_s", "peak_mb")
        )
        growth = f"{1e3 * peak['per_clip']:+.2f}" if len(runs) > 1 else "one size"
        cells = [step, f"{cost['jobs']:g}", *(f"{cost[what]:.1f}" for what in ("wall_s", "cpu_s", "peak_mb"))]
        cells += [f"{1e3 * cpu['per_clip']:.2f}", f"{cpu['fixed']:.1f}", growth]
        lines.append("| " + " | ".join(cells) + " |")
    above = ", ".join(largest["above_budget"]) or "none"
    lines += [
        "",
        f"Steps with a job above {BUDGET_MB:,} MB: {above}.",
        "",
        "| files | KB a clip |",
        "|---|---|",
    ]
    lines += [f"| {kind} | {size / 1e3:.2f} |" for kind, size in largest["disk_bytes_per_clip"].items()]
    lines += [
        "",
        f"| {found['clips']:,} clips, cores | wall, h | at least, h | longest chain, h | work, core-hours"
        " | bottleneck |",
        "|---|---|---|---|---|---|",
    ]
    for p in found["projections"]:
        hours = (f"{p[what] / 3600:.2f}" for what in ("wall_s", "least_s", "chain_s", "work_s"))
        lines.append(f"| {p['cores']} | {' | '.join(hours)} | {p['bottleneck']} |")
    lines += ["", f"The longest chain: {' -> '.join(found['projections'][-1]['chain'])}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the runs, write both files and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, nargs="+", required=True, metavar="DIR", help="it holds results/")
    parser.add_argument("--clips", type=int, default=N_CLIPS, help=f"to project to ({N_CLIPS:,})")
    parser.add_argument("--cores", type=int, default=N_CORES, help=f"to project to ({N_CORES})")
    parser.add_argument(
        "--threads", type=int, default=2, help="that a job of decoding or ComParE had (2, as the rules say)"
    )
    arguments = parser.parse_args()
    found = gather(arguments.run, arguments.clips, arguments.cores, arguments.threads)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps(found, indent=2) + "\n")
    text = tables(found)
    (RESULTS / "scale.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
