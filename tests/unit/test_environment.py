"""One set of versions: what pyproject asks for, what the lock pins, what conda builds and what runs here."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ASKED = [*PROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["slurm"]]


def locked(file="requirements.lock"):
    lines = (REPOSITORY / file).read_text().splitlines()
    found = (re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line) for line in lines)
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


@pytest.mark.parametrize("requirement", ASKED)
def test_what_is_asked_for_is_locked_and_installed(requirement):
    name = re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()
    assert name in locked()
    if "==" in requirement:
        assert requirement == f"{name}=={locked()[name]}"
    assert version(name) == locked()[name]


def test_what_benchmarks_need_besides_is_locked_beside_them_and_agrees_with_the_lock():
    shared, peers = locked(), locked("benchmarks/requirements.lock")
    for requirement in EXTRAS["bench"]:
        name, pinned = requirement.split("==")
        assert peers[name] == pinned and name not in shared
    assert {name: version for name, version in peers.items() if shared.get(name, version) != version} == {}


def test_everything_in_the_lock_is_pinned():
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    requirements = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert all(re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==", line) for line in requirements)


def test_conda_environments_build_from_the_lock_with_the_same_python():
    for path in (REPOSITORY / "workflow/envs").glob("*.yaml"):
        *packages, pip = yaml.safe_load(path.read_text())["dependencies"]
        assert packages == ["python=3.11", "pip"] and PROJECT["requires-python"].startswith(">=3.11")
        (file,) = pip["pip"]
        assert (path.parent / file.removeprefix("-r ")).resolve() == REPOSITORY / "requirements.lock"
