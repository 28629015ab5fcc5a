"""Have ffmpeg decode recordings to 16 kHz: one by itself, or several in one process.

Starting ffmpeg costs as much as decoding a clip of a few seconds. Several clips therefore share a process, and what
it writes of them counts only where it has nothing to complain of; see `decode_files`.

ffmpeg gets open files and no names, may use no other way to data, and takes no kind of file but those of
`exvo.audio.formats`. What it found is read from what it writes (the samples, and the table of packets), never from
its log: of that, it counts whether anything is in it.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from exvo.audio.formats import DEMUXERS, opus_input_rate, seems_opus
from exvo.audio.limited import LOG_BYTES, Finished, run_limited
from exvo.audio.mixdown import mix_down
from exvo.audio.packets import Stream, read_packets
from exvo.audio.reasons import LIST_OF_FILES, is_list_of_files, plain_words
from exvo.audio.recording import Recording
from exvo.audio.store import SAMPLE_RATE
from exvo.util.settings import Positive, Text

# A step forward in the time stamps that is at least so long is a gap in the sound, in seconds. Packets last 20 or
# 60 ms; Matroska rounds its stamps to 1 ms.
GAP_S = 0.05
# Length of sound and of time stamps may differ by so much, in seconds and as a share: codecs begin and end with
# samples that are left out.
STAMPS_S, STAMPS_SHARE = 0.25, 0.01
# What clips that share a process may have, and any clip. A stream has at most 64 in ffmpeg's resampler.
SHARED_CHANNELS, MOST_CHANNELS = 2, 64
# Of the table of packets: bytes a clip and a second. The shortest packets of Opus, 400 a second, take 20 kB.
TABLE_BYTES, TABLE_BYTES_A_SECOND = 64 * 1024, 24 * 1024
# Header of an AU file: the samples' place, their number of channels.
_AU_START, _AU_CHANNELS = slice(4, 8), slice(20, 24)
# ffmpeg's own Opus decoder makes loud sounds of its own after pauses (DTX), and decodes frames with error correction
# wrongly and hybrid ones inexactly (FFmpeg 9.0): the codec's own library decodes instead.
LIBOPUS = ("-c:a:0", "libopus", "-request_sample_fmt", "flt")

# A pipe is else written to for every packet.
UNHURRIED = ("-flush_packets", "0")


@dataclass(frozen=True)
class ConvertConfig:
    """How recordings are decoded.

    Attributes
    ----------
    ffmpeg : str
        The ffmpeg program: ``bundled`` (the binary of the package imageio-ffmpeg, whatever ``IMAGEIO_FFMPEG_EXE``
        says), ``system`` (the first on PATH), or a path. It needs version 6.0 or later with libopus, and is tested
        before the first clip.
    timeout_s : float
        Longest time for decoding a clip, in seconds; a clip that takes longer is given up.
    memory_mb : float
        Address space for decoding a clip, in MB; a clip that needs more is unreadable. Below 700, clips cannot share a
        process. Effective on Linux.
    max_seconds : float
        Longer recordings are cut to this length, in seconds, and flagged.
    """

    ffmpeg: Annotated[str, Text(min_length=1)] = "bundled"
    timeout_s: Positive = 30.0
    memory_mb: Positive = 1000.0
    max_seconds: Positive = 60.0

    @property
    def max_samples(self) -> int:
        """The most samples that a clip may have."""
        return round(self.max_seconds * SAMPLE_RATE)


@dataclass(frozen=True)
class Decoded:
    """A recording's sound.

    Attributes
    ----------
    audio : np.ndarray [shape=(n_samples,), float32]
        Not limited to [-1, 1]: lossy codecs overshoot. One sample more than a clip may have, at most.
    source : dict
        ``codec``, ``source_sample_rate`` and ``recorded_sample_rate`` in Hz (Opus is always decoded at 48 kHz;
        its header says at what rate it was recorded) and ``source_channels`` (``mono``, ``stereo``, ``5.1``...).
    complaint : str
        What is wrong with the file; empty where nothing is.
    notes : tuple of str
        What is odd about its sound.
    """

    audio: np.ndarray
    source: dict[str, object]
    complaint: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Attempt:
    """A process's output for one of its recordings, and what was supposed of that."""

    channels: np.ndarray
    stream: Stream
    opus: bool

    @property
    def supposed_rightly(self) -> bool:
        return self.opus == (self.stream.codec == "opus")


