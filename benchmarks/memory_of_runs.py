"""Peak memory of every job of whole runs of the workflow, at two sizes of the corpus, for `bench_memory`.

The workflow is copied, and in the copy each job notes the kernel's own high-water mark of its process when it ends:
Snakemake's figures are samples, up to 30 s apart. Networks train for one epoch, with one seed, which needs as much
memory as twenty.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from bench_workflow import copy_workflow

from exvo.util.cores import n_cores

PEAKS = "peaks.jsonl"
TARGETS = ("results/fusion/test_preds.csv", "results/report/report.html")
TUNED = "tuned"
CONFIG = """
corpus: {{root: {root}, shards: {n_shards}}}
seeds: [0]
encoders:
  mlp: {{max_epochs: 1}}
  conformer: {{max_epochs: 1}}
  hubert: {{max_epochs: 1}}
feature_fusion: {{max_epochs: 1}}
systems:
  {tuned}: {{stage: raw, feature: hubert, encoder: hubert, training: {{fine_tune: {{}}}}}}
"""
# Appended to the copy's exvo.workflow.jobs, where every script has its `run_job` from.
NOTE_PEAK = f"""

_run_job = run_job


def run_job(main, snakemake):
    _run_job(main, snakemake)
    import json

    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    what = dict(snakemake.wildcards.items())
    with open({PEAKS!r}, "a") as file:
        file.write(json.dumps([snakemake.rule, what, peak * 1024 / 1e6]) + "\\n")
"""


def peaks_of_run(corpus: Path, n_shards: int, folder: Path) -> dict[str, float]:
    """Run the workflow to its report; return the highest peak of each kind of job.

    Parameters
    ----------
    corpus : Path
    n_shards : int
    folder : Path
        Where the copy and the results go; does not exist yet.

    Returns
    -------
    dict of str to float
        By the words of `kind`, MB.
    """
    snakefile = copy_workflow(folder / "code")
    with (folder / "code/src/exvo/workflow/jobs.py").open("a") as jobs:
        jobs.write(NOTE_PEAK)
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(root=corpus, n_shards=n_shards, tuned=TUNED))
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--directory", folder]
    command += ["--cores", str(n_cores()), "--configfile", config, "--"]
    command += [*TARGETS, f"results/models/{TUNED}/0/model.safetensors"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"{command} failed:\n{run.stdout[-3000:]}{run.stderr[-3000:]}")
    peaks: dict[str, float] = {}
    for line in (folder / PEAKS).read_text().splitlines():
        rule, wildcards, mb = json.loads(line)
        name = kind(rule, wildcards)
        peaks[name] = max(mb, peaks.get(name, 0.0))
    return peaks


def kind(rule: str, wildcards: dict[str, str]) -> str:
    """Return the rule of a job, with the system where it trains or represents one and the stage where it decodes.

    Examples
    --------
    >>> kind("train_system", {"system": "mlp-raw", "seed": "0"})
    'train_system (mlp)'
    >>> kind("denoise_clips", {"shard": "0001"})
    'denoise_clips'
    """
    name = wildcards.get("system") or wildcards.get("fusion")
    if name is not None:
        # Systems that differ by stage or task alone need the same memory.
        name = re.sub(r"-(baseline|raw|dc|denoised|vad|emotion|age|country)$", "", name)
    elif rule == "convert_clips":
        name = wildcards["stage"]
    return rule if name is None else f"{rule} ({name})"
