"""Peak memory, time and start-up of every job that works on a shard, on one of 1,850 clips; peak memory of all others.

Each shard job is the workflow's own script, run in a fresh process with what Snakemake would give it. Peak memory is
that of the Python process (the kernel's own high-water mark) plus the most that its ffmpeg processes held
together, sampled every 10 ms. Start-up is the CPU time of the same job on a shard of one clip: imports, models
and all that does not grow with the shard. (Wall time would say more of what else the machine does.)

Training, pooling, fusion and the report are measured in whole runs on 500 demo clips and on 1,000, so that it shows
what grows with the corpus (`memory_of_runs`); its shard jobs are left to the first part, which also counts ffmpeg.

Run: ``python benchmarks/bench_memory.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from common import (
    CHALLENGE_CLIPS,
    CHALLENGE_SHARDS,
    Record,
    against_budget,
    clip_files,
    corpus_folder,
    parse_arguments,
    write_records,
)
from memory_of_runs import peaks_of_run

SHARD_CLIPS = CHALLENGE_CLIPS // CHALLENGE_SHARDS
RUN_CLIPS = 500
BUDGET_MB = 1500  # issue A, of audio and feature jobs
BUDGET_ANY_MB = 2000  # issue F, of any job but the training of large encoders
STARTUP_SHARE = 0.15  # issue F
SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
SAMPLING_S = 0.01
# Which Snakemake sets to the threads of a job.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """A rule of the workflow on one shard; paths are without the folder of the shard.

    The config is a class that gives the defaults, or the spec itself.
    """

    rule: str
    script: str
    config: str
    source: str | None
    outputs: dict[str, str]
    threads: int = 1
    wildcards: tuple[tuple[str, str], ...] = (("stage", "raw"),)


JOBS = (
    Job(
        "convert_clips", "convert_clips.py", "audio.convert:ConvertConfig", None, {"audio": "raw.parquet"}, 2
    ),
    Job(
        "convert_clips of baseline",
        "convert_clips.py",
        "audio.convert:ConvertConfig",
        None,
        {"audio": "baseline.parquet"},
        2,
        (("stage", "baseline"),),
    ),
    Job(
        "filter_clips",
        "filter_clips.py",
        "audio.highpass:HighpassConfig",
        "raw.parquet",
        {"audio": "dc.parquet"},
    ),
    Job(
        "denoise_clips",
        "denoise_clips.py",
        "audio.denoise:DenoiseConfig",
        "dc.parquet",
        {"audio": "denoised.parquet"},
    ),
    Job("trim_clips", "trim_clips.py", "audio.vad:VadConfig", "denoised.parquet", {"audio": "vad.parquet"}),
    Job(
        "perturb_clips",
        "perturb_clips.py",
        "{}",
        "raw.parquet",
        {"audio": "raw@0.9.parquet"},
        wildcards=(("stage", "raw"), ("speed", "0.9")),
    ),
    Job(
        "extract_opensmile",
        "extract_opensmile.py",
        "features.opensmile:OpensmileConfig",
        "raw.parquet",
        {"features": "opensmile.parquet"},
        2,
    ),
    Job(
        "extract_logmel",
        "extract_logmel.py",
        "features.logmel:LogmelConfig",
        "raw.parquet",
        {"frames": "logmel.npy", "index": "logmel.parquet"},
    ),
    Job(
        "extract_hubert",
        "extract_hubert.py",
        '{"section": "features.hubert", "config": {"source": "bundled", "layers": [1, 2, 3, 4]}}',
        "raw.parquet",
        {"frames": "hubert.npy", "index": "hubert.parquet"},
    ),
)

# What a job's process runs. `snakemake.script` is imported as the preamble of every script job does.
RUNNER = """
import json, runpy, sys
from types import SimpleNamespace
import snakemake.script
job = json.loads(sys.argv[2])
for name in ("input", "output", "params", "wildcards"):
    job[name] = SimpleNamespace(**job[name])
runpy.run_path(sys.argv[1], init_globals={"snakemake": SimpleNamespace(**job)}, run_name="job")
status = open("/proc/self/status").read()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def default_config(config: str) -> str:
    """Return the ``spec`` of a job: with the defaults of a class, named ``<module>:<class>``, or as it stands."""
    if config.startswith("{"):
        return config
    from importlib import import_module

    module, name = config.split(":")
    return json.dumps({"config": asdict(getattr(import_module(f"exvo.{module}"), name)())})


def children_mb(pid: int) -> float:
    """Return the resident memory of the processes that a process started, in MB."""
    n_pages = 0
    program = Path(f"/proc/{pid}/exe").readlink()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                # Between fork and exec a child is still its parent, and counting it would double the parent.
                if Path(f"/proc/{child}/exe").readlink() != program:
                    n_pages += int(Path(f"/proc/{child}/statm").read_text().split()[1])
        except (OSError, IndexError):  # gone meanwhile
            continue
    return n_pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class Cost:
    """What a job took: peak memory in MB, wall and CPU time in seconds."""

    peak_mb: float
    wall_s: float
    cpu_s: float


