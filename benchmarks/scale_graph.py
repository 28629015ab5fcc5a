"""The graph of a run's jobs and what its costs become on more cores.

Jobs of a shard wait for the same shard of the stage before; training waits for all shards, one job per seed. Work is
spread over cores as far as the longest chain of jobs that wait for each other allows (Amdahl): on P cores, a run of
work W with a longest chain C takes about C + (W - C') / P, C' being the work in the chain.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scale_costs import Job, Run

BEFORE = {"dc": "raw", "denoised": "dc", "vad": "denoised"}


@dataclass(frozen=True)
class Projection:
    """A run on a number of cores.

    Attributes
    ----------
    cores : int
    work_s : float
        Core-seconds of all jobs.
    chain_s : float
        Seconds of the longest chain of jobs, which no number of cores shortens.
    wall_s : float
        Of the run.
    least_s : float
        What no schedule can beat: the chain, or the work over the cores.
    chain : list of str
        The jobs of the longest chain.
    bottleneck : str
        In words.
    """

    cores: int
    work_s: float
    chain_s: float
    wall_s: float
    least_s: float
    chain: list[str]
    bottleneck: str


def dependencies(run: Run, results: Path) -> dict[str, list[str]]:
    """Return, by job, the jobs of the run that it waits for.

    Parameters
    ----------
    run : Run
    results : Path
        Its results: what a trained system reads stands in its ``config.json``. A system without one, and a kind of
        job that is not known here, waits for all features and audio.
    """
    by_step: dict[str, list[str]] = {}
    for job in run.jobs.values():
        by_step.setdefault(job.step, []).append(job.name)

    def all_of(*starts: str) -> list[str]:
        return [name for name in run.jobs if name.startswith(starts)]

    def read_by(system: str, seed: str) -> list[str]:
        path = results / "models" / system / seed / "config.json"
        if not path.is_file():
            return all_of("features/", "audio/")
        config = json.loads(path.read_text())
        config = config.get("system", config)
        wanted = f"features/{config['feature']}"
        stage = config["stage"]
        steps = [
            step
            for step in by_step
            if step.startswith((f"{wanted}/", f"{wanted}_frontend/"))
            and step.split("/")[2].split("@")[0] == stage
        ]
        return [name for step in steps for name in by_step[step]]

    def before(job: Job) -> list[str]:
        kind, *rest = job.name.split("/")
        if kind == "audio":
            stage, shard = rest
            source = stage.split("@")[0] if "@" in stage else BEFORE.get(stage)
            return [f"audio/{source}/{shard}"] if source else []
        if kind == "features":
            feature, stage, last = rest
            return (
                [f"audio/{stage}/{last}"]
                if last.isdigit()
                else by_step.get(f"features/{feature}/{stage}", [])
            )
        if kind == "quality":
            _, checked, stage = job.name.partition("check_")
            return by_step.get(f"audio/{stage}", []) if checked else all_of("audio/")
        if kind == "models":
            return read_by(*rest[:2]) + all_of("quality/")
        if kind == "utterance_embeddings":
            of, name, last = rest
            return (
                [f"models/{name}/{last}"] if of == "systems" else by_step.get(f"features/{name}/{last}", [])
            )
        if kind == "fusion" and rest:
            embedded = [
                name for name in all_of("utterance_embeddings/systems/") if name.endswith(f"/{rest[1]}")
            ]
            return [*embedded, *all_of("utterance_embeddings/features/")]
        if kind == "fusion":
            return [*all_of("models/", "fusion/"), "quality"]
        if kind == "figures":
            return all_of("models/")
        if kind == "report":
            return ["fusion", *all_of("figures/")]
        return all_of("features/", "audio/")

    return {
        job.name: [name for name in dict.fromkeys(before(job)) if name in run.jobs and name != job.name]
        for job in run.jobs.values()
    }


def longest_chain(waits_for: dict[str, list[str]], seconds: dict[str, float]) -> list[str]:
    """Return the jobs of the chain that takes longest, first job first."""
    ends: dict[str, tuple[float, str | None]] = {}

    def end(name: str) -> float:
        if name not in ends:
            last = max(waits_for[name], key=end, default=None)
            ends[name] = ((end(last) if last else 0.0) + seconds[name], last)
        return ends[name][0]

    name: str | None = max(waits_for, key=end)
    chain = []
    while name is not None:
        chain.append(name)
        name = ends[name][1]
    return chain[::-1]


def project(
    run: Run, waits_for: dict[str, list[str]], cores: int, grown: Callable[[Job], float] = lambda job: 1.0
) -> Projection:
    """Say how long a run takes on more cores.

    Parameters
    ----------
    run : Run
    waits_for : dict of str to list of str
        Of `dependencies`.
    cores : int
    grown : callable
        How many times longer a job takes than in this run: for a larger corpus in as many shards.
    """
    seconds = {job.name: np.nan_to_num(job.wall_s) * grown(job) for job in run.jobs.values()}
    work = {name: seconds[name] * min(run.jobs[name].threads, cores) for name in seconds}
    chain = longest_chain(waits_for, seconds)
    chain_s, work_s = sum(seconds[name] for name in chain), sum(work.values())
    beside_s = (work_s - sum(work[name] for name in chain)) / cores
    shares: dict[str, float] = {}
    on_chain = chain_s > work_s / cores
    for name in chain if on_chain else seconds:
        step = run.jobs[name].step
        shares[step] = shares.get(step, 0.0) + (seconds if on_chain else work)[name]
    step = max(shares, key=shares.__getitem__)
    share = shares[step] / (chain_s if on_chain else work_s)
    words = "the longest chain of jobs, in it" if on_chain else "the work of all jobs, in it"
    return Projection(
        cores,
        work_s,
        chain_s,
        chain_s + beside_s,
        max(chain_s, work_s / cores),
        chain,
        f"{words} {step} ({share:.0%})",
    )
