"""Paths in the settings of a trained system: kept relative to its folder, so that no file tells where a run stood.

A folder of results can be passed on with the folders that it names, and says nothing of whose they were.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

# Settings, by section of a system, that may name a file, and the values that are words and no paths.
_PATHS = {("audio", "convert", "ffmpeg"): ("bundled", "system"), ("feature_config", "checkpoint"): ()}


def without_folders(system: Mapping[str, object], folder: str | Path) -> dict[str, object]:
    """Return a system, as `exvo.systems.System.spec` gives it, with paths that lead from its folder.

    Parameters
    ----------
    system : mapping
        Relative paths in it start from the working directory.
    folder : str or Path
        Of the trained system.
    """
    folder = Path(folder).resolve()

    def relative(path: str) -> str:
        # Where the folder is may be a link; what the file itself is called stays.
        place = Path(path).expanduser()
        return os.path.relpath(place.parent.resolve() / place.name, folder)

    return _changed(system, relative)


def with_folders(system: Mapping[str, object], folder: str | Path) -> dict[str, object]:
    """Return what `without_folders` was given, with whole paths."""
    folder = Path(folder).resolve()
    return _changed(system, lambda path: os.path.normpath(folder / path))


def _changed(system: Mapping[str, object], change: Callable[[str], str]) -> dict[str, object]:
    return {section: _part(value, (section,), change) for section, value in system.items()}


def _part(value: object, place: tuple[str, ...], change: Callable[[str], str]) -> object:
    if isinstance(value, Mapping):
        return {name: _part(part, (*place, name), change) for name, part in value.items()}
    # A bare name is a program on PATH.
    is_path = place in _PATHS and isinstance(value, str) and value not in _PATHS[place]
    if is_path and (place[-1] != "ffmpeg" or os.sep in value):
        return change(value)
    return value
