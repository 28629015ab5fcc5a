"""In which order Snakemake starts jobs, when it stops, and what it costs itself."""

import subprocess
import sys
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "workflow/rules"
SNAKEFILE = f"""
include: "{RULES}/scheduler.smk"


rule all:
    input:
        expand("{{n}}.txt", n=range(6)),


rule wait:
    output:
        "{{n}}.txt",
    shell:
        "sleep 1.2; touch {{output}}"
"""


def test_snakemake_looks_for_work_once_for_each_job_that_ends(tmp_path):
    """Without the hook it looks 20 times here, and in a run of 1,000 jobs all the time."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--scheduler", "greedy", "--verbose"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    assert 6 <= run.stderr.count("Ready jobs: ") <= 8


SHARED = """
rule all:
    input:
        expand("{kind}_{n}.txt", kind=["gpu", "cpu"], n=range(3)),


rule gpu:
    output:
        "gpu_{n}.txt",
    resources:
        gpu_jobs=1,
    shell:
        "date +%s.%N > {output}; sleep 3; date +%s.%N >> {output}"


rule cpu:
    output:
        "cpu_{n}.txt",
    shell:
        "date +%s.%N > {output}; sleep 3; date +%s.%N >> {output}"
"""


@pytest.mark.parametrize(("flags", "at_once"), [((), 3), (("--resources", "gpu_jobs=1"), 1)])
def test_gpu_jobs_wait_for_each_other_where_that_is_asked_for(tmp_path, flags, at_once):
    (tmp_path / "Snakefile").write_text(SHARED)
    command = [sys.executable, "-m", "snakemake", "--cores", "6", "--scheduler", "greedy", *flags]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=300)

    def most_at_once(kind):
        spans = [tuple(map(float, path.read_text().split())) for path in tmp_path.glob(f"{kind}_*.txt")]
        assert len(spans) == 3
        return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)

    # Jobs on a CPU wait for none.
    assert most_at_once("gpu") == at_once and most_at_once("cpu") == 3


# Clip 3 takes longest to decode, so that features of the others could be made meanwhile.
BURSTS = f"""
include: "{RULES}/scheduler.smk"


rule all:
    input:
        "check.json",
        expand("{{n}}.feature", n=range(4)),


rule convert_clips:
    output:
        "{{n}}.audio",
    priority: 1
    shell:
        "test {{wildcards.n}} -lt 3 || sleep 2; DECODE"


rule check_clips:
    input:
        expand("{{n}}.audio", n=range(4)),
    output:
        "check.json",
    log:
        "check.log",
    priority: 1
    shell:
        "sleep 1; ls > early; CHECK"


rule extract:
    input:
        "{{n}}.audio",
    output:
        "{{n}}.feature",
    shell:
        "touch {{output}}"
"""
WELL = "touch {output}"
BROKEN = """echo 'exvo.TooManyBadClips: 2 of 4 clips' > {log}; echo '- 2 missing' >> {log}; exit 1"""


def run_bursts(folder, decode, check):
    """Return whether a run on more cores than there are jobs went well, what it printed, and the features made."""
    (folder / "Snakefile").write_text(BURSTS.replace("DECODE", decode).replace("CHECK", check))
    command = [sys.executable, "-m", "snakemake", "--cores", "8", "--scheduler", "greedy", "--keep-going"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return run.returncode == 0, run.stderr, sorted(path.name for path in folder.glob("*.feature"))


ALL_FEATURES = [f"{n}.feature" for n in range(4)]


def test_features_wait_until_the_recordings_are_counted(tmp_path):
    well, printed, features = run_bursts(tmp_path, WELL, WELL)
    assert well and features == ALL_FEATURES, printed
    assert ".feature" not in (tmp_path / "early").read_text()


def test_nothing_starts_after_the_check_failed_and_the_run_ends_with_its_reasons(tmp_path):
    well, printed, features = run_bursts(tmp_path, WELL, BROKEN)
    assert not well and features == [] and "rule extract" not in printed
    end = printed.splitlines()[-8:]
    assert "2 of 4 clips" in end and "- 2 missing" in end


def test_other_failures_stop_what_rests_on_them_only(tmp_path):
    """Also where it is the decoding that fails, for which all else has waited; and no reasons are made up."""
    well, printed, features = run_bursts(tmp_path, "test {wildcards.n} -ne 2 && touch {output}", BROKEN)
    assert not well and features == [name for name in ALL_FEATURES if name != "2.feature"], printed
    assert "2 of 4 clips" not in printed
    well, printed, features = run_bursts(tmp_path, WELL, "echo 'no memory' > {log}; exit 1")
    assert not well and "TooManyBadClips" not in printed and "rule check_clips" in printed