def decode_file(recording: Recording, config: ConvertConfig, binary: str) -> Decoded:
    """Decode the first audio stream of a recording to 16 kHz mono.

    Parameters
    ----------
    recording : Recording
    config : ConvertConfig
    binary : str
        The ffmpeg program.

    Raises
    ------
    subprocess.TimeoutExpired
        After ``config.timeout_s`` seconds.
    OSError
        Where ffmpeg cannot be started.
    """
    head = recording.head
    if is_list_of_files(head):
        return Decoded(np.empty(0, np.float32), {}, LIST_OF_FILES)
    attempt, complaint = _attempt_alone(recording, seems_opus(head), config, binary)
    if attempt.opus and complaint:
        # Told to decode Opus, ffmpeg takes any stream for it.
        other, its_complaint = _attempt_alone(recording, False, config, binary)
        if other.stream.codec not in ("", "opus"):
            attempt, complaint = other, its_complaint
    elif not attempt.supposed_rightly:
        attempt, complaint = _attempt_alone(recording, True, config, binary)
    return _decoded(attempt, head, config, complaint)


def decode_files(recordings: Sequence[Recording], config: ConvertConfig, binary: str) -> list[Decoded | None]:
    """Decode several recordings in one process, under the limits that hold for one.

    What comes back is what `decode_file` gives for each, to the last bit. Where anything is wrong (an error of any
    of them, a limit), nothing can be said of any recording, for ffmpeg stops at some errors and does not name the
    file at others.

    Parameters
    ----------
    recordings : sequence of Recording
    config : ConvertConfig
    binary : str
        The ffmpeg program.

    Returns
    -------
    list of Decoded or None
        None for a recording that has to be decoded by itself.

    Raises
    ------
    OSError
        Where ffmpeg cannot be started.
    """
    heads = [recording.head for recording in recordings]
    alone: list[Decoded | None] = [None] * len(recordings)
    if any(map(is_list_of_files, heads)):
        return alone
    supposed = [seems_opus(head) for head in heads]
    try:
        done = _run(recordings, supposed, config, binary, SHARED_CHANNELS)
    except subprocess.TimeoutExpired:
        return alone
    if done.code or done.log or done.stopped:
        return alone
    attempts = _attempts(done, supposed)
    if len(done.outputs[-1]) >= _table_bytes(len(recordings), config):
        return alone
    return [
        _decoded(attempt, head, config) if attempt.supposed_rightly and attempt.channels.size else None
        for attempt, head in zip(attempts, heads, strict=True)
    ]


def _attempt_alone(
    recording: Recording, opus: bool, config: ConvertConfig, binary: str
) -> tuple[_Attempt, str]:
    """Return what a process gives for one recording, and its complaint."""
    done = _run([recording], [opus], config, binary, MOST_CHANNELS)
    (attempt,) = _attempts(done, [opus])
    return attempt, "" if done.stopped and not done.log else plain_words(done.log, done.code)


