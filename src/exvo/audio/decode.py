"""Have ffmpeg decode recordings to 16 kHz mono: one by itself, or several in one process.

Starting ffmpeg costs as much as decoding a clip of a few seconds. Several clips therefore share a process, and
what it says of them counts only where it has nothing to complain of; see `decode_files`.
"""

import re
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import ffmpeg
import numpy as np

from exvo.audio.limited import LOG_BYTES, run_limited
from exvo.audio.store import SAMPLE_RATE

# In WebM and Ogg the codec's header stands near the start of the file.
HEADER_BYTES = 8192
# Formats that are lists of other files: a clip is in its own file, and no other file may be read for it.
PLAYLISTS = frozenset({"concat", "dash", "hls", "imf"})
# At the start of a line, which what a file notes of itself never reaches.
_STREAM = r"(?m)^\[info\] +Stream #{}:\d+.*?: Audio: (?P<codec>\w+).*?, (?P<rate>\d+) Hz, (?P<channels>[^,]+)"
_INPUT = re.compile(r"^\[info\] Input #(\d+), ([^ ]+), from ", re.MULTILINE)
_MAPPING = re.compile(r"^\[info\] Stream mapping:", re.MULTILINE)
_LEVEL = re.compile(r"\[(?:error|fatal|panic)\] (?P<text>.+)")
_FORMAT = re.compile(r"Input #0, (?P<names>[^ ]+), from ")
_STREAM_MISSING = "matches no streams"
_OPENING = "Error opening input: "
_SOURCE = "source"

# Samples [shape=(n_samples,), float32], what is known of the file, and the first complaint about it.
Decoded = tuple[np.ndarray, dict[str, object], str]


@dataclass(frozen=True)
class ConvertConfig:
    """How recordings are decoded.

    Attributes
    ----------
    ffmpeg : str
        ``bundled`` (the binary of imageio-ffmpeg), ``system`` (the first on PATH) or the path of a binary.
    timeout_s : float
        A clip that takes longer is given up, in seconds.
    memory_mb : float
        What decoding a clip may take, in MB of address space; a clip that needs more is unreadable. Holds on Linux.
    max_seconds : float
        Longer recordings are cut there, in seconds, and flagged.
    """

    ffmpeg: str = "bundled"
    timeout_s: float = 30.0
    memory_mb: float = 1000.0
    max_seconds: float = 60.0


def decode_file(path: Path, config: ConvertConfig, binary: str) -> Decoded:
    """Decode the first audio stream of a file to 16 kHz mono.

    Parameters
    ----------
    path : Path
    config : ConvertConfig
    binary : str
        The ffmpeg program.

    Returns
    -------
    audio : np.ndarray [shape=(n_samples,), float32]
        Not limited to [-1, 1]: lossy codecs overshoot.
    source : dict
        ``codec``, ``source_sample_rate`` and ``recorded_sample_rate`` in Hz (Opus is always decoded at 48 kHz;
        its header says at what rate it was recorded) and ``source_channels`` (``mono``, ``stereo``, ``5.1``...).
    complaint : str
        The first error that ffmpeg reports; empty where it reports none.

    Raises
    ------
    subprocess.TimeoutExpired
        After ``config.timeout_s`` seconds.
    OSError
        Where ffmpeg cannot be started, or the file not be read.
    """
    command, _ = _command([path], ["pipe:1"], config, binary)
    output, log, code = run_limited(command, timeout_s=config.timeout_s, memory_mb=config.memory_mb)
    form = _FORMAT.search(log)
    if form and PLAYLISTS & set(form["names"].split(",")):
        return np.empty(0, np.float32), {}, f"a list of other files ({form['names']}), not a recording"
    found = re.search(_STREAM.format(0), log)
    errors = _LEVEL.findall(log)
    complaint = errors[0] if errors else f"ffmpeg ended with code {code}" if code else ""
    opening = [error.removeprefix(_OPENING) for error in errors if error.startswith(_OPENING)]
    if any(_STREAM_MISSING in error for error in errors):
        complaint = "no audio stream"
    elif opening:
        complaint = opening[0] if errors[0].startswith(_OPENING) else f"{opening[0]} ({errors[0]})"
    return (
        _samples(output),
        _measures(path, found) if found else {},
        complaint.replace(str(path.absolute()), path.name),
    )


