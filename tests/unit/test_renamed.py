"""Old names of the config are refused with the new ones, wherever a user's config may have them."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from exvo.corpus.errors import CorpusError
from exvo.workflow.renamed import refuse_old_names

REPOSITORY = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
SCHEMA = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())


def nested(place, value):
    """Return a config with one key, given by its place."""
    for key in reversed(place.split(".")):
        value = {key: value}
    return value


def refused(change):
    """Return what is said of a user's config on top of the default one."""
    config = copy.deepcopy(DEFAULT)
    update_config(config, change)
    with pytest.raises(CorpusError) as error:
        refuse_old_names(config)
    return str(error.value)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("features.compare", {"feature_set": "eGeMAPSv02"}, "features.compare -> features.opensmile"),
        (
            "features.variants.compare-egemaps",
            {},
            "features.variants.compare-egemaps -> features.variants.opensmile-egemaps",
        ),
        ("systems.mine", {"feature": "compare"}, "systems.mine.feature: compare -> opensmile"),
        (
            "systems.mine",
            {"feature": "compare-small"},
            "systems.mine.feature: compare-small -> opensmile-small",
        ),
        ("joint.dropout", 0.1, "joint -> feature_fusion"),
        ("joint.max_deviation", 5, "joint.max_deviation -> joint.max_sd"),
        ("fusions.mine.rule", "joint", "fusions.mine.rule: joint -> feature_fusion"),
        ("fusions.mine.representation", "pooled", "fusions.mine.representation -> fusions.mine.inputs"),
        ("fusions.mine.representation", "pooled", "fusions.mine.representation: pooled -> embeddings"),
        ("fusions.mine.inputs", "pooled", "fusions.mine.inputs: pooled -> embeddings"),
        ("fusions.mine.training.max_deviation", 5, "training.max_deviation -> fusions.mine.training.max_sd"),
        (
            "encoders.conformer.conformer",
            {"ffn": 8},
            "encoders.conformer.conformer -> encoders.conformer.blocks",
        ),
        ("systems.mine.training.conformer", {"ffn": 8}, "systems.mine.training.blocks"),
        ("encoders.hubert.max_frames", 700, "encoders.hubert.max_frames -> encoders.hubert.crop_frames"),
        ("systems.mine.training.max_frames", 700, "systems.mine.training.crop_frames"),
        ("pretrain.models.mine.training.max_frames", 200, "pretrain.models.mine.training.crop_frames"),
        ("encoders.hubert.tune", {}, "encoders.hubert.tune -> encoders.hubert.loss_weight_grid"),
        ("encoders.mlp.max_deviation", 5, "encoders.mlp.max_deviation -> encoders.mlp.max_sd"),
        ("encoders.mlp.precision", "float32", "encoders.mlp.precision: float32 -> fp32"),
        ("encoders.conformer.precision", "32-true", "encoders.conformer.precision: 32-true -> fp32"),
        ("systems.mine.training.precision", "bf16-mixed", "training.precision: bf16-mixed -> bf16"),
        ("feature_fusion.precision", "16-mixed", "feature_fusion.precision: 16-mixed -> fp16"),
        ("features.hubert.precision", "bfloat16", "features.hubert.precision: bfloat16 -> bf16"),
        ("features.variants.hubert-x.precision", "float16", "hubert-x.precision: float16 -> fp16"),
        ("pretrain.models.mine.training.precision", "bf16-mixed", "precision: bf16-mixed -> bf16"),
        ("systems.organisers-vad", None, "systems.organisers-vad -> systems.mlp-vad"),
        ("fusions.joint", None, "fusions.joint -> fusions.feature-fusion"),
        ("tables.table2.joint", "burst-hubert-tiny", "tables.table2.joint -> tables.table2.multitask"),
    ],
)
def test_an_old_name_on_top_of_the_default_config_is_refused_with_the_new_one(place, value, words):
    assert words in refused(nested(place, value))


def test_all_old_names_are_named_at_once():
    message = refused({"joint": {}, "features": {"compare": {}}})
    assert "joint -> feature_fusion" in message and "features.compare -> features.opensmile" in message


@pytest.mark.parametrize("name", ["config.yaml", "paper.yaml", "small.yaml"])
def test_the_configs_of_the_repository_have_no_old_name(name):
    refuse_old_names(yaml.safe_load((REPOSITORY / "config" / name).read_text()))


def test_names_that_are_still_in_use_are_accepted():
    refuse_old_names(nested("encoders.hubert.spec_augment.max_frames", 12))
    refuse_old_names(nested("features.logmel.dtype", "float16"))
    refuse_old_names(nested("systems.joint.training", {}))
    refuse_old_names({"features": None, "encoders": "not a section"})


def test_no_name_of_the_schema_is_an_old_one():
    def walk(node, keys):
        for name, key in node.get("properties", {}).items():
            yield from walk(resolved(key), (*keys, name))
        if isinstance(node.get("additionalProperties"), dict):
            yield from walk(resolved(node["additionalProperties"]), (*keys, "any"))
        yield keys, node.get("enum", ())

    def resolved(key):
        return SCHEMA["$defs"][key["$ref"].rpartition("/")[2]] if "$ref" in key else key

    for keys, values in walk(SCHEMA, ()):
        if keys:
            refuse_old_names(nested(".".join(keys), None))
            for value in values:
                refuse_old_names(nested(".".join(keys), value))


def test_an_old_name_of_the_command_line_is_refused_by_the_workflow(tmp_path):
    call = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "workflow/Snakefile", "--dry-run"]
    call += ["--directory", tmp_path, "--config", "encoders={mlp: {precision: float32}}"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode and "encoders.mlp.precision: float32 -> fp32" in done.stdout + done.stderr
