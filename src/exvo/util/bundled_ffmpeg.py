"""The ffmpeg program in the package imageio-ffmpeg, whose version is pinned."""

from importlib.resources import files


class FfmpegError(ValueError):
    """An ffmpeg program that cannot be used for any recording."""


def bundled_ffmpeg() -> str:
    """Return the path of the program, regardless of ``IMAGEIO_FFMPEG_EXE`` and PATH.

    Raises
    ------
    FfmpegError
        Where the package has no program, as on platforms without a wheel.
    """
    folder = files("imageio_ffmpeg").joinpath("binaries")
    found = [entry for entry in folder.iterdir() if entry.name.startswith("ffmpeg-")]
    if len(found) != 1:
        raise FfmpegError(
            "imageio-ffmpeg has no ffmpeg program for this machine: set audio.convert.ffmpeg to `system` or to the path"
            " of an ffmpeg"
        )
    return str(found[0])
