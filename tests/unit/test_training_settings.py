"""What a system changes of its encoder's settings is refused when the config is read, not by the training."""

import copy
from pathlib import Path

import pytest
import yaml

from exvo.corpus.table import CorpusError
from exvo.workflow.config import complete
from exvo.workflow.systems import configured_systems
from exvo.workflow.training_settings import checked_training

REPOSITORY = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
DEFAULT = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())


def read(training, *, system="conformer-strf", fusion=None):
    config = copy.deepcopy(DEFAULT)
    entry = config["systems"][system] if fusion is None else config["fusions"][fusion]
    entry["training"] = training
    return checked_training(complete(config, SCHEMA), SCHEMA)


@pytest.mark.parametrize(
    ("system", "training", "message"),
    [
        ("conformer-strf", {"learning_rate": "fast"}, r"learning_rate: 'fast' is not of type 'number'"),
        ("conformer-strf", {"frontend": "srtf"}, r"frontend: 'srtf' is not one of \['logmel', 'strf'\]"),
        ("burst-hubert-tiny", {"combination": "uncertanty"}, r"combination: 'uncertanty' is not one of"),
        ("mlp-raw", {"patience": 0}, "patience: 0 is less than the minimum of 1"),
        ("mlp-raw", {"precision": "fp8"}, "precision: 'fp8' is not one of"),
        ("conformer-logmel", {"strf": {"n_kernels": 2.5}}, r"strf\.n_kernels: 2\.5 is not of type 'integer'"),
        ("conformer-logmel", {"spec_augment": {"masks": 2}}, "spec_augment: Additional properties .*'masks'"),
        ("conformer-logmel", {"blocks": None}, "blocks: None is not of type 'object'"),
        (
            "burst-hubert-tiny",
            {"loss_weight_grid": {"age": ["x"]}},
            r"loss_weight_grid\.age\.0: 'x' is not of type 'number'",
        ),
    ],
)
def test_a_value_that_the_encoder_cannot_have_names_system_and_key(system, training, message):
    with pytest.raises(CorpusError, match=rf"^config: systems\.{system}\.training\.{message}"):
        read(training, system=system)


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("conformer-strf", r"conformer-strf\.training has no key fine_tune"),
        ("mlp-raw", r"mlp-raw\.training has no key fine_tune"),
    ],
)
def test_a_key_of_another_encoder_is_refused(system, message):
    with pytest.raises(CorpusError, match=message):
        read({"fine_tune": {}}, system=system)


def test_a_feature_fusion_is_checked_too():
    with pytest.raises(
        CorpusError, match=r"^config: fusions\.feature-fusion\.training\.dropout: 2\.0 is greater than"
    ):
        read({"dropout": 2}, fusion="feature-fusion")
    assert read({"dropout": "0.5"}, fusion="feature-fusion")["fusions"]["feature-fusion"]["training"] == {
        "dropout": 0.5
    }


def test_texts_of_the_command_line_become_numbers_and_nothing_is_added():
    given = {
        "max_epochs": "3",
        "learning_rate": "1e-3",
        "speed_perturbation": "true",
        "loss_weight_grid": "null",
        "strf": {"n_kernels": "4"},
        "spec_augment": {},
        "emotion_loss": "ccc",
    }
    config = read(given)
    assert config["systems"]["conformer-strf"]["training"] == {
        "max_epochs": 3,
        "learning_rate": 0.001,
        "speed_perturbation": True,
        "loss_weight_grid": None,
        "strf": {"n_kernels": 4},
        "spec_augment": {},
        "emotion_loss": "ccc",
    }
    # What is not changed comes from the encoder, not from the schema.
    training = configured_systems(config)["conformer-strf"].training
    assert training["strf"]["n_kernels"] == 4 and training["strf"]["support_frames"] == 15


def test_a_config_without_changes_is_as_it_was():
    config = complete(copy.deepcopy(DEFAULT), SCHEMA)
    config["systems"]["mlp-vad"] = config["fusions"]["paper"] = None
    assert checked_training(config, SCHEMA) == config


def test_a_number_in_scientific_notation_is_a_number_and_a_word_is_not():
    schema = {
        "properties": {key: {"type": "number"} for key in "abcd"} | {"e": {"type": "integer"}},
        "type": "object",
    }
    given = {"a": "1e-3", "b": "2.E4", "c": "nan", "d": "1e", "e": "1e3"}
    assert complete(given, schema) == {"a": 0.001, "b": 20000.0, "c": "nan", "d": "1e", "e": "1e3"}
