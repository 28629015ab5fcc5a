"""What a recording's container says of it, as ffmpeg's ``framecrc`` output writes it: lines of numbers.

A log is for people. A file can put words into it, and so forge what a program would read there; into this output it
can put numbers, and names from ffmpeg's own tables.
"""

import re
from dataclasses import dataclass, field

import numpy as np

_HEADER = re.compile(rb"#(tb|codec_id|sample_rate|channel_layout_name) (\d+): ([ -~]{1,80})")
# So many packets whose stamps are not after those of the packets before: a recording that begins anew.
MANY = 8
# Stream, decoding and presentation stamp, duration, size; then a checksum.
_PACKET = re.compile(rb"(\d+), *(-?\d+), *(-?\d+), *(-?\d+), *\d+, 0x")


@dataclass
class Stream:
    """The first audio stream of a recording, before it is decoded.

    Attributes
    ----------
    codec : str
    sample_rate : int
        In Hz.
    channels : str
        ``mono``, ``stereo``, ``5.1``, ``9 channels``...
    """

    codec: str = ""
    sample_rate: int = 0
    channels: str = ""
    _unit: float = 0.0
    _starts: list[int] = field(default_factory=list)
    _last: int = 0

    @property
    def begins_anew(self) -> bool:
        """Whether the time stamps begin anew, as where one recording follows another in a file.

        ffmpeg keeps stamps from going back: they stand still until they are passed.
        """
        return int((np.diff(self._starts) <= 0).sum()) >= MANY

    @property
    def span_s(self) -> float | None:
        """From the first packet's begin to the last one's end by their time stamps, in seconds; None if unknown."""
        if len(self._starts) < 2 or not self._unit:
            return None
        starts = np.array(self._starts, dtype=np.float64)
        # The duration of a last packet may be missing, or cut to what is left of it; of some it is nonsense.
        usual = float(np.median(np.abs(np.diff(starts))))
        last = self._last if 0 < self._last < usual else usual
        return float(starts.max() - starts.min() + last) * self._unit


def read_packets(output: bytes | bytearray, n_streams: int) -> list[Stream]:
    """Read what ffmpeg wrote of some streams.

    Parameters
    ----------
    output : bytes or bytearray
        Of the ``framecrc`` muxer; may be cut off.
    n_streams : int

    Returns
    -------
    list of Stream
        Those of which nothing is written have no ``codec``.
    """
    streams = [Stream() for _ in range(n_streams)]
    # What stands after the last line break was cut off.
    for line in output.split(b"\n")[:-1]:
        if packet := _PACKET.match(line):
            stream = streams[int(packet[1])]
            stream._starts.append(int(packet[3]))
            stream._last = int(packet[4])
        elif header := _HEADER.fullmatch(line):
            _note(streams[int(header[2])], header[1].decode(), header[3].decode())
    return streams


def _note(stream: Stream, name: str, value: str) -> None:
    if name == "tb":
        numerator, _, denominator = value.partition("/")
        stream._unit = int(numerator) / int(denominator)
    elif name == "codec_id":
        stream.codec = value
    elif name == "sample_rate":
        stream.sample_rate = int(value)
    else:
        stream.channels = value
