"""The normal form in which ids, names and words of a corpus are compared, whatever program wrote them.

Spreadsheets, R and pandas write the same value in several ways: accented letters as one or two code points, integers
with ``.0``, and unknown values as a dozen words. All text from label tables and file names is normalised here before
it is compared.
"""

import re
import unicodedata
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

# Words for an unknown value in numpy and pandas, R, Python, SQL, spreadsheets, dumps of MySQL and PostgreSQL, and old C
# libraries. The case matters, because Na, Nan and Null are names of people.
UNKNOWN = (
    "",
    *("nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "<NA>"),
    *("NA", "N/A", "n/a", "None", "null", "NULL"),
    *("#N/A", "#N/A N/A", "#NA", "#NULL!", "\\N"),
    *("1.#QNAN", "-1.#QNAN", "1.#IND", "-1.#IND"),
)
# With this prefix, one of these words is a name: ``\NA`` is the speaker NA. No program removes the prefix.
KEEP = "\\"
# White space, and zero-width characters in text copied from a web page.
_EDGE = r"[\s\pZ\x{200b}\x{200e}\x{200f}\x{2060}\x{feff}]+"
_UNKNOWN_WORDS = frozenset(UNKNOWN)
_WHOLE_AS_FLOAT = re.compile(r"^([0-9]+)\.0+$")


def composed(text: str) -> str:
    """Return text with composed accents (Unicode NFC), as in tables; macOS decomposes accents in file names."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def clip_id_of(file_id: str) -> str:
    """Return the clip id of a trimmed ``File_ID``, with brackets (``[00012]``) or without."""
    return composed(file_id[1:-1] if file_id[:1] == "[" and file_id[-1:] == "]" else file_id)


def trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text without white space and zero-width characters at the ends."""
    if is_ascii(column):
        return pc.utf8_trim_whitespace(column)
    return pc.replace_substring_regex(column, f"^{_EDGE}|{_EDGE}$", "")


def known_name(text: str) -> str:
    """Return the normal form of a name; empty where it is unknown.

    Accents are composed, and the ``.0`` that pandas writes after integers is removed. Words of `UNKNOWN` become empty;
    with the prefix `KEEP` they become the word itself.
    """
    if text in _UNKNOWN_WORDS:
        return ""
    if len(text) > 1 and text[0] == KEEP and text[1:] in _UNKNOWN_WORDS:
        return text[1:]
    return _WHOLE_AS_FLOAT.sub(r"\1", composed(text))


def is_unknown(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which texts of a column mean an unknown value."""
    return is_one_of(column, UNKNOWN)


def is_one_of(column: pa.ChunkedArray, words: Iterable[str]) -> pa.ChunkedArray:
    """Return which texts of a column are in a list of words."""
    # A pattern, because pyarrow imports pandas to convert a word to an array or scalar.
    return pc.match_substring_regex(column, f"^({'|'.join(map(re.escape, words))})$")


def unknown_as_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with ``nan`` for every word that means an unknown value."""
    return pc.replace_substring_regex(column, f"^({'|'.join(map(re.escape, UNKNOWN))})$", "nan")


def shown(text: str) -> str:
    r"""Return text with non-printable characters escaped, so that a name cannot control a terminal.

    Bytes of a file name that are not UTF-8 are shown as ``\xe9``.
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # Python's surrogate for a byte that is not UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def alike(name: str) -> str:
    """Return a key that is equal for names that may be meant to be the same. It serves hints, never identity.

    The key ignores case, white space, brackets, the width of letters, leading zeros and a final ``.0``.
    """
    key = "".join(unicodedata.normalize("NFKC", name).casefold().split()).strip("[]")
    return re.sub(r"^0+(?=.)|(?<=\d)\.0+$", "", key)


def look_alikes(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Map names to a similar one of the others: 12 and 00012.webm to 00012.

    Parameters
    ----------
    names, others : iterable of str
        Clip ids; the text after a point may be the ending of a file.
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
    """Return whether a column of text is ASCII."""
    return all(_bytes_are_ascii(chunk) for chunk in column.chunks)


def _bytes_are_ascii(texts: pa.Array) -> bool:
    """Return whether all texts are ASCII. Testing the buffer is much faster than testing each text."""
    data = texts.buffers()[2]
    return data is None or data.to_pybytes().isascii()
