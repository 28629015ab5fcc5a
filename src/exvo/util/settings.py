"""Types of settings with their bounds, for the dataclasses that declare the keys of the config.

`exvo.workflow.schema` builds the JSON schema of the config from these annotations, and the descriptions of the keys
from the dataclasses' docstrings. This module needs the standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

# Marks a field of a dataclass that is not a key of the config: Annotated[int, NO_KEY].
NO_KEY = "not a key of the config"


@dataclass(frozen=True)
class Bounds:
    """Bounds of a number.

    Attributes
    ----------
    at_least, at_most : float or None
        Inclusive bounds.
    above, below : float or None
        Exclusive bounds.
    """

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Items:
    """Number of items of a sequence or mapping.

    Attributes
    ----------
    at_least : int
        Minimum number.
    unique : bool
        Whether no two items of a sequence may be equal.
    """

    at_least: int = 0
    unique: bool = False


@dataclass(frozen=True)
class Text:
    """Constraints of a text.

    Attributes
    ----------
    pattern : str or None
        Regular expression that the text must match (`re.search`).
    min_length : int
        Minimum number of characters.
    """

    pattern: str | None = None
    min_length: int = 0


@dataclass(frozen=True)
class Schema:
    """JSON schema of a key that the other annotations cannot express; it replaces that of the type.

    Attributes
    ----------
    keywords : mapping
        Keywords of JSON schema.
    """

    keywords: Mapping[str, Any]


Positive = Annotated[float, Bounds(above=0)]
NotNegative = Annotated[float, Bounds(at_least=0)]
Negative = Annotated[float, Bounds(below=0)]
# From 0 to 1; without 0; without 1; without either.
Share = Annotated[float, Bounds(at_least=0, at_most=1)]
PositiveShare = Annotated[float, Bounds(above=0, at_most=1)]
Probability = Annotated[float, Bounds(at_least=0, below=1)]
OpenShare = Annotated[float, Bounds(above=0, below=1)]

Count = Annotated[int, Bounds(at_least=1)]
Natural = Annotated[int, Bounds(at_least=0)]

Name = Annotated[str, Text(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Device = Annotated[str, Text(pattern="^(auto|cpu|cuda(:[0-9]+)?)$")]
Sha256 = Annotated[str, Text(pattern="^[0-9a-f]{64}$")]

Stage = Literal["baseline", "raw", "dc", "denoised", "vad"]
Task = Literal["emotion", "age", "country"]
FrameType = Literal["float16", "float32"]


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with their lists as tuples: JSON and YAML have no tuples, and frozen dataclasses no lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
