"""File formats of recordings, and how the first bytes of a file show that it contains Opus.

ffmpeg opens some 350 formats. Some are lists of other files, scripts or network addresses: a hostile corpus could
make ffmpeg read private files of the user. ffmpeg therefore receives a list of permitted formats and refuses all
others. None of the permitted formats opens another file.
"""

import re
from typing import Literal

# Demuxers, by their names in ffmpeg, that recognise their files by content. Excluded: lists of files (concat, dash,
# hls, imf, image2, ...), network sessions (sdp, rtsp, sap), scripts (avisynth), discs, pictures, subtitles, text,
# synthesised music (libopenmpt, libgme), game formats, and raw samples without a header.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,asf_o,au,avi,avr,caf,codec2,dsf,dss,dts,eac3,epaf,flac,flv,gsm,iff,ircam,lc3,loas,"
    "matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,osq,pvf,qcp,qoa,rm,sbc,sds,shn,sox,"
    "tak,truehd,tta,voc,w64,wav,wsd,wtv,wv,xwma"
)
# RFC 7845: the first packet of the first page, after a header of 28 bytes.
_OGG_OPUS = re.compile(rb"OggS.{24}OpusHead", re.DOTALL)
# The element CodecID of Matroska, for Opus and for any audio codec.
_MATROSKA_OPUS, _MATROSKA_AUDIO = b"\x86\x86A_OPUS", re.compile(rb"\x86[\x83-\x9f]A_[A-Z]")
# The mark before the input sample rate, and the byte order of that rate.
_RATE_FIELDS: tuple[tuple[bytes, Literal["little", "big"]], ...] = ((b"OpusHead", "little"), (b"dOps", "big"))
_MP4_OPUS, _MP4_AUDIO = b"dOps", re.compile(rb"mp4a|fLaC|alac|samr|sowt|twos|ac-3")


def seems_opus(head: bytes) -> bool:
    """Guess from the first bytes of a file whether its first audio stream is Opus; the guess may be wrong."""
    if head.startswith(b"OggS"):
        return _OGG_OPUS.match(head) is not None
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        found = _MATROSKA_AUDIO.search(head)
        return found is not None and head.startswith(_MATROSKA_OPUS, found.start())
    if head[4:8] == b"ftyp":
        return _MP4_OPUS in head and not _MP4_AUDIO.search(head)
    return False


def opus_input_rate(head: bytes) -> int:
    """Return the sample rate of the input of the Opus encoder, in Hz; 0 if the file does not state it.

    The identification header of Opus holds it for information (RFC 7845, section 5.1). In MP4 it is in the box
    ``dOps``, in the other byte order.

    Parameters
    ----------
    head : bytes
        First bytes of a file whose first audio stream is Opus.
    """
    for mark, order in _RATE_FIELDS:
        place = head.find(mark)
        if place >= 0:
            start = place + len(mark) + 4
            return int.from_bytes(head[start : start + 4], order)
    return 0
