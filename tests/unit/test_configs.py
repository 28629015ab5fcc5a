"""The configs of the repository: each valid on top of the default, and none with the demo's sizes by oversight."""

import re
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config, validate

from exvo.features.spec import fine_tuned
from exvo.workflow.config import complete
from exvo.workflow.systems import configured_systems

REPOSITORY = Path(__file__).parents[2]
SCHEMA = REPOSITORY / "workflow/schemas/config.schema.yaml"
NAMES = sorted(path.name for path in (REPOSITORY / "config").glob("*.yaml"))
OTHERS = [name for name in NAMES if name != "config.yaml"]


def read(name):
    return yaml.safe_load((REPOSITORY / "config" / name).read_text())


def completed(name):
    """Return a config on top of the default, as Snakemake gives it to the workflow."""
    config = read("config.yaml")
    update_config(config, read(name))
    config = complete(config, yaml.safe_load(SCHEMA.read_text()))
    validate(config, SCHEMA, set_default=False)
    return config


def keys(section, path=""):
    """Return the dotted paths of all values in a section."""
    if not isinstance(section, dict):
        return {path}
    return {key for name, value in section.items() for key in keys(value, f"{path}.{name}")}


@pytest.mark.parametrize("name", NAMES)
def test_the_configs_of_the_repository_are_valid(name):
    config = completed(name)
    assert config["systems"]["mlp-raw"]["tasks"] == ["emotion", "age", "country"]
    named = {system for entry in config["fusions"].values() for system in entry["systems"]}
    named |= {system for rows in config["tables"].values() for system in rows.values() if system}
    assert named <= set(configured_systems(config))


@pytest.mark.parametrize("name", OTHERS)
def test_networks_of_other_configs_take_no_choice_of_the_demo(name):
    default, other = read("config.yaml"), read(name)
    for section in ("encoders", "feature_fusion"):
        assert keys(default[section]) - keys(other[section]) == set()


@pytest.mark.parametrize("name", NAMES)
def test_configs_for_everyone_name_no_folder_of_a_machine(name):
    text = (REPOSITORY / "config" / name).read_text()
    values = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert not re.search(r"[\s'\"]/\w", values)
    assert "root" not in read("small.yaml")["corpus"]


def test_the_papers_fine_tuning_freezes_the_convolutions_masks_and_drops_layers():
    systems = [
        system
        for system in configured_systems(completed("paper.yaml")).values()
        if system.encoder == "hubert"
    ]
    assert len(systems) == 6
    for system in systems:
        # The front end's frames are computed once, so that nothing of it is trained.
        assert fine_tuned(system.spec()) and system.training["fine_tune"]["layer_drop"] == 0.1
        masks = system.training["spec_augment"]
        assert masks["time_masks"] * masks["max_frames"] > 0
        assert masks["channel_masks"] * masks["max_channels"] > 0
        # A quarter of a second: half as many frames of 20 ms as the default says for frames of 10 ms.
        defaults = complete(
            {}, yaml.safe_load(SCHEMA.read_text())["$defs"]["conformer"]["properties"]["spec_augment"]
        )
        assert masks["max_frames"] == defaults["max_frames"] // 2


def test_no_batch_of_the_papers_networks_is_large():
    config = completed("paper.yaml")
    conformer, hubert = config["encoders"]["conformer"], config["encoders"]["hubert"]
    numbers = 2 * conformer["strf"]["n_kernels"] * config["features"]["logmel"]["n_mels"]
    n_bytes = 4 * numbers * max(conformer["max_batch_frames"], conformer["crop_frames"])
    assert n_bytes < 0.2e9
    # Of usual bursts, of 2.24 s, the number of clips is the bound.
    assert conformer["batch_size"] * 224 < conformer["max_batch_frames"]
    assert hubert["batch_size"] * 112 < hubert["max_batch_frames"]
    # As long a stretch of a clip, in frames of 20 ms and of 10 ms.
    assert hubert["crop_frames"] * 2 == conformer["crop_frames"]
