"""Parameters of rules: plain mappings that Snakemake compares and passes to scripts as they are."""

import json
import re
import subprocess
import sys

import pytest

from exvo.workflow.params import as_param

SNAKEFILE = """
import json
from pathlib import Path
config = json.loads(Path("config.json").read_text())
rule made:
    output: "made.txt"
    params: config=config, code="a digest"
    script: "script.py"
"""
SCRIPT = "import json; open(snakemake.output[0], 'w').write(json.dumps(snakemake.params.config))"
VALUE = {
    "path": "/a/{x}/b",
    "list": ["{wildcards.shard}", {"{": []}],
    "name": b"00001.\xff \xc3\xa9".decode("utf-8", "surrogateescape"),
    "number": 2.0,
}


def test_equal_values_have_equal_texts():
    first, second = {"b": 1, "a": [1, {"d": 2, "c": (3,)}]}, {"a": [1, {"c": [3], "d": 2}], "b": 1}
    assert repr(as_param(first)) == repr(as_param(second)) == "{'a': [1, {'c': [3], 'd': 2}], 'b': 1}"


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), ({1, 2}, TypeError)])
def test_a_value_without_a_text_of_its_own_is_refused(value, error):
    with pytest.raises(error):
        as_param({"a": value})


@pytest.fixture
def planned(tmp_path):
    """Run a rule with ``VALUE``; return a function that says which rules a run with another value would run."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(value, *flags):
        (tmp_path / "config.json").write_text(json.dumps(as_param(value)))
        call = [sys.executable, "-m", "snakemake", "--cores", "1", *flags]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
        return re.findall(r"^rule (\w+):", done.stdout + done.stderr, re.MULTILINE)

    run(VALUE)
    assert json.loads((tmp_path / "made.txt").read_text()) == VALUE
    return lambda value: run(value, "--dry-run")


def test_a_rule_with_a_mapping_runs_again_exactly_when_it_changes(planned):
    assert planned(dict(reversed(VALUE.items()))) == []
    assert planned(VALUE | {"path": VALUE["name"], "name": VALUE["path"]}) == ["made"]
    assert planned(VALUE | {"number": 3.0}) == ["made"]
    assert planned(VALUE | {"other": None}) == ["made"]
