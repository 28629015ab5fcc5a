"""Find what a trained system was made with on this machine: its checkpoint, if it is the right one, and an ffmpeg.

What a model's folder says is taken for words. It can name no program, and no file but weights of the SHA-256 that it
states, of which nothing is run.
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
    """What the user of a machine names, for models that do not say it or may not.

    Attributes
    ----------
    ffmpeg : str or None
        ``bundled``, ``system`` or the path of a program; None for what each model says.
    checkpoints : tuple of Path
        Weights, or folders of them; a model takes the ones that it was made with.
    """

    ffmpeg: str | None = None
    checkpoints: tuple[Path, ...] = ()


def with_files(system: Mapping[str, Any], folder: Path, local: LocalFiles) -> dict[str, Any]:
    """Return a system as `exvo.training.portable_paths.without_folders` was given it, for this machine.

    Parameters
    ----------
    system : mapping
        As the folder keeps it.
    folder : Path
        Of the trained system.
    local : LocalFiles

    Raises
    ------
    ValueError
        Where the system was made with an ffmpeg of its own and the user names none, or its checkpoint is not found.
    """
    found = dict(system)
    if "audio" in found:
        convert = found["audio"]["convert"]
        ffmpeg = convert["ffmpeg"] if local.ffmpeg is None else local.ffmpeg
        if local.ffmpeg is None and ffmpeg not in FFMPEGS:
            raise ValueError(
                f"{folder}: made with an ffmpeg of its own, and no program is started because a model names it; say "
                "--ffmpeg bundled or --ffmpeg system, whose answers may differ a little, or --ffmpeg PATH"
            )
        found["audio"] = {**found["audio"], "convert": {**convert, "ffmpeg": ffmpeg}}
    feature = found.get("feature_config", {})
    if feature.get("source") == "checkpoint":
        path = _checkpoint(str(feature["checkpoint"]), str(feature["sha256"]), folder, local)
        found["feature_config"] = {**feature, "checkpoint": str(path)}
    return found


def _checkpoint(kept: str, sha256: str, folder: Path, local: LocalFiles) -> Path:
    # From the folder as it is called, and from where it is.
    starts = (folder.absolute(), folder.resolve())
    places = [*local.checkpoints, *(Path(os.path.normpath(start / kept)) for start in starts)]
    for path in map(weights_of, places):
        if path.is_file() and file_sha256(path) == sha256:
            return path
    raise ValueError(
        f"{folder}: made with the weights {Path(kept).name} of SHA-256 {sha256}, which are not found; name the file, "
        f"or its folder, with --checkpoint PATH (looked at: {', '.join(dict.fromkeys(map(str, places)))})"
    )
