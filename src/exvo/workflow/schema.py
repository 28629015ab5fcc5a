"""JSON schemas from dataclasses: a key's type and bounds are its annotation, its description is in the docstring.

Only the generator of ``workflow/schemas/config.schema.yaml`` needs this; the Snakefile reads that file, because the
dataclasses of the networks import torch.
"""

import inspect
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from exvo.util.settings import NO_KEY, Bounds, Items, Schema, Text

_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}
_BOUNDS = {
    "at_least": "minimum",
    "at_most": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
}


def section_schema(
    *sections: type, defaults: Mapping[str, Any] | None = None, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the JSON schema of a section of the config.

    Parameters
    ----------
    *sections : type
        Dataclasses whose fields are the keys of the section, all on one level.
    defaults : mapping or None
        Defaults that differ from those of the dataclasses, by key.
    without : tuple of str
        Fields that are no keys of this section.

    Raises
    ------
    ValueError
        Where a key has no description, is in two of the dataclasses, or has a type that a config cannot express.
    """
    defaults = defaults or {}
    properties: dict[str, Any] = {}
    required = []
    for section in sections:
        hints = get_type_hints(section, include_extras=True)
        texts = descriptions(section)
        for field in fields(section):
            name = field.name
            if name in without or NO_KEY in getattr(hints[name], "__metadata__", ()):
                continue
            where = f"{section.__name__}.{name}"
            if not texts.get(name):
                raise ValueError(f"{where} has no description in the section Attributes of its docstring")
            if name in properties:
                raise ValueError(f"{where} is a key of another dataclass of the section too")
            default = defaults.get(name, _default(field))
            if default is MISSING:
                required.append(name)
            properties[name] = _key(hints[name], default, texts[name], where)
    needed = {"required": required} if required else {}
    return {"type": "object", "additionalProperties": False, **needed, "properties": properties}


def descriptions(section: type) -> dict[str, str]:
    """Return the description of each field of a dataclass, from the numpydoc section ``Attributes``.

    Descriptions of base classes count too. Double backquotes become single ones, as in Markdown.
    """
    found = {}
    for base in reversed(section.__mro__):
        lines = inspect.cleandoc(base.__doc__ or "").splitlines()
        starts = [
            i + 2 for i, line in enumerate(lines[:-1]) if line == "Attributes" and lines[i + 1][:3] == "---"
        ]
        for name, text in _entries(lines[starts[0] :]) if starts else ():
            found[name] = text
    return found


def _entries(lines: list[str]) -> list[tuple[str, str]]:
    """Return the names and texts of the entries of a numpydoc section, up to the next section."""
    entries: list[tuple[list[str], list[str]]] = []
    for i, line in enumerate(lines):
        if lines[i + 1 : i + 2] and lines[i + 1].startswith("---"):
            break
        if line[:1].strip():
            names = line.partition(" : ")[0]
            entries.append(([name.strip() for name in names.split(",")], []))
        elif line.strip() and entries:
            entries[-1][1].append(line.strip())
    return [(name, " ".join(texts).replace("``", "`")) for names, texts in entries for name in names]


def _default(field: Field[Any]) -> Any:  # noqa: ANN401 - a default is of any type
    return field.default if field.default_factory is MISSING else field.default_factory()


def _key(hint: Any, default: Any, description: str, where: str) -> dict[str, Any]:  # noqa: ANN401
    """Return the schema of a key with its description and default."""
    given = {} if default is MISSING else {"default": _plain(default)}
    return {"description": description, **given, **_value(hint, default, where)}


def _value(hint: Any, default: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    """Return the schema of a value by its annotation; keys of a nested section have their defaults from ``default``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _constrained(args, default, where)
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return _or_null(args, default, where)
    if origin is tuple:
        repeated = args[-1] is Ellipsis
        size = {} if repeated else {"minItems": len(args), "maxItems": len(args)}
        return {"type": "array", "items": _value(args[0], MISSING, where), **size}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(args[0], args[1], where)
    if isinstance(hint, type) and is_dataclass(hint):
        nested = {f.name: getattr(default, f.name) for f in fields(hint)} if isinstance(default, hint) else {}
        return section_schema(hint, defaults=nested)
    raise ValueError(f"{where}: the schema knows no type {hint}")


def _constrained(args: tuple[Any, ...], default: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    replaced = [mark.keywords for mark in args[1:] if isinstance(mark, Schema)]
    if replaced:
        return dict(replaced[0])
    schema = _value(args[0], default, where)
    for mark in args[1:]:
        if isinstance(mark, Bounds):
            limits = {word: getattr(mark, name) for name, word in _BOUNDS.items()}
            schema |= {word: limit for word, limit in limits.items() if limit is not None}
        elif isinstance(mark, Items):
            word = "minItems" if schema["type"] == "array" else "minProperties"
            schema |= {word: mark.at_least} if mark.at_least else {}
            schema |= {"uniqueItems": True} if mark.unique else {}
        elif isinstance(mark, Text):
            schema |= {"pattern": mark.pattern} if mark.pattern else {}
            schema |= {"minLength": mark.min_length} if mark.min_length else {}
        else:
            raise ValueError(f"{where}: the schema knows no annotation {mark!r}")
    return schema


def _or_null(args: tuple[Any, ...], default: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    options = [arg for arg in args if arg is not type(None)]
    if len(options) != 1 or len(args) != 2:
        raise ValueError(f"{where}: the schema knows unions with None only")
    schema = _value(options[0], default, where)
    if "enum" in schema:
        return schema | {"enum": [*schema["enum"], None]}
    return schema | {"type": [schema["type"], "null"]}


def _mapping(key: Any, value: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    names = {name: word for name, word in _value(key, MISSING, where).items() if name != "type"}
    schema: dict[str, Any] = {"type": "object"} | ({"propertyNames": names} if names else {})
    return schema if value is Any else schema | {"additionalProperties": _value(value, MISSING, where)}


def _plain(default: Any) -> Any:  # noqa: ANN401
    """Return a default as a config file would have it; the keys of a nested section have their own defaults."""
    if is_dataclass(default):
        return {}
    return list(default) if isinstance(default, tuple) else default
