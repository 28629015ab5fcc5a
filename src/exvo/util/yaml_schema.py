"""JSON schemas in YAML files."""

from pathlib import Path
from typing import Any

try:
    # libyaml's loader, if PyYAML was built with it, takes a seventh of the time.
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]  # the same methods, in Python


def read_schema(path: Path) -> dict[str, Any]:
    """Return the JSON schema of a YAML file."""
    loader = SafeLoader(path.read_bytes())
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
