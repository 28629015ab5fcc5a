"""Describe the errors of ffmpeg in plain words.

The result is for a reader only, because a file can put arbitrary text into the log. Whether a clip is valid depends on
the exit code of ffmpeg, on its output, and on whether its log is empty.
"""

import re

MAX_LENGTH = 200
LIST_OF_FILES = "a list of other files, not a recording"
CUT_OFF = "cut off: the file ends before its end"
UNKNOWN = "not a recording in a known format, or its beginning is damaged"
# First bytes of playlists, which name other files. ffmpeg does not open these.
_LISTS = (b"#EXTM3U", b"ffconcat version", b"<MPD")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Pattern, description, and whether ffmpeg's own message is added. The first pattern found in the log applies; more
# specific patterns come first.
_WORDS = [
    (r"matches no streams", "no audio stream in the file: a video without sound, or a picture", False),
    (r"Format not on whitelist", "a kind of file that holds no recording", False),
    (r"(?:Channel|Sample rate) change is not supported|failed to create or replace stream",
     "two recordings in one file, of different kinds; what follows the first is left out", False),
    (r"moov atom not found|trun sample count \d+ exceeds|partial file|[Ee]nded prematurely|Truncating packet"
     r"|Error opening input: (?:End of file|Input/output error)|no 'data' tag", CUT_OFF, True),
    (r"Error opening input: Cannot allocate memory", "needs more memory than a clip may take", False),
    (r"Error opening input: Invalid data found", UNKNOWN, False),
    (r"Decoder [^\n]{0,80} not found|no decoder found|Decoding requested, but no decoder|[Uu]nsupported codec",
     "of a codec that cannot be decoded", True),
    (r"Error submitting (?:a )?packet to (?:the )?decoder|Error while decoding|Decoding error"
     r"|Error during demuxing|Invalid data found when processing input|Header missing|CRC mismatch",
     "parts of the file are damaged and could not be decoded", True),
]  # fmt: skip
_PREFIX = re.compile(r"^(?:\[[^\]]*\] )*\[(?:error|fatal|panic)\] ")


def is_list_of_files(head: bytes) -> bool:
    """Return whether a file begins like a playlist."""
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    return text.startswith(_LISTS) or (text.startswith(b"<?xml") and b"<MPD" in text)


def plain_words(log: str, code: int) -> str:
    """Return what is wrong; empty where the program printed nothing and exited with 0.

    Parameters
    ----------
    log : str
        Log of ffmpeg, errors only.
    code : int
        Exit code of ffmpeg.
    """
    if not log.strip():
        return f"ffmpeg ended with code {code}" if code else ""
    first = _PREFIX.sub("", log.strip().splitlines()[0])
    first = "".join(letter if letter.isprintable() else " " for letter in first)[:MAX_LENGTH].strip()
    for pattern, words, with_its_own in _WORDS:
        if re.search(pattern, log):
            return f"{words} (ffmpeg: {first})" if with_its_own else words
    return f"ffmpeg: {first}" if first else "ffmpeg reports an error without a message"
