"""The workflow on a true SLURM of one node: whole runs, errors, cancelled jobs, and memory at a second attempt.

EXVO_SLURM=all also runs a system of every encoder on the demo corpus, under the memory that the rules ask for.
"""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent

import pytest
import yaml
from one_node import no_accounting, obstacle, one_node, output

from exvo.corpus.demo import make_demo_corpus

REPOSITORY = Path(__file__).parents[2]
PARTS = ["config", "workflow", "src", "resources", "requirements.lock"]
DEFAULT = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
SUBMISSION = "results/fusion/test_preds.csv"
AUDIO = "results/audio/raw/0000.parquet"
# The smallest corpus of which everything can be made, one shard, one system: five jobs.
CONFIG = {
    "corpus": {"root": "corpus", "shards": 1},
    "seeds": [0],
    "features": {"opensmile": {"feature_set": "eGeMAPSv02"}},
    "encoders": {"mlp": {"max_epochs": 2}},
    "systems": {name: None for name in DEFAULT["systems"] if name != "mlp-raw"},
    "fusions": dict.fromkeys(DEFAULT["fusions"]) | {"alone": {"systems": ["mlp-raw"], "rule": "average"}},
    "tables": {
        table: {row: None for row, system in rows.items() if system != "mlp-raw"}
        for table, rows in DEFAULT["tables"].items()
    },
}
# The node is asked more often than one would ask a busy cluster.
SACCT = ("--workflow-profile", "workflow/profiles/slurm", "--slurm-init-seconds-before-status-checks", "1")
SLURM = (*SACCT, "--slurm-status-command", "squeue")


@pytest.fixture(scope="module", autouse=True)
def slurm():
    reason = obstacle()
    if reason:
        pytest.skip(reason)
    with one_node():
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "corpus"
    make_demo_corpus(folder, n_clips=24, n_speakers=12, seed=1, n_workers=2)
    return folder


class Workflow:
    """A copy of the workflow in a folder of its own, so that a test may edit scripts."""

    def __init__(self, root: Path, corpus: Path):
        self.root = root
        root.mkdir(exist_ok=True)
        for part in PARTS:
            copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy2
            copy(REPOSITORY / part, root / part)
        (root / "corpus").symlink_to(corpus)
        self.config = dict(CONFIG)

    def command(self, target: str, *flags: str) -> list[str]:
        (self.root / "test.yaml").write_text(yaml.safe_dump(self.config))
        return [sys.executable, "-m", "snakemake", "--configfile", "test.yaml", *flags, "--", target]

    def run(self, target: str, *flags: str) -> tuple[int, str]:
        """Run here, not on SLURM unless the flags say so; return the exit code and all that was printed."""
        run = subprocess.run(
            self.command(target, *flags),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=7200,
            check=False,
        )
        return run.returncode, run.stdout

    def submit(self, target: str, *flags: str) -> tuple[int, str]:
        return self.run(target, *SLURM, *flags)

    def begin(self, rule: str, code: str) -> None:
        """Let the job of a rule run some code first, after the head of its log."""
        script = self.root / "workflow/scripts" / f"{rule}.py"
        head = "def main(snakemake: Any) -> None:\n"
        assert head in script.read_text()
        script.write_text(script.read_text().replace(head, head + indent(f"{code}\n", " " * 4)))


@pytest.fixture
def workflow(tmp_path, corpus):
    return Workflow(tmp_path, corpus)


def submitted(printed: str) -> list[str]:
    """Return the ids of the SLURM jobs that a call submitted, in order."""
    return re.findall(r"has been submitted with SLURM jobid (\d+)", printed)


def field(job: str, name: str) -> str:
    """Return what SLURM says of a job, such as its JobState or MinMemoryNode."""
    return re.search(rf"\b{name}=(\S+)", output("scontrol", "show", "job", job))[1]


