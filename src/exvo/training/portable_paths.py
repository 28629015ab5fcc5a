"""Settings of a trained system without the folders and programs of the machine.

A trained system can be shared together with its checkpoint, and does not disclose where it was trained. It names no
program either, because only the user of a machine decides what runs there. `exvo.systems.local_files` does the reverse.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exvo.corpus.paths import user_path

# Values of ``ffmpeg`` that are no file, and the value that replaces all others.
FFMPEGS = ("bundled", "system")
CUSTOM = "custom"


def without_folders(system: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """Return the settings of a system (`exvo.workflow.systems.System.spec`) for its folder.

    A checkpoint in the working directory becomes a path relative to the folder; of any other, only the name remains.
    An ffmpeg of the user becomes ``custom``.

    Parameters
    ----------
    system : mapping
        Relative paths start from the working directory.
    folder : str or Path
        Folder of the trained system.
    """
    kept = dict(system)
    if "audio" in kept:
        convert = kept["audio"]["convert"]
        ffmpeg = convert["ffmpeg"] if convert["ffmpeg"] in FFMPEGS else CUSTOM
        kept["audio"] = {**kept["audio"], "convert": {**convert, "ffmpeg": ffmpeg}}
    feature = kept.get("feature_config", {})
    if feature.get("checkpoint") is not None:
        kept["feature_config"] = {**feature, "checkpoint": _bare(feature["checkpoint"], Path(folder))}
    return kept


def _bare(checkpoint: str, folder: Path) -> str:
    """Return the path from the folder to a checkpoint in the working directory, or the name of any other."""
    home, start = Path.cwd(), _tidy(folder)
    place = user_path(checkpoint, "features.hubert.checkpoint")
    # The folder of the checkpoint and the working directory may be links; the name of the file is kept.
    for path in (_tidy(place), place.parent.resolve() / place.name):
        if path.is_relative_to(home) and start.is_relative_to(home):
            return os.path.relpath(path, start)
    return place.name


def _tidy(path: Path) -> Path:
    """Return an absolute path without ``..``; links are not resolved."""
    return Path(os.path.normpath(path.absolute()))
