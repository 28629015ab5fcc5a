"""The one form in which a corpus's ids, names and words are compared, whatever program wrote them.

Spreadsheets, R and pandas write the same thing in several ways: letters with accents as one code point or two, numbers
with ``.0`` behind them, and a value that is not known in a dozen words. What is read from a label table and from the
names of files goes through this module, and nothing is compared before.
"""

import re
import unicodedata
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

# What programs write for a value that is not known: numpy and pandas, R, Python, SQL, spreadsheets, the dumps of MySQL
# and PostgreSQL, and old C libraries. Each is spelt as they spell it, for Na, Nan and Null are names of people.
UNKNOWN = (
    "",
    *("nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "<NA>"),
    *("NA", "N/A", "n/a", "None", "null", "NULL"),
    *("#N/A", "#N/A N/A", "#NA", "#NULL!", "\\N"),
    *("1.#QNAN", "-1.#QNAN", "1.#IND", "-1.#IND"),
)
# One of these words with this before it is a name: ``\NA`` is the speaker NA. No program takes it off on the way.
KEEP = "\\"
# White space, and marks without a width that come along with text copied from a page.
_EDGE = r"[\s\pZ\x{200b}\x{200e}\x{200f}\x{2060}\x{feff}]+"
_UNKNOWN_WORDS = frozenset(UNKNOWN)
_WHOLE_AS_FLOAT = re.compile(r"^([0-9]+)\.0+$")


def composed(text: str) -> str:
    """Return text with accents composed (Unicode NFC), as tables have them; macOS writes names of files decomposed."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def clip_id_of(file_id: str) -> str:
    """Return the clip id that a trimmed ``File_ID`` stands for, in brackets (``[00012]``) or bare."""
    return composed(file_id[1:-1] if file_id[:1] == "[" and file_id[-1:] == "]" else file_id)


def trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text without white space at the ends, visible or not."""
    if is_ascii(column):
        return pc.utf8_trim_whitespace(column)
    return pc.replace_substring_regex(column, f"^{_EDGE}|{_EDGE}$", "")


def known_name(text: str) -> str:
    """Return a name in the form in which names are compared, empty where it is not known.

    Accents are composed, the ``.0`` that pandas writes after whole numbers is taken off, words of `UNKNOWN` become
    empty, and one with `KEEP` before it becomes the word.
    """
    if text in _UNKNOWN_WORDS:
        return ""
    if len(text) > 1 and text[0] == KEEP and text[1:] in _UNKNOWN_WORDS:
        return text[1:]
    return _WHOLE_AS_FLOAT.sub(r"\1", composed(text))


def is_unknown(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which texts of a column stand for a value that is not known."""
    return is_one_of(column, UNKNOWN)


def is_one_of(column: pa.ChunkedArray, words: Iterable[str]) -> pa.ChunkedArray:
    """Return which texts of a column are one of some words."""
    # A pattern, for pyarrow imports pandas as soon as it has to make an array or a scalar of a word.
    return pc.match_substring_regex(column, f"^({'|'.join(map(re.escape, words))})$")


def unknown_as_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with ``nan`` for every word that stands for a value that is not known."""
    return pc.replace_substring_regex(column, f"^({'|'.join(map(re.escape, UNKNOWN))})$", "nan")


def shown(text: str) -> str:
    r"""Return text in which whatever is no plain character is escaped, so that no name can steer a terminal.

    Of a file name that is not UTF-8 the odd bytes are shown, as ``\xe9``.
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # how Python keeps a byte of a name that is not UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def alike(name: str) -> str:
    """Return what names share that somebody may have meant to be the same: a key for hints, never for identity.

    It leaves out case, white space, brackets, the width of letters, zeros in front and ``.0`` behind.
    """
    key = "".join(unicodedata.normalize("NFKC", name).casefold().split()).strip("[]")
    return re.sub(r"^0+(?=.)|(?<=\d)\.0+$", "", key)


def look_alikes(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Return, for names that look like one of some others, that other: 12 and 00012.webm for 00012.

    Parameters
    ----------
    names, others : iterable of str
        Clip ids; what comes behind a point in one may be the ending of a file.
    """
    by_key: dict[str, str] = {}
    for other in sorted(others):
        for key in _keys(other):
            by_key.setdefault(key, other)
    found = {}
    for name in names:
        similar = next((by_key[key] for key in _keys(name) if key in by_key), None)
        if similar is not None:
            found[name] = similar
    return found


def _keys(name: str) -> list[str]:
    stem, _, _ = name.strip("[]").rpartition(".")
    return [alike(part) for part in (name, stem) if part]


def is_ascii(column: pa.ChunkedArray) -> bool:
    """Return whether a column of text holds ASCII alone."""
    return all(_bytes_are_ascii(chunk) for chunk in column.chunks)


def _bytes_are_ascii(texts: pa.Array) -> bool:
    """Return whether the memory of some texts holds ASCII alone: far quicker than asking text by text."""
    data = texts.buffers()[2]
    return data is None or data.to_pybytes().isascii()