def test_a_run_on_slurm_gives_the_files_of_a_run_without(workflow, tmp_path_factory, corpus):
    code, printed = workflow.submit(SUBMISSION, "--set-resources", "train_system:gpu=1")
    assert code == 0, printed
    jobs = submitted(printed)
    assert len(jobs) == 5
    assert {field(job, "JobState") for job in jobs} == {"COMPLETED"}
    # Threads and memory of the rules: the first job decodes.
    assert field(jobs[0], "NumCPUs") == "2" and field(jobs[0], "MinMemoryNode") == "1500M"
    assert field(jobs[0], "TimeLimit") == "01:00:00"
    with_gpu = [job for job in jobs if "gpu:1" in output("scontrol", "show", "job", job)]
    assert [field(job, "Comment") for job in with_gpu] == ["rule_train_system_wildcards_mlp-raw_0"]
    # Nothing is left to do for a call on this machine either.
    code, printed = workflow.run(SUBMISSION, "--cores", "2", "--dry-run")
    assert code == 0 and "Nothing to be done" in printed, printed
    here = Workflow(tmp_path_factory.mktemp("here"), corpus)
    code, printed = here.run(SUBMISSION, "--cores", "2")
    assert code == 0, printed
    for path in (
        SUBMISSION,
        "results/quality/clips.parquet",
        "results/models/mlp-raw/0/model.safetensors",
    ):
        assert (workflow.root / path).read_bytes() == (here.root / path).read_bytes(), path


def test_the_message_of_a_failing_job_is_shown(workflow):
    workflow.config["audio"] = {"convert": {"ffmpeg": "/nowhere/ffmpeg"}}
    code, printed = workflow.submit(AUDIO, "--retries", "0")
    assert code != 0
    # The log of the rule, with its traceback, and the line of the script in SLURM's log of the job.
    assert "No such file or directory: '/nowhere/ffmpeg'" in printed and "Traceback" in printed
    (job,) = submitted(printed)
    assert field(job, "JobState") == "FAILED"


def test_a_run_with_a_cancelled_job_is_completed_by_the_next(workflow):
    with held(workflow, "train_system", SUBMISSION, "--retries", "0") as (run, job):
        subprocess.run(["scancel", job], check=True)
        assert run.wait(timeout=300) != 0
    assert field(job, "JobState") == "CANCELLED"
    assert not (workflow.root / SUBMISSION).exists()
    code, printed = workflow.submit(SUBMISSION)
    assert code == 0, printed
    # Training, and what waited for it; the audio and features were there.
    assert len(submitted(printed)) == 2
    assert (workflow.root / SUBMISSION).exists()


def test_ctrl_c_cancels_the_jobs_and_the_next_run_goes_on(workflow):
    with held(workflow, "convert_clips", AUDIO) as (run, job):
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=300) != 0
    assert field(job, "JobState") == "CANCELLED"
    code, printed = workflow.submit(AUDIO)
    assert code == 0, printed
    assert (workflow.root / AUDIO).exists()


def test_a_job_that_needs_more_memory_gets_it_at_its_second_attempt(workflow):
    # 2 GB, more than the 1500 MB that decoding asks for at first; held until SLURM looks, which it does every second.
    workflow.begin("convert_clips", "import time; hog = b'x' * 2_000_000_000; time.sleep(5); del hog")
    code, printed = workflow.submit(AUDIO)
    assert code == 0, printed
    first, second = submitted(printed)
    assert field(first, "MinMemoryNode") == "1500M" and field(first, "JobState") != "COMPLETED"
    assert field(second, "MinMemoryNode") == "3000M" and field(second, "JobState") == "COMPLETED"
    assert field(second, "TimeLimit") == "02:00:00"
    # Why the first ended is on the terminal.
    assert "exceeded memory limit" in printed


@pytest.mark.skipif(no_accounting() is not None, reason=str(no_accounting()))
def test_the_state_of_jobs_is_known_by_accounting_too(workflow):
    """No status command is named: the plugin asks sacct, of jobs that end well and of one that fails."""
    code, printed = workflow.run(AUDIO, *SACCT)
    assert code == 0, printed
    (job,) = submitted(printed)
    assert output("sacct", "--noheader", "--allocations", "--format=State", "--jobs", job) == "COMPLETED"
    workflow.begin("filter_clips", "raise ValueError('no luck today')")
    code, printed = workflow.run(AUDIO.replace("raw", "dc"), *SACCT, "--retries", "0")
    assert code != 0 and "no luck today" in printed
    (job,) = submitted(printed)
    assert output("sacct", "--noheader", "--allocations", "--format=State", "--jobs", job) == "FAILED"


