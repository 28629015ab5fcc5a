"""What Snakemake itself costs while jobs run."""

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
