"""Decode recordings to 16 kHz with ffmpeg: one by itself, or several in one process.

Starting ffmpeg takes as long as decoding a clip of a few seconds. Several clips therefore share a process. The
output of a shared process is used only if it reported no error; see `decode_files`.

ffmpeg receives open files instead of names. It may use no other protocol, and no file format except those of
`exvo.audio.formats`. Results are read from its output (the samples, and the table of packets) and never from its log;
only whether the log is empty matters.
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

# A forward step of the time stamps of at least this many seconds is a gap in the sound. Packets last 20 or 60 ms;
# Matroska rounds time stamps to 1 ms.
GAP_S = 0.05
# Permitted difference between the duration of the sound and the span of the time stamps, in seconds and as a share.
# Codecs discard samples at the beginning and the end.
STAMPS_S, STAMPS_SHARE = 0.25, 0.01
# Largest number of channels of a clip in a shared process, and of any clip. ffmpeg's resampler has at most 64.
SHARED_CHANNELS, MOST_CHANNELS = 2, 64
# Limit on the table of packets: bytes per clip, and per second. The shortest Opus packets (400 per second) need 20 kB.
TABLE_BYTES, TABLE_BYTES_A_SECOND = 64 * 1024, 24 * 1024
# Fields of the header of an AU file: the offset of the samples, and the number of channels.
_AU_START, _AU_CHANNELS = slice(4, 8), slice(20, 24)
# Opus is decoded with libopus. ffmpeg's own Opus decoder (FFmpeg 9.0) adds loud artefacts after pauses (DTX), decodes
# frames with error correction wrongly, and hybrid frames inexactly.
LIBOPUS = ("-c:a:0", "libopus", "-request_sample_fmt", "flt")

# Without this, ffmpeg writes to the pipe after every packet.
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
        Not limited to [-1, 1]: lossy codecs overshoot. At most one sample longer than the limit.
    source : dict
        ``codec``, ``source_sample_rate`` and ``recorded_sample_rate`` in Hz, and ``source_channels`` (``mono``,
        ``stereo``, ``5.1``...). Opus is always decoded at 48 kHz; its header holds the rate of the recording.
    error : str
        What is wrong with the file; empty where nothing is wrong.
    notes : tuple of str
        What is unusual about the sound.
    """

    audio: np.ndarray
    source: dict[str, object]
    error: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Attempt:
    """Output of a process for one recording, and whether the recording was assumed to be Opus."""

    channels: np.ndarray
    stream: Stream
    opus: bool

    @property
    def assumed_correctly(self) -> bool:
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
    attempt, error = _attempt_alone(recording, seems_opus(head), config, binary)
    if attempt.opus and error:
        # With a forced Opus decoder, ffmpeg reads any stream as Opus.
        other, other_error = _attempt_alone(recording, False, config, binary)
        if other.stream.codec not in ("", "opus"):
            attempt, error = other, other_error
    elif not attempt.assumed_correctly:
        attempt, error = _attempt_alone(recording, True, config, binary)
    return _decoded(attempt, head, config, error)


def decode_files(recordings: Sequence[Recording], config: ConvertConfig, binary: str) -> list[Decoded | None]:
    """Decode several recordings in one process, under the limits for one recording.

    The results are those of `decode_file`, to the last bit. If any recording causes an error or the process reaches
    a limit, no result is used: ffmpeg stops at some errors, and does not name the file at others.

    Parameters
    ----------
    recordings : sequence of Recording
    config : ConvertConfig
    binary : str
        The ffmpeg program.

    Returns
    -------
    list of Decoded or None
        None for a recording that must be decoded in its own process.

    Raises
    ------
    OSError
        Where ffmpeg cannot be started.
    """
    heads = [recording.head for recording in recordings]
    alone: list[Decoded | None] = [None] * len(recordings)
    if any(map(is_list_of_files, heads)):
        return alone
    assumed_opus = [seems_opus(head) for head in heads]
    try:
        done = _run(recordings, assumed_opus, config, binary, SHARED_CHANNELS)
    except subprocess.TimeoutExpired:
        return alone
    if done.code or done.log or done.stopped:
        return alone
    attempts = _attempts(done, assumed_opus)
    if len(done.outputs[-1]) >= _table_bytes(len(recordings), config):
        return alone
    return [
        _decoded(attempt, head, config) if attempt.assumed_correctly and attempt.channels.size else None
        for attempt, head in zip(attempts, heads, strict=True)
    ]