def test_too_many_broken_clips_stop_the_run_before_other_jobs_are_submitted(workflow):
    """Also where up to 100 jobs may wait at once, and failed ones are tried again."""
    corpus = workflow.root / "corpus"
    recordings = shutil.copytree(corpus.resolve(), workflow.root / "broken") / "raw"
    for path in sorted(recordings.iterdir())[::2]:
        path.write_text("no recording")
    workflow.config = workflow.config | {"corpus": {"root": "broken", "shards": 2}}
    code, printed = workflow.submit(SUBMISSION)
    assert code != 0 and "12 of 24 clips have no audio (50.0%)" in printed
    # Decoding; the clips are counted here, once.
    assert len(submitted(printed)) == 2 and printed.count("Error in rule check_clips") == 1
    assert any("12 of 24 clips have no audio" in line for line in printed.splitlines()[-10:])


JOINED = ["mlp-vad", "conformer-strf", "burst-hubert-tiny", "fine-tuned"]
FINE_TUNED = {"stage": "raw", "feature": "hubert", "encoder": "hubert", "training": {"fine_tune": {}}}


@pytest.mark.skipif(os.environ.get("EXVO_SLURM") != "all", reason="a run of hours: EXVO_SLURM=all")
def test_a_system_of_every_encoder_stays_within_the_memory_of_its_rules(tmp_path, capsys):
    make_demo_corpus(tmp_path / "demo")
    workflow = Workflow(tmp_path / "workflow", tmp_path / "demo")
    short = {"max_epochs": 2}
    workflow.config = {
        "corpus": {"root": "corpus", "shards": 2},
        "seeds": [0],
        "encoders": {"mlp": short, "conformer": short, "hubert": short},
        "feature_fusion": short,
        "systems": {name: None for name in DEFAULT["systems"] if name not in JOINED}
        | {"fine-tuned": FINE_TUNED},
        "fusions": dict.fromkeys(DEFAULT["fusions"]) | {"all": {"systems": JOINED, "rule": "feature_fusion"}},
        "tables": {
            table: {row: None for row, system in rows.items() if system not in JOINED}
            for table, rows in DEFAULT["tables"].items()
        },
    }
    # Of the submission too, for the report rests on the last rule.
    code, printed = workflow.submit("results/report/report.html", "--retries", "0")
    assert code == 0, printed
    jobs = submitted(printed)
    assert {field(job, "JobState") for job in jobs} == {"COMPLETED"}
    used: dict[str, tuple[float, int]] = {}
    for job in jobs:
        rule = field(job, "Comment").removeprefix("rule_").partition("_wildcards_")[0]
        allowed = int(field(job, "MinMemoryNode").removesuffix("M"))
        used[rule] = (max(peak(workflow.root, rule), used.get(rule, (0.0, 0))[0]), allowed)
    with capsys.disabled():
        print()
        for rule, (most, allowed) in sorted(used.items()):
            print(f"{rule}: {most:.0f} MB of {allowed} MB")
    assert {"train_system", "train_feature_fusion", "pool_clips"} <= {*used}
    assert all(0 < most < allowed for most, allowed in used.values())


def peak(root: Path, rule: str) -> float:
    """Return the most memory that a job of a rule took, in MB, by the benchmarks; logs tell of which rule one is."""
    most = 0.0
    for path in (root / "results/benchmarks").rglob("*.tsv"):
        log = root / "results/logs" / path.relative_to(root / "results/benchmarks").with_suffix(".log")
        if re.search(rf" INFO {rule}, \d+ threads", log.read_text()):
            with path.open(newline="") as file:
                values = [row["max_rss"] for row in csv.DictReader(file, delimiter="\t")]
            most = max([most, *(float(value) for value in values if value not in ("-", "NA"))])
    return most


@contextmanager
def held(workflow: Workflow, rule: str, target: str, *flags: str):
    """Yield a run on SLURM whose job of a rule waits in mid-run, and the id of that job; let jobs go on afterwards."""
    started, go = workflow.root / "started", workflow.root / "go"
    workflow.begin(
        rule,
        "import os, pathlib, time\n"
        "pathlib.Path('started').write_text(os.environ['SLURM_JOB_ID'])\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.1)",
    )
    with (workflow.root / "held.txt").open("w") as printed:
        command = workflow.command(target, *SLURM, *flags)
        run = subprocess.Popen(
            command,
            cwd=workflow.root,
            stdout=printed,
            stderr=subprocess.STDOUT,
            # Ctrl-C is not heard by what a shell started in the background, as these tests may have been.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            end = time.monotonic() + 600
            while not (started.exists() and started.read_text()):
                assert run.poll() is None and time.monotonic() < end, (workflow.root / "held.txt").read_text()
                time.sleep(0.2)
            yield run, started.read_text()
        finally:
            run.kill()
            run.wait()
            go.touch()
