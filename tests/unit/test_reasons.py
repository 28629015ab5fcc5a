import pytest

from exvo.audio.reasons import MAX_LENGTH, is_list_of_files, plain_words


@pytest.mark.parametrize(
    "head",
    [
        b"#EXTM3U\n#EXT-X-VERSION:3\n",
        b"\xef\xbb\xbf#EXTM3U\n",
        b"\n ffconcat version 1.0\n",
        b'<?xml version="1.0"?>\n<!-- made by -->\n<MPD xmlns="x">',
        b"<MPD>",
    ],
)
def test_a_list_of_files_is_known_by_its_begin(head):
    assert is_list_of_files(head)


@pytest.mark.parametrize(
    "head", [b"", b"RIFF", b"\x1a\x45\xdf\xa3#EXTM3U", b"<?xml version='1.0'?><svg/>", b" " * 65536]
)
def test_other_files_are_not(head):
    # Blanks without end must not keep a pattern busy.
    assert not is_list_of_files(head)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("[fatal] Stream map '' matches no streams.\n", "no audio stream in the file"),
        (
            "[in#0 @ 0x1] [error] moov atom not found\n[in#0 @ 0x1] [error] Error opening input: Invalid data",
            "cut off",
        ),
        (
            "[in#0 @ 0x1] [error] Error opening input: Invalid data found when processing input\n",
            "not a recording",
        ),
        ("[ogg @ 0x1] [error] Channel change is not supported\n", "two recordings in one file"),
        ("[aac @ 0x1] [error] Error submitting packet to decoder: x\n", "parts of the file are damaged"),
        ("[in#0 @ 0x1] [error] Format not on whitelist 'aac'\n", "a kind of file that holds no recording"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(log, words):
    assert plain_words(log, 1).startswith(words)


def test_unknown_words_are_ffmpegs_own_in_one_short_line():
    words = plain_words("[x @ 0x55] [error] some\x1b[31m thing\t odd" + 500 * "!" + "\nmore", 1)
    assert words.startswith("ffmpeg: some [31m thing  odd!!") and len(words) <= MAX_LENGTH + len("ffmpeg: ")


def test_an_end_without_words_is_reported_by_its_code_and_a_good_end_not_at_all():
    assert plain_words("", -11) == "ffmpeg ended with code -11" and plain_words("\n", 0) == ""
