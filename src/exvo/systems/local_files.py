"""Find the checkpoint and the ffmpeg of a trained system on this machine.

The folder of a model is not trusted. It cannot name a program. It can name a file of weights, which has to have the
given SHA-256, and from which no code is executed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exvo.hubert.checkpoint_files import file_sha256, weights_of
from exvo.training.portable_paths import FFMPEGS


@dataclass(frozen=True)
class LocalFiles:
    """Files that the user names, for models that do not or must not name them.

    Attributes
    ----------
    ffmpeg : str or None
        ``bundled``, ``system`` or the path of a program; None for the setting of each model.
    checkpoints : tuple of Path
        Files of weights, or folders of them; a model uses those with its SHA-256.
    """

    ffmpeg: str | None = None
    checkpoints: tuple[Path, ...] = ()


def with_files(system: Mapping[str, Any], folder: Path, local: LocalFiles) -> dict[str, Any]:
    """Return the settings of a system with the files of this machine, as before `without_folders`.

    Parameters
    ----------
    system : mapping
        Settings from the folder, as from `exvo.training.portable_paths.without_folders`.
    folder : Path
        Folder of the trained system.
    local : LocalFiles

    Raises
    ------
    ValueError
        Where the system was trained with a custom ffmpeg and the user names none, or its checkpoint is not found.
    """
    found = dict(system)
    if "audio" in found:
        convert = found["audio"]["convert"]
        ffmpeg = convert["ffmpeg"] if local.ffmpeg is None else local.ffmpeg
        if local.ffmpeg is None and ffmpeg not in FFMPEGS:
            raise ValueError(
                f"{folder}: made with an ffmpeg of its own, and no program is started because a model names it; say "
                "--ffmpeg bundled or --ffmpeg system, whose output may differ slightly, or --ffmpeg PATH"
            )
        found["audio"] = {**found["audio"], "convert": {**convert, "ffmpeg": ffmpeg}}
    feature = found.get("feature_config", {})
    if feature.get("source") == "checkpoint":
        path = _checkpoint(str(feature["checkpoint"]), str(feature["sha256"]), folder, local)
        found["feature_config"] = {**feature, "checkpoint": str(path)}
    return found


def _checkpoint(kept: str, sha256: str, folder: Path, local: LocalFiles) -> Path:
    # Relative to the folder as named, and with its links resolved.
    starts = (folder.absolute(), folder.resolve())
    places = [*local.checkpoints, *(Path(os.path.normpath(start / kept)) for start in starts)]
    for path in map(weights_of, places):
        if path.is_file() and file_sha256(path) == sha256:
            return path
    raise ValueError(
        f"{folder}: made with the weights {Path(kept).name} of SHA-256 {sha256}, which are not found; name the file, "
        f"or its folder, with --checkpoint PATH (looked at: {', '.join(dict.fromkeys(map(str, places)))})"
    )
