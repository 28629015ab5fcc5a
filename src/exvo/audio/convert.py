"""Decode the recordings of a corpus to 16 kHz mono: the stages ``raw`` (from ``raw/``) and ``baseline`` (``wav/``).

One ffmpeg process a clip, several at a time: a broken recording costs nobody but itself, and the limits on time
and memory hold for it alone.
"""

import re
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pyarrow as pa

from exvo.audio import store
from exvo.audio.limited import run_limited
from exvo.audio.store import SAMPLE_RATE, Clip

# A sample this close to full scale counts as clipped.
CLIPPED = 0.999
# In WebM and Ogg the codec's header stands near the start of the file.
HEADER_BYTES = 8192
MEASURES = {
    "codec": pa.string(),
    "source_sample_rate": pa.int64(),
    "recorded_sample_rate": pa.int64(),
    "source_channels": pa.string(),
    "peak": pa.float64(),
    "gain_db": pa.float64(),
    "clipping_rate": pa.float64(),
}
_STREAM = re.compile(r"Stream #0:\d+.*?: Audio: (?P<codec>\w+).*?, (?P<rate>\d+) Hz, (?P<channels>[^,]+)")
_LEVEL = re.compile(r"\[(?:error|fatal|panic)\] (?P<text>.+)")
_STREAM_MISSING = "matches no streams"
_OPENING = "Error opening input: "
_SOURCE = "source"
_FORMAT = re.compile(r"Input #0, (?P<names>[^ ]+), from ")
# Formats that are lists of other files: a clip is in its own file, and no other file may be read for it.
PLAYLISTS = frozenset({"concat", "dash", "hls", "imf"})


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


def convert_shard(
    folder: Path,
    files: Mapping[str, str | None],
    target: str | Path,
    config: ConvertConfig,
    *,
    bits: int,
    n_threads: int = 1,
) -> None:
    """Decode the clips of a shard and store them.

    Parameters
    ----------
    folder : Path
        ``raw/`` or ``wav/`` of the corpus.
    files : mapping of str to str or None
        The shard's clips and the names of their files in ``folder``; None for a clip without one. Each clip gets
        a row, in id order.
    target : str or Path
        The audio shard to write.
    config : ConvertConfig
    bits : int
        Bits a sample in the shard.
    n_threads : int
        How many ffmpeg processes run at a time.
    """
    binary = ffmpeg_binary(config.ffmpeg)
    convert = partial(convert_clip, folder=folder, files=files, config=config, binary=binary)
    with ThreadPoolExecutor(n_threads) as pool:
        clips = list(pool.map(convert, sorted(files)))
    store.write_shard(target, clips, MEASURES, bits=bits)


def ffmpeg_binary(choice: str) -> str:
    """Return the ffmpeg program that ``audio.convert.ffmpeg`` names."""
    return {"bundled": imageio_ffmpeg.get_ffmpeg_exe, "system": lambda: "ffmpeg"}.get(
        choice, lambda: choice
    )()


def decode_file(path: Path, config: ConvertConfig, binary: str) -> tuple[np.ndarray, dict[str, object], str]:
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
    source = ffmpeg.input(_SOURCE, protocol_whitelist="file")
    # Left to itself, ffmpeg adds channels with weights of 0.71 when it works in floating point; limited to 1 in all,
    # the weights make a mean, and equal channels keep their level.
    resample = f"aresample=out_sample_rate={SAMPLE_RATE}:out_chlayout=mono:rematrix_maxval=1.0"
    # One sample more than the limit, so that a longer recording shows. Samples are counted: a limit on time goes by
    # time stamps, which need not start at 0.
    cut = f"atrim=end_sample={round(config.max_seconds * SAMPLE_RATE) + 1}"
    stream = source.output("pipe:1", map="0:a:0", af=f"{resample},{cut}", f="f32le", acodec="pcm_f32le")
    command = stream.global_args(
        "-nostdin", "-hide_banner", "-nostats", "-threads", "1", "-loglevel", "level+info"
    ).compile(cmd=binary)
    # `file:` and an absolute path: no name can be read as an option or as another protocol. ffmpeg-python wants text
    # that is UTF-8, which a name need not be.
    command[command.index(_SOURCE)] = f"file:{path.absolute()}"
    output, log, code = run_limited(command, timeout_s=config.timeout_s, memory_mb=config.memory_mb)
    form = _FORMAT.search(log)
    if form and PLAYLISTS & set(form["names"].split(",")):
        return np.empty(0, np.float32), {}, f"a list of other files ({form['names']}), not a recording"
    found = _STREAM.search(log)
    measured: dict[str, object] = {}
    if found:
        measured = {
            "codec": found["codec"],
            "source_sample_rate": int(found["rate"]),
            "recorded_sample_rate": recorded_rate(path, int(found["rate"])),
            "source_channels": found["channels"],
        }
    errors = _LEVEL.findall(log)
    complaint = errors[0] if errors else f"ffmpeg ended with code {code}" if code else ""
    opening = [error.removeprefix(_OPENING) for error in errors if error.startswith(_OPENING)]
    if any(_STREAM_MISSING in error for error in errors):
        complaint = "no audio stream"
    elif opening:
        complaint = opening[0] if errors[0].startswith(_OPENING) else f"{opening[0]} ({errors[0]})"
    # A process that was cut off can end within a sample.
    whole = len(output) - len(output) % 4
    return (
        np.frombuffer(output[:whole], dtype="<f4"),
        measured,
        complaint.replace(str(path.absolute()), path.name),
    )


