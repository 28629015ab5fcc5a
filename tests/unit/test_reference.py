"""The schema and the reference page of the config, which are generated from dataclasses."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest

from exvo.audio.stages import STAGES
from exvo.corpus.labels import TASKS
from exvo.util.settings import NO_KEY, Bounds, Count, Items, Name, Positive, Sha256, Stage, Task
from exvo.workflow import encoder_settings, systems
from exvo.workflow.schema import descriptions, section_schema

REPOSITORY = Path(__file__).parents[2]


def test_the_generated_files_are_up_to_date():
    call = [sys.executable, REPOSITORY / "docs/tools/reference.py", "--check"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_stages_tasks_and_encoders_are_those_of_the_code():
    assert get_args(Stage) == STAGES and get_args(Task) == TASKS
    assert list(encoder_settings.ENCODERS) == list(systems.ENCODERS)


@dataclass(frozen=True)
class Inner:
    """A section.

    Attributes
    ----------
    width, height : int
        A size, at
        most ``width``.
    """

    width: Count = 3
    height: Annotated[int, Bounds(at_least=1, below=9)] = 4


@dataclass(frozen=True)
class Outer(Inner):
    """A section with another.

    Attributes
    ----------
    root : str
        A folder.
    rate : float or None
        A rate.
    kind : {"a", "b"}
        A kind.
    sizes : tuple of int
        Sizes.
    span : tuple of float
        From where to where.
    inner : Inner
        The other.
    option : Inner or None
        Perhaps another.
    entries : mapping
        Others by name.
    anything : mapping
        Any keys.
    sha256 : str or None
        A digest.
    hidden : int
        Not for users.

    Notes
    -----
    height : int
        Not this one.
    """

    root: str = field(kw_only=True)
    rate: Positive | None = None
    kind: Literal["a", "b"] = "a"
    sizes: Annotated[tuple[Count, ...], Items(at_least=1, unique=True)] = (1, 2)
    span: tuple[float, float] = (0.0, 1.0)
    inner: Inner = field(default_factory=lambda: Inner(height=7))
    option: Inner | None = None
    entries: dict[Name, Inner | None] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    sha256: Sha256 | None = None
    hidden: Annotated[int, NO_KEY] = 0


def without_descriptions(schema):
    """Return a schema without texts."""
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: without_descriptions(part) for name, part in value.items()}
        if key == "properties"
        else without_descriptions(value)
        for key, value in schema.items()
        if key != "description"
    }


def test_a_section_has_the_types_bounds_and_defaults_of_its_dataclass():
    width = {"default": 3, "type": "integer", "minimum": 1}
    height = {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}
    inner = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"width": width, "height": {"default": 4, **height}},
    }
    other = {**inner, "properties": {"width": width, "height": {"default": 7, **height}}}
    schema = section_schema(Outer, defaults={"rate": 0.5})
    assert schema["required"] == ["root"] and schema["additionalProperties"] is False
    assert without_descriptions(schema)["properties"] == {
        "width": width,
        "height": {"default": 4, **height},
        "root": {"type": "string"},
        "rate": {"default": 0.5, "type": ["number", "null"], "exclusiveMinimum": 0},
        "kind": {"default": "a", "enum": ["a", "b"]},
        "sizes": {
            "default": [1, 2],
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 1,
            "uniqueItems": True,
        },
        "span": {
            "default": [0.0, 1.0],
            "type": "array",
            "items": {"type": "number"},
            "minItems": 2,
            "maxItems": 2,
        },
        "inner": {"default": {}, **other},
        "option": {"default": None, **inner, "type": ["object", "null"]},
        "entries": {
            "default": {},
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$"},
            "additionalProperties": {**inner, "type": ["object", "null"]},
        },
        "anything": {"default": {}, "type": "object"},
        "sha256": {"default": None, "type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
    }


def test_descriptions_are_those_of_the_docstring():
    found = descriptions(Outer)
    assert found["width"] == found["height"] == "A size, at most `width`."
    assert found["root"] == "A folder." and found["hidden"] == "Not for users."


@dataclass
class Silent:
    """A section without descriptions."""

    width: int = 1


@dataclass
class Odd:
    """A section that no config can express.

    Attributes
    ----------
    width : int or str
        A size.
    """

    width: int | str = 1


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ((Silent,), r"Silent\.width has no description"),
        ((Odd,), r"Odd\.width: the schema knows unions with None only"),
        ((Inner, Outer), r"Outer\.width is a key of another dataclass"),
    ],
)
def test_a_dataclass_that_makes_no_section_is_refused(sections, message):
    with pytest.raises(ValueError, match=message):
        section_schema(*sections)
