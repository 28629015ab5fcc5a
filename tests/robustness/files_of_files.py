"""Files that have ffmpeg open another file, as lists of files and movies without data of their own do."""

import struct
import wave
from pathlib import Path


def hls(victim: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2,\n{victim}\n#EXT-X-ENDLIST\n".encode()


def dash(victim: str) -> bytes:
    return f"""<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static"
 mediaPresentationDuration="PT2S" minBufferTime="PT1S"><Period><AdaptationSet mimeType="audio/mp4" contentType="audio">
<Representation id="0" bandwidth="1"><BaseURL>{victim}</BaseURL></Representation></AdaptationSet></Period></MPD>
""".encode()


def concat(victim: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{victim}'\n".encode()


def composition(victim: str) -> bytes:
    """A playlist of the Interoperable Master Format."""
    return f"""<?xml version="1.0"?>
<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>urn:uuid:{victim}</Id>
<EditRate>24 1</EditRate></CompositionPlaylist>""".encode()


def session(victim: str) -> bytes:
    return f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={victim}\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n".encode()


def subtitles(victim: str) -> bytes:
    return f"# VobSub index file, v7\nid: en, index: 0\n# {victim}\ntimestamp: 00:00:00:000, filepos: 0\n".encode()


def script(victim: str) -> bytes:
    return f'WavSource("{victim}")\n'.encode()


def manifest(victim: str) -> bytes:
    return f"<?xml version='1.0'?><ASX version='3.0'><Entry><Ref href='{victim}'/></Entry></ASX>".encode()


def list_of_names(victim: str) -> bytes:
    return f"{victim}\nfile:{victim}\n".encode()


def movie(victim: str, n_samples: int = 16_000, start: int = 44) -> bytes:
    """A QuickTime movie of 16-bit samples whose data reference is an alias of another file (QuickTime File Format)."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        data = b"".join(parts)
        return struct.pack(">I4s", 8 + len(data), kind) + data

    path = victim.encode()
    path += b"\0" * (len(path) % 2)
    # The last two numbers are folders from here to there; with 0 the whole path counts.
    record = struct.pack(">2xHHH2xB27s12xB63s16xHH16x", 0, 0, 0, 0, b"", 0, b"", 0, 0)
    record += struct.pack(">HH", 2, len(path)) + path + struct.pack(">HH", 0xFFFF, 0) + bytes(80)
    reference = box(b"dref", struct.pack(">II", 0, 1), box(b"alis", bytes(4), record))
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    entry = box(b"sowt", struct.pack(">6xH8xHHHHI", 1, 1, 16, 0, 0, 16_000 << 16))
    table = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), entry),
        box(b"stts", struct.pack(">IIII", 0, 1, n_samples, 1)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, n_samples, 1)),
        box(b"stsz", struct.pack(">III", 0, 2, n_samples)),
        box(b"stco", struct.pack(">III", 0, 1, start)),
    )
    media = box(
        b"mdia",
        box(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, 16_000, n_samples, 0)),
        box(b"hdlr", struct.pack(">I4s4s12xx", 0, b"mhlr", b"soun")),
        box(b"minf", box(b"smhd", bytes(8)), box(b"dinf", reference), table),
    )
    track = box(
        b"trak",
        box(
            b"tkhd", struct.pack(">IIIIII8xHHHH", 7, 0, 0, 1, 0, n_samples, 0, 0, 0x100, 0), matrix, bytes(8)
        ),
        media,
    )
    header = struct.pack(">IIIIIIH10x", 0, 0, 0, 16_000, n_samples, 0x10000, 0x100)
    moov = box(b"moov", box(b"mvhd", header, matrix, bytes(24), struct.pack(">I", 2)), track)
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + moov


def write_victim(path: Path, samples: bytes) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples)


# By the demuxer that opens the other file; of some, how ffmpeg is brought to do so, as a proof that they are dangerous.
KINDS = {
    "hls": (hls, ["-allowed_extensions", "ALL", "-extension_picky", "0", "-f", "hls"]),
    "dash": (dash, None),
    "concat": (concat, ["-safe", "0", "-f", "concat"]),
    "mov": (movie, ["-enable_drefs", "1", "-use_absolute_path", "1"]),
    "imf": (composition, None),
    "sdp": (session, None),
    "vobsub": (subtitles, None),
    "avisynth": (script, None),
    "asx": (manifest, None),
    "names": (list_of_names, None),
}