def _run(
    recordings: Sequence[Recording],
    opus: Sequence[bool],
    config: ConvertConfig,
    binary: str,
    most_channels: int,
) -> Finished:
    """Decode recordings in one process. Its outputs are an AU file each and the table of their packets."""
    # One sample more than the limit, so that a longer recording shows; and room for the header.
    bounds = [4 * most_channels * (config.max_samples + 1) + LOG_BYTES] * len(recordings)
    table = _table_bytes(len(recordings), config)

    def command(targets: Sequence[int]) -> list[str]:
        words = [binary, "-y", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+error"]
        # Left to itself, ffmpeg keeps as many threads a file as the machine has processors, and memory for them.
        words += ["-filter_threads", "1"]
        for recording, is_opus in zip(recordings, opus, strict=True):
            # The offset of an open file is shared with whoever read it before.
            os.lseek(recording.handle, 0, os.SEEK_SET)
            words += ["-format_whitelist", DEMUXERS, "-protocol_whitelist", "fd", "-threads", "1"]
            words += [*(LIBOPUS if is_opus else ()), "-fd", str(recording.handle), "-i", "fd:"]
        for place, (target, bound) in enumerate(zip(targets[:-1], bounds, strict=True)):
            words += ["-map", f"{place}:a:0", "-af", _filters(config), "-map_metadata", "-1"]
            # Its time stamps begin anew where a stream changes its rate; the muxer need not know.
            words += ["-c:a", "pcm_f32be", "-bsf:a", "setts=ts=N", "-fs", str(bound), *UNHURRIED]
            words += ["-f", "au", f"pipe:{target}"]
        for place in range(len(recordings)):
            words += ["-map", f"{place}:a:0"]
        words += ["-c", "copy", "-fs", str(table), *UNHURRIED]
        return [*words, "-f", "framecrc", f"pipe:{targets[-1]}"]

    return run_limited(
        command,
        # ffmpeg ends an output after the packet that goes beyond its bound.
        [*bounds, table + LOG_BYTES],
        timeout_s=config.timeout_s,
        memory_mb=config.memory_mb,
        handles=[recording.handle for recording in recordings],
    )


def _filters(config: ConvertConfig) -> str:
    """Return the filters that bring a stream to 16 kHz, gaps in its time stamps filled with silence.

    `asetpts` gives each frame a stamp at the end of the frame before it, or later by the gap between them; so
    neither drift nor backward steps move or drop anything. Variables: 0, how far the stamp is from the end of the
    frame before; 1, where this frame ends; 2, the frame's new stamp; 3, its length; 4, the first stamp. A gap is
    no longer than by how much the sound lags behind the stamps, else jitter would add up; and one longer than a clip
    may be is none. `aresample` then fills the gaps, and nothing else: frames without gaps touch exactly.
    Without gaps the samples are those without these filters, to the bit.
    """
    stamps = (
        "st(0,if(eq(N,0),0,PTS-ld(1)));st(4,if(eq(N,0),PTS,ld(4)));st(1,PTS+NB_SAMPLES);"
        "st(2,if(eq(N,0),0,ld(2)+ld(3)));st(0,min(ld(0),PTS-ld(4)-ld(2)));"
        f"st(2,ld(2)+if(between(ld(0),{GAP_S}*SR,{config.max_seconds}*SR),ld(0),0));st(3,NB_SAMPLES);ld(2)"
    )
    # Samples are counted: a limit on time goes by time stamps.
    return (
        f"asetpts='{stamps}',aresample=out_sample_rate={SAMPLE_RATE}:async=1:min_hard_comp={GAP_S / 2},"
        f"atrim=end_sample={config.max_samples + 1}"
    )


def _table_bytes(n_recordings: int, config: ConvertConfig) -> int:
    return round(n_recordings * (TABLE_BYTES + TABLE_BYTES_A_SECOND * config.max_seconds))


def _attempts(done: Finished, opus: Sequence[bool]) -> list[_Attempt]:
    """Read a process's outputs."""
    *sounds, table = done.outputs
    return [
        _Attempt(_channels(sound), stream, is_opus)
        for sound, stream, is_opus in zip(sounds, read_packets(table, len(sounds)), opus, strict=True)
    ]


def _channels(output: bytearray) -> np.ndarray:
    """Return the samples of an AU file [shape=(n_samples, n_channels)]; it may be cut off anywhere."""
    n_channels = int.from_bytes(output[_AU_CHANNELS], "big") or 1
    start = int.from_bytes(output[_AU_START], "big")
    n_samples = max(0, len(output) - start) // (4 * n_channels)
    values = np.frombuffer(output, ">f4", n_samples * n_channels, min(start, len(output)))
    return values.reshape(n_samples, n_channels)


def _decoded(attempt: _Attempt, head: bytes, config: ConvertConfig, complaint: str = "") -> Decoded:
    stream = attempt.stream
    audio, note = mix_down(attempt.channels[: config.max_samples + 1])
    notes = [note] if note else []
    span_s, sound_s = stream.span_s, len(audio) / SAMPLE_RATE
    whole = 0 < len(audio) <= config.max_samples
    if whole and span_s is not None and abs(span_s - sound_s) > STAMPS_S + STAMPS_SHARE * span_s:
        why = "two recordings in one file: " if stream.begins_anew else ""
        notes.append(f"{why}{sound_s:.2f} s of sound, but its time stamps span {span_s:.2f} s")
    if not stream.codec:
        return Decoded(audio, {}, complaint, tuple(notes))
    recorded = opus_input_rate(head) if stream.codec == "opus" else 0
    source = {
        "codec": stream.codec,
        "source_sample_rate": stream.sample_rate,
        "recorded_sample_rate": recorded or stream.sample_rate,
        "source_channels": stream.channels,
    }
    return Decoded(audio, source, complaint, tuple(notes))
