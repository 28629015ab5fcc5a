"""Read the properties of a recording's container from the ``framecrc`` output of ffmpeg, which is lines of numbers.

ffmpeg's log is not parsed, because a file can put arbitrary text into it. Into this output a file can only put
numbers, and names from ffmpeg's own tables.
"""

import re
from dataclasses import dataclass, field

import numpy as np

_HEADER = re.compile(rb"#(tb|codec_id|sample_rate|channel_layout_name) (\d+): ([ -~]{1,80})")
# With this many packets whose time stamp does not advance, a second recording has started in the file.
MANY = 8
# Stream, decoding time stamp, presentation time stamp, duration, size and checksum.
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
    def restarts(self) -> bool:
        """Whether the time stamps restart, as where one recording follows another in a file.

        ffmpeg prevents backward steps: the time stamps stay constant until the restarted ones exceed them.
        """
        return int((np.diff(self._starts) <= 0).sum()) >= MANY

    @property
    def span_s(self) -> float | None:
        """Time from the start of the first packet to the end of the last one, in seconds; None if unknown."""
        if len(self._starts) < 2 or not self._unit:
            return None
        starts = np.array(self._starts, dtype=np.float64)
        # The duration of the last packet may be missing, shortened or wrong.
        usual = float(np.median(np.abs(np.diff(starts))))
        last = self._last if 0 < self._last < usual else usual
        return float(starts.max() - starts.min() + last) * self._unit


def read_packets(output: bytes | bytearray, n_streams: int) -> list[Stream]:
    """Read the packets of some streams.

    Parameters
    ----------
    output : bytes or bytearray
        Output of the ``framecrc`` muxer; may be truncated.
    n_streams : int

    Returns
    -------
    list of Stream
        A stream without output has an empty ``codec``.
    """
    streams = [Stream() for _ in range(n_streams)]
    # Text after the last line break was truncated.
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
