"""A finished run of the whole workflow on a small corpus, made once for all tests of this folder."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from exvo.corpus.demo import make_demo_corpus

REPOSITORY = Path(__file__).parents[2]
REPORT = "results/report/report.html"
PARTS = ["Snakefile", "config", "workflow", "profiles", "envs", "src", "resources", "requirements.lock"]


class Workflow:
    """A copy of the workflow with a corpus of its own, so that tests may edit anything."""

    def __init__(self, root: Path):
        self.root = root
        # Two epochs: what the networks learn is tested elsewhere.
        short = {"max_epochs": 2, "patience": 2}
        self.config = {
            "corpus": {"root": "corpus", "shards": 2},
            "seeds": [0],
            "encoders": {"conformer": short, "hubert": dict(short)},
        }

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    def run(self, *targets: str, flags: tuple[str, ...] = (), check: bool = True) -> str:
        """Call Snakemake with the config of this object and return all that it prints."""
        config_file = self.root / "test.yaml"
        config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", config_file, *flags]
        # Options with several values would take the targets for more of them.
        command += ["--", *targets]
        run = subprocess.run(
            command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
        )
        assert not check or run.returncode == 0, run.stdout
        return run.stdout

    def planned(self, *targets: str) -> set[str]:
        """Return the messages of the jobs that a call would run now."""
        printed = self.run(*targets, flags=("--dry-run",))
        return set(re.findall(r"^Job \d+: (.+)$", printed, re.MULTILINE))

    def copy(self, root: Path) -> "Workflow":
        """Return a copy that keeps all modification times."""
        shutil.copytree(self.root, root, symlinks=True)
        copy = Workflow(root)
        copy.config = yaml.safe_load(yaml.safe_dump(self.config))
        return copy


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    root = tmp_path_factory.mktemp("finished") / "workflow"
    root.mkdir()
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, root / part)
    make_demo_corpus(root / "corpus", n_clips=36, n_speakers=12, seed=1, n_workers=2)
    workflow = Workflow(root)
    workflow.run("results/fusion/test_preds.csv", REPORT)
    return workflow