def recorded_rate(path: Path, decoded_rate: int) -> int:
    """Return the sample rate, in Hz, of what went into an Opus encoder; of other files the rate they decode at.

    The identification header of Opus (RFC 7845, section 5.1) holds it as a note; 0 means that it was not noted.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    place = head.find(b"OpusHead")
    return (place >= 0 and int.from_bytes(head[place + 12 : place + 16], "little")) or decoded_rate


def convert_clip(
    clip_id: str, *, folder: Path, files: Mapping[str, str | None], config: ConvertConfig, binary: str
) -> Clip:
    """Decode one clip; whatever is wrong with its file becomes its status and reason.

    Parameters
    ----------
    clip_id : str
    folder, files, config
        As for `convert_shard`.
    binary : str
        The ffmpeg program.
    """
    if files[clip_id] is None:
        return Clip(clip_id, None, store.MISSING, f"no file {folder.name}/{clip_id}.*")
    path = folder / files[clip_id]
    # Names need not be UTF-8, reasons must be.
    where = f"{folder.name}/{path.name}".encode("utf-8", "backslashreplace").decode()
    try:
        resolved = path.resolve()
        if not resolved.is_relative_to(folder.resolve()):
            return Clip(clip_id, None, store.UNREADABLE, f"{where}: a link that leads out of the corpus")
        if not resolved.exists():
            return Clip(clip_id, None, store.MISSING, f"{where}: the file is gone, or a link to nothing")
        if not resolved.is_file():
            return Clip(clip_id, None, store.UNREADABLE, f"{where}: not a regular file")
        if not path.stat().st_size:
            return Clip(clip_id, None, store.EMPTY, f"{where}: the file is empty")
        path.open("rb").close()
    except OSError as error:
        return Clip(clip_id, None, store.UNREADABLE, f"{where}: cannot be opened ({error.strerror})")
    except RuntimeError:  # how pathlib of Python 3.11 says it
        return Clip(clip_id, None, store.UNREADABLE, f"{where}: a link that leads back to itself")
    try:
        audio, measures, complaint = decode_file(path, config, binary)
    except subprocess.TimeoutExpired:
        return Clip(clip_id, None, store.TIMEOUT, f"{where}: not decoded within {config.timeout_s} s")
    if not len(audio):
        status = store.UNREADABLE if complaint else store.EMPTY
        return Clip(clip_id, None, status, f"{where}: {complaint or 'no audio in the file'}", measures)
    return _checked_clip(clip_id, where, audio, measures, complaint, config)


def _checked_clip(
    clip_id: str,
    where: str,
    audio: np.ndarray,
    measures: dict[str, object],
    complaint: str,
    config: ConvertConfig,
) -> Clip:
    """Bring decoded samples into range and say what is odd about them."""
    notes = []
    if complaint:
        notes.append((store.DAMAGED, f"{where}: {complaint}"))
    n_wrong = int(np.count_nonzero(~np.isfinite(audio)))
    if n_wrong:
        audio = np.where(np.isfinite(audio), audio, np.float32(0))
        notes.append((store.DAMAGED, f"{where}: {n_wrong} samples are no numbers; they are set to 0"))
    n_most = round(config.max_seconds * SAMPLE_RATE)
    if len(audio) > n_most:
        audio = audio[:n_most]
        notes.append((store.TRUNCATED, f"{where}: longer than {config.max_seconds} s; the rest is left out"))
    peak = float(np.abs(audio).max())
    if peak == 0.0:
        notes.append((store.SILENT, f"{where}: digital silence"))
    # A decoder overshoots full scale where the recording is loud: scaled down, it is not clipped a second time.
    gain = 1.0 / peak if peak > 1.0 else 1.0
    measures = {
        **measures,
        "peak": peak,
        "gain_db": 20 * float(np.log10(gain)),
        "clipping_rate": float(np.mean(np.abs(audio) >= CLIPPED)),
    }
    audio = audio if gain == 1.0 else (audio * gain).astype(np.float32)
    clip = Clip(clip_id, audio, measures=measures)
    for status, reason in notes:
        clip = clip.flagged(status, reason)
    return clip
