"""What Snakemake itself costs while jobs run."""

import subprocess
import sys
from pathlib import Path

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
