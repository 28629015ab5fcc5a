"""Find the configured ffmpeg and test it on a known recording before it decodes a corpus.

An ffmpeg that is too old, lacks a component or cannot run on this machine would fail on every recording, and every
clip would be flagged as unreadable. It therefore first decodes 0.1 s of Opus, with the same command as for the clips.
"""

import re
import subprocess
import tempfile
from base64 import b64decode
from functools import lru_cache

import numpy as np

from exvo.audio.decode import ConvertConfig, Decoded, decode_file
from exvo.audio.recording import Recording
from exvo.audio.store import SAMPLE_RATE
from exvo.corpus.paths import expanded
from exvo.util.bundled_ffmpeg import FfmpegError, bundled_ffmpeg

# The first version with the protocol `fd`.
LEAST_VERSION = 6
# A tone of 440 Hz, 0.1 s, mono, of amplitude 0.4: Ogg Opus.
SAMPLE = b64decode(
    "T2dnUwACAAAAAAAAAAAAAAAAAAAAAAIotXIBE09wdXNIZWFkAQE4AYC7AAAAAABPZ2dTAAAAAAAAAAAAAAAAAAABAAAASZW+VAEuT3B1c1RhZ3"
    "MGAAAAZmZtcGVnAQAAABQAAABlbmNvZGVyPUxhdmMgbGlib3B1c09nZ1MABPgTAAAAAAAAAAAAAAIAAAD9orzIBlo7Pz5GMXiDEK1Wo+HYAAAG"
    "PiInsLM5VNAchmamUZY/goI454dHT/nHUx0F6lunIWZ7jYIaiB4COrHEcqMGzrfiIxs7eqP3U2HSiRboKGAP5jYVIZNSCQfzyJSA5aXqSniqfp"
    "9X4ym8kqWAMDCJgW3Oqvv9rJwasVdv9i7DqmffwIPQnGDuRR0ZOHv1rMruq6bI1wPY8PeJT0G7eJ/6jBBZ0mbRLyho03cFfps/YJoWGTZr0Id3"
    "i0BZ3kJNkUxdKhNuRsrl2TL6CbOXn/4216DwVbn/1/cs3XwLeJ/6jBBZ0lgYIERfyS26ptWOX5eiap0rwoxgAXHlx4Bicuih+S/3m89mokpnOS"
    "RONIZ69VzFDq13SxNvWUt4n/qMEFnSYJ3TIEdOgn9kw1NSD3lVEDVzUK1DBfvhCWAKtOLMEn5fozg3pQfy9otwEaCLXeqaCpFa5gz1umnf4Enl"
    "a/YLeAY5C9CUklXNVX0DviI+uMwqb8qFZ/w2kPwiLrfbz05Ub0QhDqbCCX+tP2FTjiYOSg=="
)
SAMPLE_SECONDS, SAMPLE_LEVEL = 0.1, 0.4 / np.sqrt(2)


def ffmpeg_binary(choice: str, config: ConvertConfig | None = None) -> str:
    """Return the ffmpeg program that ``audio.convert.ffmpeg`` names, after a test.

    Parameters
    ----------
    choice : str
        ``bundled``, ``system`` or a path.
    config : ConvertConfig
        Its limits apply to the test; by default those of the default config.

    Raises
    ------
    CorpusError
        As for `exvo.corpus.paths.expanded`.
    FfmpegError
        Where there is no such program, or it cannot decode as needed. The message says what to do.
    """
    if choice == "bundled":
        binary = bundled_ffmpeg()
    elif choice == "system":
        binary = "ffmpeg"
    else:
        binary = expanded(choice, "audio.convert.ffmpeg")
    config = config or ConvertConfig()
    _try(binary, config.timeout_s, config.memory_mb)
    return binary


@lru_cache
def _try(binary: str, timeout_s: float, memory_mb: float) -> None:
    """Decode the sample; raise `FfmpegError` with the reason if the result is wrong."""
    with tempfile.TemporaryFile() as file:
        file.write(SAMPLE)
        file.flush()
        config = ConvertConfig(timeout_s=timeout_s, memory_mb=memory_mb)
        try:
            decoded = decode_file(Recording("a sample", file.fileno(), SAMPLE), config, binary)
        except subprocess.TimeoutExpired:
            raise FfmpegError(
                f"{binary}: does not decode a sample of {SAMPLE_SECONDS} s within {timeout_s} s; increase"
                " audio.convert.timeout_s"
            ) from None
        except OSError as error:
            raise FfmpegError(
                f"{binary}: cannot be started ({error.strerror}); correct audio.convert.ffmpeg, which names it"
            ) from error
    if not _sounds_right(decoded):
        raise FfmpegError(f"{binary}: {_what_is_wrong(binary, memory_mb, decoded)}; no recording was decoded")


def _sounds_right(decoded: Decoded) -> bool:
    level = float(np.sqrt(np.mean(decoded.audio**2))) if len(decoded.audio) else 0.0
    length = abs(len(decoded.audio) - SAMPLE_SECONDS * SAMPLE_RATE)
    return not decoded.error and length <= 0.01 * SAMPLE_RATE and abs(level / SAMPLE_LEVEL - 1) < 0.1


def _what_is_wrong(binary: str, memory_mb: float, decoded: Decoded) -> str:
    instead = (
        f"use `bundled`, or an ffmpeg of at least {LEAST_VERSION}.0 with libopus, as audio.convert.ffmpeg"
    )
    named = re.match(r"ffmpeg version (\S+)", _printed(binary, "-version"))
    if named is None:
        return f"reports no version, so it is not an ffmpeg that runs on this machine; {instead}"
    # Builds between releases have the commit as their version.
    release = re.match(r"n?(\d+)\.", named[1])
    if release and int(release[1]) < LEAST_VERSION:
        return f"ffmpeg {named[1]} is too old; {instead}"
    if not re.search(r"^ \S+ +libopus ", _printed(binary, "-decoders"), re.MULTILINE):
        return f"ffmpeg {named[1]} was built without libopus, and its own Opus decoder is wrong; {instead}"
    return (
        f"ffmpeg {named[1]} decodes a sample wrongly ({decoded.error or 'the samples differ'});"
        f" increase audio.convert.memory_mb (now {memory_mb:g}), or {instead}"
    )


def _printed(binary: str, option: str) -> str:
    """Return the output of an option of the program; empty where it fails."""
    command = [binary, "-hide_banner", option]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")
