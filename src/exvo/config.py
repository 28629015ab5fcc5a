"""Give config values from the command line their types.

Snakemake reads ``--config corpus='{root: PATH, limit: 500}'`` as nested text: the 500 arrives as ``"500"``. The
schema knows what it should be.
"""

from collections.abc import Mapping

import yaml


def with_types(value: object, schema: Mapping, definitions: Mapping | None = None) -> object:
    """Return a config value with every text that the schema wants as something else read as YAML.

    Parameters
    ----------
    value : object
        The config, or a part of it.
    schema : mapping
        JSON schema of the value.
    definitions : mapping or None
        ``$defs`` of the whole schema, for ``$ref``.

    Returns
    -------
    object
        A text that cannot be read so stays as it is, for validation to refuse.
    """
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    for option in schema.get("oneOf", ()):
        if option.get("type") == "object":
            schema = option
    kinds = schema.get("type", "string" if "enum" in schema else ())
    if isinstance(value, str) and kinds and "string" not in ([kinds] if isinstance(kinds, str) else kinds):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            return value
    if isinstance(value, str) and value == "null" and not isinstance(kinds, str) and "null" in kinds:
        return None
    if isinstance(value, Mapping):
        named, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, Mapping) else {}
        return {key: with_types(item, named.get(key, others), definitions) for key, item in value.items()}
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [with_types(item, schema["items"], definitions) for item in value]
    return value
