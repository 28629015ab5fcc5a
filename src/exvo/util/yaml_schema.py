"""JSON schemas that are written in YAML."""

from pathlib import Path

try:
    # libyaml's, where PyYAML was built with it, reads the same in a seventh of the time.
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader


def read_schema(path: Path) -> dict:
    """Read a JSON schema that is written in YAML."""
    loader = SafeLoader(path.read_bytes())
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
