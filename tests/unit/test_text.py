import unicodedata

import pyarrow as pa
import pytest
from pandas._libs.parsers import STR_NA_VALUES

from exvo.corpus.text import KEEP, UNKNOWN, alike, clip_id_of, composed, known_name, look_alikes, trimmed


def test_what_pandas_reads_as_missing_is_not_known():
    assert set(UNKNOWN) >= set(STR_NA_VALUES)


@pytest.mark.parametrize("word", UNKNOWN)
def test_a_word_for_not_known_is_a_name_with_a_backslash_before_it(word):
    assert known_name(word) == ""
    if word:
        assert known_name(KEEP + word) == word


@pytest.mark.parametrize(
    "name", ["Na", "Nan", "Nasser", "NA1", "Null", "none", "N", "-", "0", "\\", "\\x", "unknown", "nan nan"]
)
def test_what_may_be_a_name_is_one(name):
    assert known_name(name) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("12", "12"),
        ("12.0", "12"),
        ("12.00", "12"),
        ("0.0", "0"),
        ("012.0", "012"),
        ("012", "012"),
        ("12.5", "12.5"),
        ("1.0.0", "1.0.0"),
        ("v1.0", "v1.0"),
        (".0", ".0"),
        ("12.", "12."),
        ("١٢.0", "١٢.0"),
        ("Jose\u0301", "Jos\u00e9"),
        ("Å", "Å"),
    ],
)
def test_a_whole_number_has_no_fraction_and_accents_are_composed(written, name):
    assert known_name(written) == name


def test_ids_in_brackets_and_in_two_forms_of_unicode_are_one():
    name = "Zoë_Åse_가_01"
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, name)
        assert clip_id_of(f"[{written}]") == clip_id_of(written) == composed(written) == name
    assert clip_id_of("[") == "[" and clip_id_of("") == "" and clip_id_of("[]") == ""
    # A name of a file that is not UTF-8, as Python has it.
    assert composed("e\u0301\udcff") == "é\udcff"


@pytest.mark.parametrize(
    "edge", [" ", "\t", "\r", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\u200e", " \u00a0\u200b "]
)
def test_white_space_at_the_ends_is_taken_off_visible_or_not(edge):
    column = pa.chunked_array([[f"{edge}a b{edge}", edge, "é"], ["", f"é{edge}"]])
    assert trimmed(column).to_pylist() == ["a b", "", "é", "", "é"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("S01", "s01"),
        ("12", "00012"),
        ("12.0", "012"),
        ("S 1", "S1"),
        ("\uff11\uff12", "12"),
        ("[a]", "a"),
        ("0", "00"),
    ],
)
def test_names_that_look_alike_share_a_key(one, other):
    assert alike(one) == alike(other)


@pytest.mark.parametrize(
    ("one", "other"), [("S1", "S2"), ("10", "1"), ("0", ""), ("a.0", "a"), ("1.05", "105")]
)
def test_names_that_do_not_look_alike_have_keys_of_their_own(one, other):
    assert alike(one) != alike(other)


def test_the_id_that_is_meant_is_found_by_number_and_by_ending():
    meant = look_alikes(
        ["12", "12.0", "00013.webm", "14", "A.wav", "x"], ["00012", "00013", "14.webm", "a", "y"]
    )
    assert meant == {"12": "00012", "12.0": "00012", "00013.webm": "00013", "14": "14.webm", "A.wav": "a"}
