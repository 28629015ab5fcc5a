"""The kinds of file that recordings come in, and what in their first bytes tells that they hold Opus.

ffmpeg opens some 350 kinds of file. Some of them are lists of other files, or scripts, or addresses in a network: a
corpus could have it read what the user alone may read. It is told the kinds that are read, and refuses the others
whatever a file says of itself. None of these kinds opens another file.
"""

import re
from typing import Literal

# ffmpeg's names of demuxers that know their files by content. Left out: lists of files (concat, dash, hls, imf,
# image2, ...), network sessions (sdp, rtsp, sap), scripts (avisynth), discs, pictures, subtitles, text, music that is
# synthesised (libopenmpt, libgme), formats of games, and raw samples without a header.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,asf_o,au,avi,avr,caf,codec2,dsf,dss,dts,eac3,epaf,flac,flv,gsm,iff,ircam,lc3,loas,"
    "matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,osq,pvf,qcp,qoa,rm,sbc,sds,shn,sox,"
    "tak,truehd,tta,voc,w64,wav,wsd,wtv,wv,xwma"
)
# RFC 7845: the first packet of the first page, behind a header of 28 bytes.
_OGG_OPUS = re.compile(rb"OggS.{24}OpusHead", re.DOTALL)
# Element CodecID of Matroska, as written for Opus and for any audio codec.
_MATROSKA_OPUS, _MATROSKA_AUDIO = b"\x86\x86A_OPUS", re.compile(rb"\x86[\x83-\x9f]A_[A-Z]")
# Before the field of the input rate, and the byte order of that field.
_RATE_FIELDS: tuple[tuple[bytes, Literal["little", "big"]], ...] = ((b"OpusHead", "little"), (b"dOps", "big"))
_MP4_OPUS, _MP4_AUDIO = b"dOps", re.compile(rb"mp4a|fLaC|alac|samr|sowt|twos|ac-3")


def seems_opus(head: bytes) -> bool:
    """Guess from its first bytes whether the first audio stream of a file is Opus; it may be wrong."""
    if head.startswith(b"OggS"):
        return _OGG_OPUS.match(head) is not None
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        found = _MATROSKA_AUDIO.search(head)
        return found is not None and head.startswith(_MATROSKA_OPUS, found.start())
    if head[4:8] == b"ftyp":
        return _MP4_OPUS in head and not _MP4_AUDIO.search(head)
    return False


def opus_input_rate(head: bytes) -> int:
    """Return the sample rate, in Hz, of what went into an Opus encoder; 0 if it is not noted.

    The identification header of Opus holds it as a note (RFC 7845, section 5.1; in MP4 the box ``dOps``, in the
    other byte order).

    Parameters
    ----------
    head : bytes
        Of a file whose first audio stream is Opus.
    """
    for mark, order in _RATE_FIELDS:
        place = head.find(mark)
        if place >= 0:
            start = place + len(mark) + 4
            return int.from_bytes(head[start : start + 4], order)
    return 0