def children_cpu_s() -> float:
    """Return the CPU time of all processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_job(job: Job, folder: Path, clips: str, spec: str) -> Cost:
    """Run a job in a process of its own."""
    snakemake = {
        "rule": job.rule,
        "threads": job.threads,
        "log": [str(folder / f"{job.rule}.log")],
        "input": {"audio": str(folder / job.source) if job.source else None},
        "output": {name: str(folder / path) for name, path in job.outputs.items()},
        "params": {"spec": spec, "clips": clips},
        "wildcards": dict(job.wildcards),
    }
    command = [sys.executable, "-c", RUNNER, str(SCRIPTS / job.script), json.dumps(snakemake)]
    start, cpu_before = time.perf_counter(), children_cpu_s()
    environment = os.environ | dict.fromkeys(THREADS, str(job.threads))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    most = 0.0
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(SAMPLING_S):
            try:
                most = max(most, children_mb(process.pid))
            except OSError:  # the job has just ended
                return

    watcher = threading.Thread(target=watch)
    # Only this job starts processes, and watching costs the others a little time.
    if job.source is None:
        watcher.start()
    printed, _ = process.communicate()
    seconds = time.perf_counter() - start
    ended.set()
    if process.returncode:
        sys.exit(f"{job.rule} failed: {Path(snakemake['log'][0]).read_text()}")
    own_mb = int(printed.split()[-1]) * 1024 / 1e6
    return Cost(own_mb + most, seconds, children_cpu_s() - cpu_before)


def clips_of(job: Job, source: Path, paths: list[Path]) -> str:
    """Return the ``clips`` of a job: the files to decode, or the clips of Train, here all."""
    if job.rule == "perturb_clips":
        return json.dumps([path.stem for path in paths])
    endings = {path.stem: path.suffix if source.name == "raw" else ".wav" for path in paths}
    files = {clip_id: f"{clip_id}{ending}" for clip_id, ending in endings.items()}
    return json.dumps({"folder": str(source), "files": files})


def of_runs(n_clips: int) -> list[Record]:
    """Return the peaks of the jobs that read the whole corpus, in runs on one shard of ``n_clips`` and on two."""
    peaks = []
    for n_shards in (1, 2):
        n = n_shards * n_clips
        with corpus_folder(None, n) as corpus, tempfile.TemporaryDirectory(prefix="exvo_bench_") as folder:
            peaks.append(peaks_of_run(corpus, n_shards, Path(folder) / "run"))
            print(f"a whole run on {n} demo clips: {json.dumps({k: round(v) for k, v in peaks[-1].items()})}")
    small, large = peaks
    shard_jobs = {job.script.removesuffix(".py") for job in JOBS}
    return [
        against_budget(
            "memory",
            f"budget: {what}, {2 * n_clips} clips",
            mb,
            BUDGET_ANY_MB,
            "MB peak",
            f"{small[what]:.0f} MB at {n_clips} clips: {(mb - small[what]) / n_clips:+.2f} MB a clip",
        )
        for what, mb in sorted(large.items())
        if what.split(" ")[0] not in shard_jobs
    ]


def main() -> None:
    """Run every job on one clip and on the shard, and write the records."""
    arguments = parse_arguments(__doc__, n_clips=SHARD_CLIPS)
    records = []
    with (
        corpus_folder(arguments.corpus, arguments.clips) as corpus,
        tempfile.TemporaryDirectory() as temporary,
    ):
        paths = clip_files(corpus, arguments.clips)
        sizes = {"one": paths[:1], "shard": paths}
        folders = {name: Path(temporary) / name for name in sizes}
        for folder in folders.values():
            folder.mkdir()
        for job in JOBS:
            source = corpus / ("wav" if "baseline" in job.rule else "raw")
            if not source.is_dir():
                print(f"{job.rule}: left out, as there is no {source}", flush=True)
                continue
            spec = default_config(job.config)
            clips = {name: clips_of(job, source, chosen) for name, chosen in sizes.items()}
            run_job(job, folders["one"], clips["one"], spec)  # files in the page cache, bytecode written
            starts = [run_job(job, folders["one"], clips["one"], spec).cpu_s for _ in range(3)]
            start_s, whole = statistics.median(starts), run_job(job, folders["shard"], clips["shard"], spec)
            words = f"{job.rule}, {len(paths)} clips"
            times = f"{whole.wall_s:.1f} s of wall time, {whole.cpu_s:.1f} s of CPU"
            print(f"{words}: {whole.peak_mb:.0f} MB, {times}, start-up {start_s:.1f} s of CPU", flush=True)
            for peer, ours, budget, unit in (
                (f"budget: {words}", whole.peak_mb, BUDGET_MB, "MB peak"),
                (
                    f"budget: start-up {STARTUP_SHARE:.0%} of {words}",
                    start_s,
                    STARTUP_SHARE * whole.cpu_s,
                    "s of CPU",
                ),
            ):
                records.append(against_budget("memory", peer, ours, budget, unit, times))
    write_records(records + of_runs(RUN_CLIPS))


if __name__ == "__main__":
    main()
