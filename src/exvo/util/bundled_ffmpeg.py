"""The ffmpeg that came with the package imageio-ffmpeg, pinned with it."""

from importlib.resources import files


class FfmpegError(ValueError):
    """An ffmpeg that cannot be used, whatever the recordings."""


def bundled_ffmpeg() -> str:
    """Return the path of the program, whatever ``IMAGEIO_FFMPEG_EXE`` says and PATH holds.

    Raises
    ------
    FfmpegError
        Where the package came without one, as it does for platforms without a wheel.
    """
    folder = files("imageio_ffmpeg").joinpath("binaries")
    found = [entry for entry in folder.iterdir() if entry.name.startswith("ffmpeg-")]
    if len(found) != 1:
        raise FfmpegError(
            "imageio-ffmpeg came without a program for this machine: set audio.convert.ffmpeg to `system` or to the"
            " path of an ffmpeg"
        )
    return str(found[0])