def decode_files(paths: Sequence[Path], config: ConvertConfig, binary: str) -> list[Decoded] | None:
    """Decode several files in one process, under the limits that hold for one; all or none.

    What comes back is what `decode_file` gives for each, to the last bit. Where anything is wrong (an error of any
    of them, a limit, a list of other files), nothing can be said of any file, for ffmpeg stops at some errors and
    does not name the file at others.

    Parameters
    ----------
    paths : sequence of Path
    config : ConvertConfig
    binary : str
        The ffmpeg program.

    Returns
    -------
    list of (audio, source, complaint), or None
        As of `decode_file`, the complaints empty; None where the files have to be decoded by themselves.

    Raises
    ------
    OSError
        Where ffmpeg cannot be started, or a file not be read.
    """
    # A line break in a name would let it pass for lines of the log.
    if not all(str(path).isprintable() for path in paths):
        return None
    with ExitStack() as stack:
        # Files without names: pipes would have to be emptied side by side, or ffmpeg waits.
        outputs = [stack.enter_context(TemporaryFile()) for _ in paths]
        handles = [output.fileno() for output in outputs]
        command, order = _command(paths, [f"pipe:{handle}" for handle in handles], config, binary)
        try:
            _, log, code = run_limited(
                command, timeout_s=config.timeout_s, memory_mb=config.memory_mb, handles=handles
            )
        except subprocess.TimeoutExpired:
            return None
        streams = None if code or _LEVEL.search(log) else _streams(log, len(paths))
        if streams is None:
            return None
        decoded: list[Decoded] = []
        for place, (path, output) in enumerate(zip(paths, outputs, strict=True)):
            output.seek(0)
            decoded.append((_samples(output.read()), _measures(path, streams[order.index(place)]), ""))
        return decoded


def recorded_rate(path: Path, decoded_rate: int) -> int:
    """Return the sample rate, in Hz, of what went into an Opus encoder; of other files the rate they decode at.

    The identification header of Opus (RFC 7845, section 5.1) holds it as a note; 0 means that it was not noted.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    place = head.find(b"OpusHead")
    return (place >= 0 and int.from_bytes(head[place + 12 : place + 16], "little")) or decoded_rate


def _command(
    paths: Sequence[Path], targets: Sequence[str], config: ConvertConfig, binary: str
) -> tuple[list[str], list[int]]:
    """Return the command that decodes each path to its target, and the order in which it names the paths."""
    # Left to itself, ffmpeg adds channels with weights of 0.71 when it works in floating point; limited to 1 in all,
    # the weights make a mean, and equal channels keep their level.
    resample = f"aresample=out_sample_rate={SAMPLE_RATE}:out_chlayout=mono:rematrix_maxval=1.0"
    # One sample more than the limit, so that a longer recording shows. Samples are counted: a limit on time goes by
    # time stamps, which need not start at 0.
    cut = f"atrim=end_sample={round(config.max_seconds * SAMPLE_RATE) + 1}"
    streams = [
        ffmpeg.input(f"{_SOURCE}{place}", protocol_whitelist="file", threads=1)["a:0"].output(
            target, af=f"{resample},{cut}", f="f32le", acodec="pcm_f32le"
        )
        for place, target in enumerate(targets)
    ]
    command = ffmpeg.merge_outputs(*streams).compile(cmd=binary)
    command[1:1] = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
    names = {f"{_SOURCE}{place}": place for place in range(len(paths))}
    order = [names[word] for word in command if word in names]
    # `file:` and an absolute path: no name can be read as an option or as another protocol. ffmpeg-python wants text
    # that is UTF-8, which a name need not be.
    return [f"file:{paths[names[word]].absolute()}" if word in names else word for word in command], order


def _streams(log: str, n_files: int) -> list[re.Match[str]] | None:
    """Return the audio stream of each input, as the log lists them; None where they are not all there."""
    inputs, end = list(_INPUT.finditer(log)), _MAPPING.search(log)
    # What does not fit the log's limit was not read. Undecodable bytes only grow when they are encoded again.
    if len(log.encode()) >= LOG_BYTES or end is None or len(inputs) != n_files:
        return None
    ends = [*(each.start() for each in inputs[1:]), end.start()]
    streams = []
    for place, (head, stop) in enumerate(zip(inputs, ends, strict=True)):
        stream = re.compile(_STREAM.format(place)).search(log, head.end(), stop)
        if stream is None or int(head[1]) != place or PLAYLISTS & set(head[2].split(",")):
            return None
        streams.append(stream)
    return streams


def _measures(path: Path, stream: re.Match[str]) -> dict[str, object]:
    return {
        "codec": stream["codec"],
        "source_sample_rate": int(stream["rate"]),
        "recorded_sample_rate": recorded_rate(path, int(stream["rate"])),
        "source_channels": stream["channels"],
    }


def _samples(output: bytes) -> np.ndarray:
    # A process that was cut off can end within a sample.
    whole = len(output) - len(output) % 4
    return np.frombuffer(output[:whole], dtype="<f4")
