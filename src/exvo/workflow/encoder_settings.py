"""Settings of the encoders: one line of the table for each, from the dataclasses of its network and of its training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EncoderSettings:
    """Where the keys of an encoder are declared.

    Attributes
    ----------
    sections : tuple of type
        Dataclasses of the network and of the training; their fields are the keys, all on one level.
    defaults : mapping
        Defaults that differ from those of the dataclasses, by key.
    without : tuple of str
        Fields that are no keys of this encoder.
    """

    sections: tuple[type, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()


ENCODERS: dict[str, EncoderSettings] = {}
