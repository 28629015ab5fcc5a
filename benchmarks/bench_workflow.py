"""What the engine costs before a job runs: parsing, planning, a call with nothing to do, and 59,201 clips.

The default workflow is planned on a small demo corpus, and called again when it has nothing to do. For the scale, a
corpus of 59,201 empty files is planned in 32 shards: cold, with nothing to do, and after one parameter of the
denoiser has changed; against a naive workflow with a rule per clip, which is planned for 1,000 and 2,000 clips of one
stage and extrapolated along the line through both to every clip and stage.

A finished run is made without running it: a placeholder stands for every output, and ``snakemake --touch`` records
each job as done, with its parameters and code. Snakemake then compares what it compares after a true run.

Whole processes are timed, the start of Python included; the medians of three. CPU time stands beside the wall
time, for a busy machine. The workflow is copied first, so that an edit meanwhile does not count.

Run: ``python benchmarks/bench_workflow.py [--clips N]``, N being the size of the small corpus.
"""

import csv
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import CHALLENGE_CLIPS as N_CLIPS
from common import CHALLENGE_SHARDS as N_SHARDS
from common import Record, against_budget, corpus_folder, parse_arguments, write_records

from exvo.corpus.labels import EMOTIONS

REPOSITORY = Path(__file__).parents[1]
PARTS = ("config", "workflow", "src", "resources", "requirements.lock")
TARGET = "results/fusion/test_preds.csv"
N_STAGES = 5
ONE_PARAMETER = "audio={denoise: {alpha: 0.97}}"
NAIVE_SIZES = (1_000, 2_000)
PLAN_BUDGET_S = 3.0  # the default workflow from scratch, and 59,201 clips with nothing to do
NOTHING_TO_DO_BUDGET_S = 5.0
SCALE_BUDGET_S = 15.0
NAIVE = """
from pathlib import Path
CLIPS = [path.stem for path in sorted(Path({raw!r}).iterdir())[:{n}]]

rule all:
    input: expand("wav/{{clip}}.wav", clip=CLIPS)

rule convert:
    input: {raw!r} + "/{{clip}}.webm"
    output: "wav/{{clip}}.wav"
    shell: "ffmpeg -i {{input}} -ar 16000 {{output}}"
"""

# Rules that say and do nothing: 600 jobs, 983 outputs and 3,833 inputs, for ours of the whole challenge has 600, 1,000
# and 3,819.
BARE_STEPS, BARE_ENDS, BARE_INPUTS = 18, 23, 142
BARE = f"""
SHARDS = [f"{{i:04d}}" for i in range({N_SHARDS})]

rule all:
    input: [f"end{{i}}" for i in range({BARE_ENDS})]

for step in range({BARE_STEPS}):
    rule:
        name: f"step{{step}}"
        input: [f"made/{{step - 1}}/{{{{shard}}}}.a"] if step else []
        output: [f"made/{{step}}/{{{{shard}}}}.{{end}}" for end in ("ab" if step % 3 else "a")]
        params: spec="a text"
        shell: "true"

for end in range({BARE_ENDS}):
    rule:
        name: f"end{{end}}"
        input: [f"made/{{i % {BARE_STEPS}}}/{{SHARDS[(i + end) % {N_SHARDS}]}}.a" for i in range({BARE_INPUTS})]
        output: f"end{{end}}"
        params: spec="a text"
        shell: "true"
"""


def copy_workflow(target: Path) -> Path:
    """Copy the checkout's workflow and library; return its Snakefile."""
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, target / part, ignore=ignored)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / part)
    return target / "workflow/Snakefile"


@dataclass(frozen=True)
class Call:
    """One call of a program, or the medians of several: wall time and CPU time in seconds, and what it printed."""

    wall_s: float
    cpu_s: float
    printed: str

    def seen(self, what: str) -> str:
        """Return what was planned and the CPU time, which tells a slow program from a busy machine."""
        return f"{what}; {self.cpu_s:.1f} s of CPU"