def _attempt_alone(
    recording: Recording, opus: bool, config: ConvertConfig, binary: str
) -> tuple[_Attempt, str]:
    """Return the output of a process for one recording, and its error in plain words."""
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
    """Decode recordings in one process. Its outputs are an AU file per recording, then the table of packets."""
    # One sample more than the limit, so that a longer recording is recognised, and room for the header.
    bounds = [4 * most_channels * (config.max_samples + 1) + LOG_BYTES] * len(recordings)
    table = _table_bytes(len(recordings), config)

    def command(targets: Sequence[int]) -> list[str]:
        words = [binary, "-y", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+error"]
        # By default, ffmpeg starts one thread per processor for each file, with memory for each.
        words += ["-filter_threads", "1"]
        for recording, is_opus in zip(recordings, opus, strict=True):
            # The offset of the open file is wherever the previous reader left it.
            os.lseek(recording.handle, 0, os.SEEK_SET)
            words += ["-format_whitelist", DEMUXERS, "-protocol_whitelist", "fd", "-threads", "1"]
            words += [*(LIBOPUS if is_opus else ()), "-fd", str(recording.handle), "-i", "fd:"]
        for place, (target, bound) in enumerate(zip(targets[:-1], bounds, strict=True)):
            words += ["-map", f"{place}:a:0", "-af", _filters(config), "-map_metadata", "-1"]
            # A stream that changes its rate restarts its time stamps; the muxer gets sample counts instead.
            words += ["-c:a", "pcm_f32be", "-bsf:a", "setts=ts=N", "-fs", str(bound), *UNHURRIED]
            words += ["-f", "au", f"pipe:{target}"]
        for place in range(len(recordings)):
            words += ["-map", f"{place}:a:0"]
        words += ["-c", "copy", "-fs", str(table), *UNHURRIED]
        return [*words, "-f", "framecrc", f"pipe:{targets[-1]}"]

    return run_limited(
        command,
        # ffmpeg ends an output after the packet that exceeds the bound.
        [*bounds, table + LOG_BYTES],
        timeout_s=config.timeout_s,
        memory_mb=config.memory_mb,
        handles=[recording.handle for recording in recordings],
    )


def _filters(config: ConvertConfig) -> str:
    """Return the filters that resample a stream to 16 kHz and fill gaps in its time stamps with silence.

    `asetpts` gives each frame a time stamp at the end of the previous frame, plus the gap between them. Drift and
    backward steps therefore neither move nor drop samples. Variables: 0, the distance of the stamp from the end of
    the previous frame; 1, the end of this frame; 2, the new stamp of this frame; 3, its length; 4, the first stamp.

    A gap is at most the lag of the sound behind the time stamps, or jitter would accumulate. A gap longer than the
    longest clip is ignored. `aresample` then fills the gaps only, because frames without a gap touch exactly.
    Without gaps the filters do not change the samples, to the bit.
    """
    stamps = (
        "st(0,if(eq(N,0),0,PTS-ld(1)));st(4,if(eq(N,0),PTS,ld(4)));st(1,PTS+NB_SAMPLES);"
        "st(2,if(eq(N,0),0,ld(2)+ld(3)));st(0,min(ld(0),PTS-ld(4)-ld(2)));"
        f"st(2,ld(2)+if(between(ld(0),{GAP_S}*SR,{config.max_seconds}*SR),ld(0),0));st(3,NB_SAMPLES);ld(2)"
    )
    # The limit counts samples, because a limit on time would follow the time stamps.
    return (
        f"asetpts='{stamps}',aresample=out_sample_rate={SAMPLE_RATE}:async=1:min_hard_comp={GAP_S / 2},"
        f"atrim=end_sample={config.max_samples + 1}"
    )


def _table_bytes(n_recordings: int, config: ConvertConfig) -> int:
    return round(n_recordings * (TABLE_BYTES + TABLE_BYTES_A_SECOND * config.max_seconds))


def _attempts(done: Finished, opus: Sequence[bool]) -> list[_Attempt]:
    """Read the outputs of a process."""
    *sounds, table = done.outputs
    return [
        _Attempt(_channels(sound), stream, is_opus)
        for sound, stream, is_opus in zip(sounds, read_packets(table, len(sounds)), opus, strict=True)
    ]


def _channels(output: bytearray) -> np.ndarray:
    """Return the samples of an AU file [shape=(n_samples, n_channels)], which may be truncated anywhere."""
    n_channels = int.from_bytes(output[_AU_CHANNELS], "big") or 1
    start = int.from_bytes(output[_AU_START], "big")
    n_samples = max(0, len(output) - start) // (4 * n_channels)
    values = np.frombuffer(output, ">f4", n_samples * n_channels, min(start, len(output)))
    return values.reshape(n_samples, n_channels)


def _decoded(attempt: _Attempt, head: bytes, config: ConvertConfig, error: str = "") -> Decoded:
    stream = attempt.stream
    audio, note = mix_down(attempt.channels[: config.max_samples + 1])
    notes = [note] if note else []
    span_s, sound_s = stream.span_s, len(audio) / SAMPLE_RATE
    complete = 0 < len(audio) <= config.max_samples
    if complete and span_s is not None and abs(span_s - sound_s) > STAMPS_S + STAMPS_SHARE * span_s:
        why = "two recordings in one file: " if stream.restarts else ""
        notes.append(f"{why}{sound_s:.2f} s of sound, but its time stamps span {span_s:.2f} s")
    if not stream.codec:
        return Decoded(audio, {}, error, tuple(notes))
    recorded = opus_input_rate(head) if stream.codec == "opus" else 0
    source = {
        "codec": stream.codec,
        "source_sample_rate": stream.sample_rate,
        "recorded_sample_rate": recorded or stream.sample_rate,
        "source_channels": stream.channels,
    }
    return Decoded(audio, source, error, tuple(notes))
