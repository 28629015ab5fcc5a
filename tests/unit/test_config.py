import copy
from pathlib import Path

import jsonschema
import pytest
import yaml

from exvo.corpus.errors import CorpusError
from exvo.util.yaml_schema import read_schema
from exvo.workflow.config import check_config, complete

SCHEMA = {
    "type": "object",
    "properties": {
        "root": {"type": "string"},
        "limit": {"type": ["integer", "null"], "default": 7},
        "rate": {"type": "number", "default": 0.5},
        "names": {"type": "array", "items": {"type": "integer"}, "default": []},
        "masks": {
            "type": ["object", "null"],
            "default": None,
            "properties": {"time": {"type": "integer", "default": 2}},
        },
        "part": {"$ref": "#/$defs/part", "default": {}},
        "systems": {
            "type": "object",
            "additionalProperties": {
                "type": ["object", "null"],
                "properties": {"n": {"type": "integer", "default": 1}},
            },
        },
    },
    "$defs": {"part": {"type": "object", "properties": {"x": {"type": "boolean", "default": True}}}},
}


def test_defaults_are_set_at_every_level():
    assert complete({}, SCHEMA) == {"limit": 7, "rate": 0.5, "names": [], "masks": None, "part": {"x": True}}


def test_a_key_that_refers_to_another_has_its_type_and_default():
    key = {"$ref": "#/$defs/part/properties/x"}
    schema = {**SCHEMA, "properties": {"y": key, "z": {**key, "default": False}}}
    assert complete({}, schema) == {"y": True, "z": False}
    assert complete({"y": "false"}, schema)["y"] is False


def test_texts_become_what_the_schema_wants():
    given = {"root": "12", "limit": "500", "rate": "2", "names": ["1", "2"], "part": {"x": "false"}}
    found = complete(given, SCHEMA)
    assert found["root"] == "12" and found["limit"] == 500 and found["rate"] == 2
    assert type(found["rate"]) is float and type(complete({"rate": 2}, SCHEMA)["rate"]) is float
    assert found["names"] == [1, 2] and found["part"] == {"x": False}
    assert complete({"limit": "null"}, SCHEMA)["limit"] is None


def test_an_object_that_may_be_null_may_be_null_or_gets_its_defaults():
    assert complete({"masks": None}, SCHEMA)["masks"] is None
    assert complete({"masks": {}}, SCHEMA)["masks"] == {"time": 2}
    assert complete({"systems": {"a": None, "b": {}}}, SCHEMA)["systems"] == {"a": None, "b": {"n": 1}}


def test_what_does_not_fit_is_left_for_validation():
    assert complete({"limit": "many", "other": 3}, SCHEMA) | {"x": 0} == complete(
        {"limit": "many"}, SCHEMA
    ) | {
        "other": 3,
        "x": 0,
    }


def test_neither_the_config_nor_the_schema_is_changed():
    given, schema = {"part": {}}, copy.deepcopy(SCHEMA)
    complete(given, schema)["names"].append(1)
    assert given == {"part": {}} and schema == SCHEMA


@pytest.mark.parametrize("key", [("audio", "vad", "treshold"), ("corpus", "shard")])
def test_a_misspelt_key_fails_validation(key):
    repository = Path(__file__).parents[2]
    schema = yaml.safe_load((repository / "workflow/schemas/config.schema.yaml").read_text())
    config = yaml.safe_load((repository / "config/config.yaml").read_text())
    jsonschema.validate(complete(config, schema), schema)
    place = config
    for name in key[:-1]:
        place = place.setdefault(name, {})
    place[key[-1]] = 1
    with pytest.raises(jsonschema.ValidationError, match=key[-1]):
        jsonschema.validate(complete(config, schema), schema)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rate": "fast"}, "config: rate: 'fast' is not of type 'number'"),
        ({"names": [1, "two"]}, "config: names.1: 'two' is not of type 'integer'"),
        ({"systems": {"mine": {"n": "many"}}}, "config: systems.mine.n: 'many' is not of type 'integer'"),
        ({"roots": "/data"}, "config: Additional properties are not allowed"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_with_its_key(config, words):
    schema = SCHEMA | {"additionalProperties": False}
    check_config(complete({}, schema), schema)
    with pytest.raises(CorpusError, match=words):
        check_config(config, schema)


def test_the_schema_is_read_as_the_plain_yaml_loader_reads_it(monkeypatch):
    path = Path(__file__).parents[2] / "workflow/schemas/config.schema.yaml"
    schema = read_schema(path)
    assert schema == yaml.safe_load(path.read_text())
    monkeypatch.setattr("exvo.util.yaml_schema.SafeLoader", yaml.SafeLoader)
    assert read_schema(path) == schema
