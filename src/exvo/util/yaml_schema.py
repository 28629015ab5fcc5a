"""JSON schemas in YAML files."""

from pathlib import Path
from typing import Any

import yaml

# libyaml's loader, if PyYAML was built with it, takes a seventh of the time.
SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_schema(path: Path) -> dict[str, Any]:
    """Return the JSON schema of a YAML file."""
    loader = SafeLoader(path.read_bytes())
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
