"""What a cluster needs of the profiles and of every rule."""

import re
from pathlib import Path

import pytest
import yaml

from exvo.util.code_digest import import_closure
from exvo.workflow.systems import ENCODERS

REPOSITORY = Path(__file__).parents[2]
RULES = [
    (name, body)
    for file in sorted((REPOSITORY / "workflow/rules").glob("*.smk"))
    for name, body in re.findall(r"^rule (\w+):\n((?:(?:    .*)?\n)+)", file.read_text(), re.MULTILINE)
]


def profile(name):
    return yaml.safe_load((REPOSITORY / "workflow/profiles" / name / "config.yaml").read_text())


def test_the_profile_for_slurm_keeps_what_the_default_one_says():
    # Snakemake loads one of them, not both.
    default, slurm = profile("default"), profile("slurm")
    assert {key: slurm.get(key) for key in default} == default
    assert slurm["retries"] >= 1


def test_rules_are_found():
    assert len(RULES) >= 16 and "convert_clips" in dict(RULES)


@pytest.mark.parametrize(("name", "body"), RULES, ids=[name for name, _ in RULES])
def test_a_rule_says_what_it_needs_and_gets_more_when_tried_again(name, body):
    assert re.search(r"^    threads: (\d+|lambda .+)$", body, re.MULTILINE)
    assert re.search(r"^        mem_mb=(growing\(\d+\)|lambda .+ attempt \* .+),$", body, re.MULTILINE)
    assert re.search(r"^        runtime=growing\(\d+\),$", body, re.MULTILINE)


def test_rules_that_use_a_gpu_count_as_gpu_jobs_and_ask_a_cluster_for_none():
    counted = {name for name, body in RULES if re.search(r"^        gpu_jobs=1,$", body, re.MULTILINE)}
    # It has the resources of extract_hubert.
    counted.add("extract_hubert_frontend")
    manual = (REPOSITORY / "docs/cluster.md").read_text()
    assert counted == set(re.findall(r"^  (\w+): \{gpu: 1, ", manual, re.MULTILINE))
    # SLURM reads `gpu` and `gres`, and would queue for ever where there are none.
    assert not any(re.search(r"^        (gpu|gpus|gres)=", body, re.MULTILINE) for _, body in RULES)


def test_no_rule_reruns_because_of_the_plan_or_the_registry_of_systems():
    """A new system, or another line of a plan, must leave finished results alone."""
    texts = [file.read_text() for file in (REPOSITORY / "workflow/rules").glob("*.smk")]
    modules = {name for text in texts for name in re.findall(r'code_digest\(\s*"([\w.]+)"', text)}
    modules |= {encoder.module for encoder in ENCODERS.values()}
    assert {"exvo.audio.convert", "exvo.report.outcome", "exvo.systems.hubert"} <= modules
    for module in modules:
        assert not [name for name in import_closure(module) if name.startswith("exvo.workflow")], module