def call(*command: str | Path) -> Call:
    """Run a program to its end in a process of its own."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        sys.exit(f"{command} failed:\n{run.stdout}{run.stderr}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Call(wall_s, cpu_s, run.stdout + run.stderr)


def median_call(*command: str | Path, repeats: int = 3) -> Call:
    """Run a program several times; return the medians and what the last call printed."""
    calls = [call(*command) for _ in range(repeats)]
    wall_s = statistics.median(c.wall_s for c in calls)
    return Call(wall_s, statistics.median(c.cpu_s for c in calls), calls[-1].printed)


def snakemake(snakefile: Path, directory: Path, *arguments: str) -> list[str | Path]:
    """Return the command that calls Snakemake in a folder, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    return [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--directory", directory, *arguments]


def n_jobs(printed: str) -> str:
    """Return how many jobs a dry-run plans, in words."""
    total = re.search(r"^total\s+(\d+)", printed, re.MULTILINE)
    return f"{total[1]} jobs" if total else "nothing to do" if "Nothing to be done" in printed else "unknown"


def check_plan(plan: Call, expected: str) -> None:
    """End with what was printed where a plan is not what was meant to be timed.

    Parameters
    ----------
    plan : Call
    expected : str
        ``nothing to do``, or a rule and how many of its jobs the plan must have.
    """
    counted = {f"{rule} {n}" for rule, n in re.findall(r"^(\w+) +(\d+)$", plan.printed, re.MULTILINE)}
    if expected not in {n_jobs(plan.printed), *counted}:
        sys.exit(f"this plan was to be {expected!r}:\n{plan.printed}")


def finish(snakefile: Path, directory: Path, *config: str, target: str = TARGET) -> None:
    """Make a run of a target look finished: placeholders for its outputs, and every job on record.

    Parameters
    ----------
    snakefile, directory : Path
    config : str
        Arguments of Snakemake that name the config.
    target : str
        The main one by default.
    """
    summary = call(*snakemake(snakefile, directory, "--summary", *config, "--", target)).printed
    rows = csv.DictReader(summary[summary.index("output_file\t") :].splitlines(), delimiter="\t")
    for output in (directory / row["output_file"] for row in rows if row["status"] == "missing"):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("a placeholder\n")
    # Without --forceall, jobs whose outputs are there would not be put on record.
    call(*snakemake(snakefile, directory, "--touch", "--forceall", "--cores", "1", *config, "--", target))


def make_fake_corpus(root: Path) -> None:
    """Write a label table of `N_CLIPS` rows and an empty file for each in ``raw/`` and ``wav/``."""
    for folder, ending in (("raw", "webm"), ("wav", "wav")):
        (root / folder).mkdir(parents=True)
        for index in range(N_CLIPS):
            descriptor = os.open(root / folder / f"{index:05d}.{ending}", os.O_CREAT | os.O_WRONLY)
            os.close(descriptor)
    with (root / "data_info.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["File_ID", "Split", "Subject_ID", "Country", "Country_string", "Age", *EMOTIONS])
        for index in range(N_CLIPS):
            speaker = index % 1702
            split = ("Train", "Val", "Test")[speaker % 3]
            labels = [f"{(index * (k + 3)) % 101 / 100}" for k in range(10)]
            country = ("China", "South Africa", "United States", "Venezuela")[speaker % 4]
            name = f"Speaker_{speaker:04d}"
            age = 20 + speaker % 20
            table.writerow([f"[{index:05d}]", split, name, speaker % 4, country, f"{age}.5", *labels])


def default_workflow(snakefile: Path, folder: Path, n_clips: int) -> list[Record]:
    """Time the start, the parsing, the planning and the empty call of the default workflow."""
    with corpus_folder(None, n_clips) as corpus:
        config = ["--config", f"corpus={{root: {corpus}}}"]
        run = snakemake(snakefile, folder, "--cores", "2", *config, "--", TARGET)
        demo = [Path(sys.executable).with_name("exvo"), "demo", corpus, "--clips", str(n_clips)]
        importing = median_call(sys.executable, "-c", "import snakemake.cli")
        reading = median_call(*snakemake(snakefile, folder, "--list-rules", *config))
        planning = median_call(*snakemake(snakefile, folder, "--dry-run", *config, "--", TARGET))
        finish(snakefile, folder, *config)
        idle, idle_demo = median_call(*run), median_call(*demo)
    check_plan(idle, "nothing to do")
    nothing = Call(idle.wall_s + idle_demo.wall_s, idle.cpu_s + idle_demo.cpu_s, idle.printed)
    plan, again = f"budget {PLAN_BUDGET_S:.0f} s, default workflow", f"budget {NOTHING_TO_DO_BUDGET_S:.0f} s"
    return [
        against_budget("workflow", peer, made.wall_s, budget, "s", made.seen(what))
        for peer, made, budget, what in (
            (f"{plan}: import of snakemake.cli alone", importing, PLAN_BUDGET_S, "no workflow"),
            (f"{plan}: reading the Snakefile (--list-rules)", reading, PLAN_BUDGET_S, "no jobs"),
            (f"{plan}: parsing and planning (--dry-run)", planning, PLAN_BUDGET_S, n_jobs(planning.printed)),
            (
                f"{again}, make demo a second time: exvo demo and Snakemake",
                nothing,
                NOTHING_TO_DO_BUDGET_S,
                n_jobs(nothing.printed),
            ),
        )
    ]


def naive_cpu_s(raw: Path, folder: Path) -> tuple[float, str]:
    """Extrapolate what planning a rule per clip costs for all clips and stages; also return the basis."""
    seconds = []
    for n in NAIVE_SIZES:
        snakefile = folder / str(n) / "Snakefile"
        snakefile.parent.mkdir(parents=True)
        snakefile.write_text(NAIVE.format(raw=str(raw), n=n))
        plan = snakemake(snakefile, snakefile.parent, "--dry-run", "--quiet", "all")
        seconds.append(median_call(*plan).cpu_s)
    per_job = (seconds[1] - seconds[0]) / (NAIVE_SIZES[1] - NAIVE_SIZES[0])
    measured = " and ".join(f"{n:,} ({s:.1f} s)" for n, s in zip(NAIVE_SIZES, seconds, strict=True))
    return seconds[0] + per_job * (N_CLIPS * N_STAGES - NAIVE_SIZES[0]), measured


def bare_idle_plan(folder: Path) -> Call:
    """Time a plan with nothing to do of as many jobs as ours, whose rules say nothing that takes time to read."""
    snakefile = folder / "Snakefile"
    folder.mkdir(parents=True)
    snakefile.write_text(BARE)
    finish(snakefile, folder, target="all")
    plan = median_call(*snakemake(snakefile, folder, "--dry-run"))
    check_plan(plan, "nothing to do")
    return plan


def state_of_files_s(folders: list[Path]) -> float:
    """Return the seconds that it takes to ask for the state of every file in some folders."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for folder in folders:
            opened = os.open(folder, os.O_RDONLY)
            for name in os.listdir(opened):  # noqa: PTH208 - as `exvo.corpus.shards` does
                os.stat(name, dir_fd=opened)
            os.close(opened)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def at_scale(snakefile: Path, folder: Path) -> list[Record]:
    """Time the planning of the whole challenge, ours and naively."""
    corpus, directory = folder / "corpus", folder / "run"
    make_fake_corpus(corpus)
    config = ["--config", f"corpus={{root: {corpus}, shards: {N_SHARDS}}}"]
    reading = median_call(*snakemake(snakefile, directory, "--list-rules", *config))
    cold = median_call(*snakemake(snakefile, directory, "--dry-run", *config, "--", TARGET))
    finish(snakefile, directory, *config)
    idle = median_call(*snakemake(snakefile, directory, "--dry-run", *config, "--", TARGET))
    changed = median_call(*snakemake(snakefile, directory, "--dry-run", *config, ONE_PARAMETER, "--", TARGET))
    check_plan(idle, "nothing to do")
    check_plan(changed, f"denoise_clips {N_SHARDS}")
    bare, states_s = bare_idle_plan(folder / "bare"), state_of_files_s([corpus / "raw", corpus / "wav"])
    floor = (
        f"the floor of a plan with nothing to do: Snakemake on as many jobs of bare rules ({bare.wall_s:.2f} s), and"
        f" the state of {2 * N_CLIPS:,} files ({states_s:.2f} s)"
    )
    naive, measured = naive_cpu_s(corpus / "raw", folder / "naive")
    size, jobs = f"{N_CLIPS:,} clips in {N_SHARDS} shards", n_jobs(cold.printed)
    peer = (
        f"naive workflow, a rule per clip, planned for {measured} clips of one stage; extrapolated along the line"
        f" through both to {N_CLIPS:,} x {N_STAGES}"
    )
    return [
        against_budget(
            "workflow", f"budget {budget:.0f} s, {size}: {words}", made.wall_s, budget, "s", made.seen(what)
        )
        for words, made, budget, what in (
            ("reading the Snakefile (--list-rules)", reading, SCALE_BUDGET_S, "no jobs"),
            ("cold plan (--dry-run)", cold, SCALE_BUDGET_S, jobs),
            ("plan with nothing to do", idle, PLAN_BUDGET_S, n_jobs(idle.printed)),
            ("plan after one parameter of the denoiser", changed, SCALE_BUDGET_S, n_jobs(changed.printed)),
        )
    ] + [
        against_budget("workflow", floor, idle.wall_s, bare.wall_s + states_s, "s", "nothing to do"),
        against_budget(
            "workflow", peer, cold.cpu_s, naive, "s of CPU", f"{jobs} against {N_CLIPS * N_STAGES:,}"
        ),
    ]


def main() -> None:
    """Time both and write the records."""
    arguments = parse_arguments(__doc__, n_clips=48)
    with tempfile.TemporaryDirectory(prefix="exvo_bench_") as temporary:
        folder = Path(temporary)
        snakefile = copy_workflow(folder / "code")
        records = default_workflow(snakefile, folder / "small", arguments.clips)
        records += at_scale(snakefile, folder / "scale")
    write_records(records)


if __name__ == "__main__":
    main()
