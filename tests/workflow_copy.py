"""A copy of the workflow with a corpus of its own, for tests that run it."""

import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
PARTS = ["config", "workflow", "src", "resources", "requirements.lock"]


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
            "feature_fusion": dict(short),
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
            command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600
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
        # As it is, order included: the rows of tables and the systems of a fusion stand in the config's order.
        copy.config = deepcopy(self.config)
        return copy


def copy_workflow(root: Path) -> Workflow:
    """Copy the workflow as it stands in the repository into a folder that does not exist yet."""
    root.mkdir(parents=True)
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, root / part)
    return Workflow(root)
