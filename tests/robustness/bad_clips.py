"""Recordings as no corpus should have them: each a file (or what stands in its place) and what must become of it."""

import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from exvo.audio.store import DAMAGED, EMPTY, MISSING, OK, SILENT, TRUNCATED, UNREADABLE
from exvo.util.bundled_ffmpeg import bundled_ffmpeg

RATE = 48_000
# Where a whole recording is cut off, as a share of its bytes.
CUTS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
FEW_BYTES = (1, 4, 40, 200)


@dataclass(frozen=True)
class BadClip:
    """A clip and what the raw stage must say of it.

    Attributes
    ----------
    clip_id : str
    make : callable
        Writes the clip's file into a folder.
    status : str
        Or several, parted by ``|``, where what can be saved of the file depends on ffmpeg.
    reason : str
        Must stand in the clip's reason.
    """

    clip_id: str
    make: Callable[[Path], object]
    status: str
    reason: str = ""

    @property
    def statuses(self) -> list[str]:
        return self.status.split("|")


def tone(seconds: float, rate: int = RATE, amplitude: float = 0.4) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 330 * np.arange(round(seconds * rate)) / rate)


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> bytes:
    command = [bundled_ffmpeg(), "-y", "-loglevel", "error", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def encoded(codec: str, form: str, seconds: float = 1.5, *options: str) -> bytes:
    """Return a whole recording of a tone; the same bytes at every call."""
    source = ["-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "pipe:0"]
    exact = ["-fflags", "+bitexact", "-flags:a", "+bitexact"]
    data = tone(seconds).astype("<f4").tobytes()
    return ffmpeg(*source, "-c:a", codec, *exact, *options, "-f", form, "pipe:1", data=data)


def wav_header(n_data: int, *, rate: int = 16_000, riff_size: int | None = None) -> bytes:
    """Return the 44 bytes before the samples of a 16-bit mono WAV, which may lie about what follows."""
    riff_size = 36 + n_data if riff_size is None else riff_size
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", riff_size & 0xFFFFFFFF)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + (b"data" + struct.pack("<I", n_data & 0xFFFFFFFF))
    )


def png() -> bytes:
    """Return an image of 4 x 4 grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(20)))
        + chunk(b"IEND", b"")
    )


def _bytes(clip_id: str, data: bytes, status: str, reason: str = "", ending: str = "webm") -> BadClip:
    return BadClip(clip_id, lambda folder: (folder / f"{clip_id}.{ending}").write_bytes(data), status, reason)


def _wav(
    clip_id: str,
    audio: np.ndarray,
    status: str,
    reason: str = "",
    rate: int = 16_000,
    subtype: str = "PCM_16",
) -> BadClip:
    def make(folder: Path) -> None:
        soundfile.write(folder / f"{clip_id}.wav", audio, rate, subtype=subtype)

    return BadClip(clip_id, make, status, reason)


def _samples(clip_id: str, audio: np.ndarray, status: str, reason: str = "") -> BadClip:
    """A WAV of 32-bit floats written byte by byte: no library has a say in what they are."""
    data = audio.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form
    return _bytes(clip_id, head + b"data" + struct.pack("<I", len(data)) + data, status, reason, "wav")


def _lavfi(clip_id: str, status: str, reason: str, ending: str, *arguments: str) -> BadClip:
    return BadClip(clip_id, lambda folder: ffmpeg(*arguments, folder / f"{clip_id}.{ending}"), status, reason)


def contents() -> list[BadClip]:
    """Files that hold no recording, or a part of one."""
    whole, ogg = encoded("libopus", "webm"), encoded("libopus", "ogg")
    noise = np.random.default_rng(0)
    flipped = bytearray(whole)
    for place in noise.integers(400, len(whole), 60):
        flipped[place] ^= 1 << noise.integers(8)
    cluster = whole.index(b"\x1f\x43\xb6\x75")
    clips = [
        _bytes("empty-file", b"", EMPTY, "the file is empty"),
        _bytes("random-bytes", noise.bytes(8000), UNREADABLE),
        _bytes("zeros", bytes(8000), UNREADABLE),
        _bytes("random-after-header", whole[:cluster] + noise.bytes(4000), f"{UNREADABLE}|{EMPTY}|{DAMAGED}"),
        _bytes("flipped-bits", bytes(flipped), f"{DAMAGED}|{UNREADABLE}|{OK}"),
        _bytes("text", b"I am no recording.\n" * 40, UNREADABLE),
        _bytes("page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n", UNREADABLE),
        _bytes("archive", b"PK\x03\x04" + noise.bytes(500), UNREADABLE),
        _bytes("image", png(), UNREADABLE, "a kind of file that holds no recording"),
        _bytes("head-only", whole[:cluster], f"{EMPTY}|{UNREADABLE}"),
        _bytes("twice-in-a-row", whole + whole, f"{OK}|{DAMAGED}"),
        _bytes("half-ogg", ogg[: len(ogg) // 2], f"{UNREADABLE}|{DAMAGED}", ending="ogg"),
        _bytes("wrong-ending", encoded("flac", "flac"), OK, ending="mp3"),
        _bytes("capital-ending", whole, OK, ending="WEBM"),
        _lavfi("video-alone", UNREADABLE, "no audio stream", "webm",
               "-f", "lavfi", "-i", "color=size=16x16:duration=0.2", "-c:v", "libvpx"),
        _lavfi("video-and-audio", OK, "", "webm", "-f", "lavfi", "-i", "color=size=16x16:duration=1",
               "-f", "lavfi", "-i", "sine=f=330:d=1", "-c:v", "libvpx", "-c:a", "libopus"),
    ]  # fmt: skip
    clips += [_bytes(f"cut-after-{n}", whole[:n], f"{UNREADABLE}|{EMPTY}") for n in FEW_BYTES]
    clips += [
        _bytes(f"cut-at-{share}", whole[: int(share * len(whole))], f"{OK}|{DAMAGED}|{UNREADABLE}|{EMPTY}")
        for share in CUTS
    ]
    return clips


def signals() -> list[BadClip]:
    """Recordings that can be read and hold what no voice sounds like, or more or less than a clip should."""
    sound = tone(1.0, 16_000).astype(np.float32)
    hiss = np.random.default_rng(0).standard_normal(len(sound))
    some_nan, some_inf = sound.copy(), sound.copy()
    some_nan[100:120], some_inf[[50, 60]] = np.nan, np.inf
    samples = (sound * 32767).astype("<i2").tobytes()
    return [
        _bytes("no-frames", wav_header(0), f"{EMPTY}|{UNREADABLE}", ending="wav"),
        _wav("one-sample", sound[5:6], OK),
        _wav("ten-ms", sound[:160], OK),
        _wav("ten-ms-192k", tone(0.01, 192_000), OK, rate=192_000),
        _lavfi("ten-minutes", TRUNCATED, "longer than", "webm",
               "-f", "lavfi", "-i", "sine=f=330:d=600:r=8000", "-c:a", "libopus", "-b:a", "8k",
               "-frame_duration", "60"),
        # 4 hours of silence in a file of kilobytes: 920 MB if it were decoded whole.
        _lavfi("bomb", TRUNCATED, "longer than", "flac",
               "-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "14400", "-c:a", "flac", "-frame_size", "16384"),
        _wav("eight-channels", np.tile(sound[:, np.newaxis], 8), OK),
        _wav("rate-8k", tone(1.0, 8000), OK, rate=8000),
        _wav("rate-192k", tone(1.0, 192_000), OK, rate=192_000),
        _wav("bits-24", sound, OK, subtype="PCM_24"),
        _wav("bits-8", sound, OK, subtype="PCM_U8"),
        _wav("float", sound, OK, subtype="FLOAT"),
        _wav("double", sound, OK, subtype="DOUBLE"),
        _wav("mu-law", sound, OK, subtype="ULAW"),
        _samples("some-nan", some_nan, DAMAGED, "20 samples are not finite numbers"),
        _samples("some-inf", some_inf, DAMAGED, "2 samples are not finite numbers"),
        _samples("all-nan", np.full(1600, np.nan), DAMAGED, "1600 samples are not finite numbers"),
        _samples("largest-float", sound.astype(np.float64) / 0.41 * 3.4e38, OK),
        _samples("smallest-float", np.full(1600, 1e-44), f"{OK}|{SILENT}"),
        _wav("silence", np.zeros(16_000), SILENT, "digital silence"),
        _wav("constant", np.full(16_000, 0.5), OK),
        _wav("clipped", np.clip(4 * sound, -1, 1), OK),
        # Without its noise such a clip is louder than full scale.
        _wav("clipped-noise", np.clip(15 * (sound + 0.3 * hiss), -1, 1), OK),
        _bytes("length-none", wav_header(-1, riff_size=-1) + samples, OK, ending="wav"),
        _bytes("length-too-long", wav_header(10 * len(samples)) + samples, f"{OK}|{DAMAGED}", ending="wav"),
        _bytes("length-too-short", wav_header(len(samples) // 2) + samples, OK, ending="wav"),
        _bytes("odd-bytes", wav_header(len(samples) - 1) + samples[:-1], f"{OK}|{DAMAGED}", ending="wav"),
        _bytes("rate-zero", wav_header(len(samples), rate=0) + samples, UNREADABLE, "rate", ending="wav"),
    ]  # fmt: skip


NAMES = {
    "unicode": "ümläut-笑-😂",
    "spaces": " a  b c",
    "quotes": 'it\'s "so"',
    "line-break": "two\nlines",
    "leading-dash": "-i",
    "option": "--version",
    "percent": "%d-%05d",
    "shell": "$(touch here);`id`&|>x",
    "pattern": "a*?[b]{c}",
    "colon": "file:http:x",
    "backslash": "a\\b",
    "dots": "a.b..c",
    "braces": "{wildcards.shard}",
}


def names() -> list[BadClip]:
    """Good recordings under names that a careless program trips over."""
    whole = encoded("libopus", "webm", 0.5)
    clips = [_bytes(name.strip(), whole, OK) for name in NAMES.values()]

    def without_ending(folder: Path) -> None:
        (folder / "no-ending").write_bytes(whole)

    def not_utf8(folder: Path) -> None:
        (Path(os.fsdecode(os.fsencode(folder) + b"/not-utf8.\xff\xfe"))).write_bytes(whole)

    def not_utf8_broken(folder: Path) -> None:
        (Path(os.fsdecode(os.fsencode(folder) + b"/not-utf8-broken.\xff\xfe"))).write_bytes(b"nothing")

    return [
        *clips,
        BadClip("no-ending", without_ending, OK),
        BadClip("not-utf8", not_utf8, OK),
        BadClip("not-utf8-broken", not_utf8_broken, UNREADABLE, "\\xff\\xfe"),
    ]


def places(outside: Path) -> list[BadClip]:
    """What stands in the place of a recording, or leads away from it; ``outside`` is a folder beside the corpus."""
    secret = outside / "secret.wav"
    soundfile.write(secret, tone(1.0, 16_000), 16_000)
    outward = "points outside the corpus"

    def link(clip_id: str, target: str | Path, status: str, reason: str) -> BadClip:
        return BadClip(
            clip_id, lambda folder: (folder / f"{clip_id}.webm").symlink_to(target), status, reason
        )

    def inward(folder: Path) -> None:
        (folder / "of-no-clip.webm").write_bytes(encoded("libopus", "webm", 0.5))
        (folder / "link-inside.webm").symlink_to("of-no-clip.webm")

    def stored(folder: Path) -> None:
        # As git-annex lays a corpus out.
        store = folder.parent / ".git/annex/objects"
        store.mkdir(parents=True)
        (store / "MD5E-s1").write_bytes(encoded("libopus", "webm", 0.5))
        (folder / "link-stored.webm").symlink_to("../.git/annex/objects/MD5E-s1")

    def relayed(folder: Path) -> None:
        (folder.parent / "relay.webm").symlink_to(secret)
        (folder / "link-relayed.webm").symlink_to("../relay.webm")

    def concat(folder: Path) -> None:
        (folder / "of-no-clip.wav").symlink_to(secret)
        (folder / "playlist.webm").write_text("ffconcat version 1.0\nfile of-no-clip.wav\n")

    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
    return [
        BadClip("no-file", lambda folder: None, MISSING, "no recording raw/no-file.*"),
        link("link-outside", secret, UNREADABLE, outward),
        link("link-upward", f"../../{outside.name}/secret.wav", UNREADABLE, outward),
        link("link-device", "/dev/zero", UNREADABLE, outward),
        link("link-loop", "link-loop.webm", UNREADABLE, "points to itself"),
        link("link-nothing", "nothing.webm", MISSING, "link to a missing file"),
        BadClip("link-inside", inward, OK),
        BadClip("link-stored", stored, OK),
        BadClip("link-relayed", relayed, UNREADABLE, outward),
        BadClip("folder", lambda folder: (folder / "folder.webm").mkdir(), UNREADABLE, "not a regular file"),
        BadClip("fifo", lambda folder: os.mkfifo(folder / "fifo.webm"), UNREADABLE, "not a regular file"),
        BadClip("playlist", concat, UNREADABLE, "a list of other files"),
        _bytes("playlist-hls", hls.encode(), UNREADABLE, "a list of other files", ending="m3u8"),
    ]


def all_bad_clips(outside: Path) -> list[BadClip]:
    """Return every kind; ``outside`` is an existing folder beside the corpus."""
    return [*contents(), *signals(), *names(), *places(outside)]
