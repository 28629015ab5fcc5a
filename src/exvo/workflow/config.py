"""Complete a config by its schema, and check it: types for values of the command line, defaults for what is left out.

Snakemake reads ``--config corpus='{root: PATH, limit: 500}'`` as nested text, so that the 500 arrives as ``"500"``;
the schema says that it is an integer. Snakemake's own way to set defaults fails where a section may also be null.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

import yaml

from exvo.corpus.errors import CorpusError

_NONE = object()
# YAML 1.1 reads 1e-3, without a point, as text.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def check_config(config: Mapping, schema: Mapping, where: str = "") -> None:
    """Check a complete config, or a part of it, against its schema.

    Parameters
    ----------
    config, schema : mapping
    where : str
        Keys that lead to the part, joined by points.

    Raises
    ------
    CorpusError
        With the key and what is wrong with its value.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(config))
    if error is not None:
        key = ".".join(filter(None, [where, *map(str, error.absolute_path)]))
        words = ": ".join(filter(None, ["config", key, error.message]))
        raise CorpusError(f"{words} (docs/reference/config.md has every key)")


def complete(
    value: Any,  # noqa: ANN401 - a config value is of any type
    schema: Mapping,
    definitions: Mapping | None = None,
    *,
    defaults: bool = True,
) -> Any:  # noqa: ANN401
    """Return a config value with texts read as the schema's types and with defaults set, level by level.

    A whole number becomes a float where the schema has numbers, so that 20 and 20.0 are the same setting.

    Parameters
    ----------
    value : object
        The config, or a part of it.
    schema : mapping
        JSON schema of the value.
    definitions : mapping or None
        ``$defs`` of the complete schema, for ``$ref``; None takes those of ``schema``.
    defaults : bool
        Whether keys that were left out get their defaults.

    Returns
    -------
    object
        Values that do not fit the schema are unchanged; `check_config` refuses them.
    """
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    schema = _resolved(schema, definitions)
    kinds = schema.get("type", "string" if "enum" in schema else ())
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if isinstance(value, str) and kinds and ("string" not in kinds or (value == "null" and "null" in kinds)):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            return value
        if isinstance(value, str) and "number" in kinds and _NUMBER.fullmatch(value):
            value = float(value)
    if "number" in kinds and type(value) is int:
        return float(value)
    if isinstance(value, Mapping):
        named, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, Mapping) else {}
        result = {
            key: complete(item, named.get(key, others), definitions, defaults=defaults)
            for key, item in value.items()
        }
        for key, part in named.items() if defaults else ():
            default = part.get("default", _resolved(part, definitions).get("default", _NONE))
            if key not in result and default is not _NONE:
                result[key] = complete(copy.deepcopy(default), part, definitions)
        return result
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [complete(item, schema["items"], definitions, defaults=defaults) for item in value]
    return value


def _resolved(schema: Mapping, definitions: Mapping) -> Mapping:
    """Follow a reference into ``$defs``."""
    if "$ref" in schema:
        _, _, *path = schema["$ref"].split("/")
        schema = definitions
        for name in path:
            schema = schema[name]
    return schema
