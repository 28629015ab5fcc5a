"""What a trained system writes down of the files and programs in its settings: nothing that tells where a run stood.

A folder of results can be passed on with the files that it names, and says nothing of whose they were. It names no
program either: what is started on a machine is for its user to say. `exvo.systems.local_files` is the way back.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exvo.corpus.paths import user_path

# Words for an ffmpeg that name no file, and what stands in the place of anything else.
FFMPEGS = ("bundled", "system")
CUSTOM = "custom"


def without_folders(system: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """Return a system, as `exvo.workflow.systems.System.spec` gives it, as its folder keeps it.

    A checkpoint in the working directory is named by the path that leads to it from the folder, one elsewhere by its
    last name alone. An ffmpeg of the user's own becomes ``custom``.

    Parameters
    ----------
    system : mapping
        Relative paths in it start from the working directory.
    folder : str or Path
        Of the trained system.
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
    """Return the path from the folder to a checkpoint, or its name where the path would leave the working directory."""
    home, start = Path.cwd(), _tidy(folder)
    place = user_path(checkpoint, "features.hubert.checkpoint")
    # Where the checkpoint is may be a link, and so may what leads to the working directory; what it is called stays.
    for path in (_tidy(place), place.parent.resolve() / place.name):
        if path.is_relative_to(home) and start.is_relative_to(home):
            return os.path.relpath(path, start)
    return place.name


def _tidy(path: Path) -> Path:
    """Return an absolute path without ``..``, its links as they are."""
    return Path(os.path.normpath(path.absolute()))
