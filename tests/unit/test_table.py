import csv

import jsonschema
import numpy as np
import pytest

from exvo.corpus.labels import EMOTIONS, Country
from exvo.corpus.table import CorpusError, limit_corpus, read_corpus, read_test_labels, schema

ROWS = [
    {
        "File_ID": "[00001]",
        "Split": "Train",
        "Subject_ID": "a",
        "Country": "2",
        "Country_string": "United States",
        "Age": "21.5",
    },
    {
        "File_ID": "[00002]",
        "Split": "Train",
        "Subject_ID": "a",
        "Country": "0",
        "Country_string": "China",
        "Age": "",
    },
    {
        "File_ID": "[00003]",
        "Split": "Val",
        "Subject_ID": "b",
        "Country": "",
        "Country_string": "",
        "Age": "39",
    },
    {"File_ID": "[00004]", "Split": "Test", "Subject_ID": "", "Country": "", "Country_string": "", "Age": ""},
]


def emotions(value):
    return dict.fromkeys(EMOTIONS, value)


@pytest.fixture
def write(tmp_path):
    def write(rows, name="data_info.csv", delimiter=",", encoding="utf-8", line_end="\n"):
        with (tmp_path / name).open("w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator=line_end)
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path

    return write


def with_emotions(rows):
    values = ["1", "0.5", "", ""]
    return [{**row, **emotions(value)} for row, value in zip(rows, values, strict=True)]


def test_a_table_is_read_by_column_name_in_any_order(write):
    rows = [dict(reversed(row.items())) for row in with_emotions(ROWS)]
    corpus = read_corpus(write(rows))
    labels = corpus.labels
    assert list(labels.clip_id) == ["00001", "00002", "00003", "00004"]
    assert list(corpus.file_ids) == ["[00001]", "[00002]", "[00003]", "[00004]"]
    assert list(labels.split) == ["Train", "Train", "Val", "Test"]
    assert labels.countries == (Country(0, "China"), Country(2, "United States"))
    np.testing.assert_array_equal(labels.country, [1, 0, -1, -1])
    np.testing.assert_array_equal(labels.age, [21.5, np.nan, 39, np.nan])
    np.testing.assert_array_equal(labels.emotion[:, 3], [1, 0.5, np.nan, np.nan])


def test_labels_may_be_missing_altogether(write):
    labels = read_corpus(write([{"File_ID": "x", "Split": "Test"}])).labels
    assert labels.countries == () and labels.speaker[0] == ""
    assert np.isnan(labels.age).all() and np.isnan(labels.emotion).all() and (labels.country == -1).all()


@pytest.mark.parametrize("brackets", [True, False])
def test_ids_come_with_and_without_brackets(write, brackets):
    text = "[00012]" if brackets else "00012"
    corpus = read_corpus(write([{"File_ID": text, "Split": "Train"}]))
    assert corpus.labels.clip_id[0] == "00012" and corpus.file_ids[0] == text


@pytest.mark.parametrize("kind", [{"encoding": "utf-8-sig"}, {"line_end": "\r\n"}])
def test_byte_order_mark_and_windows_line_ends_are_read(write, kind):
    labels = read_corpus(write(with_emotions(ROWS), **kind)).labels
    assert list(labels.clip_id) == ["00001", "00002", "00003", "00004"]
    assert labels.emotion[0, 9] == 1.0


def test_countries_by_name_get_the_codes_of_the_challenge_or_of_the_alphabet(write):
    rows = [
        {"File_ID": str(i), "Split": "Train", "Country": name}
        for i, name in enumerate(["Venezuela", "China"])
    ]
    labels = read_corpus(write(rows)).labels
    assert labels.countries == (Country(0, "China"), Country(3, "Venezuela")) and list(labels.country) == [
        1,
        0,
    ]
    rows = [
        {"File_ID": str(i), "Split": "Train", "Country_string": name}
        for i, name in enumerate(["Peru", "Chile"])
    ]
    labels = read_corpus(write(rows)).labels
    assert labels.countries == (Country(0, "Chile"), Country(1, "Peru")) and list(labels.country) == [1, 0]


def test_codes_that_pandas_wrote_as_floats_are_codes(write):
    rows = [
        {"File_ID": "1", "Split": "Train", "Country": "2.0"},
        {"File_ID": "2", "Split": "Train", "Country": "nan"},
    ]
    labels = read_corpus(write(rows)).labels
    assert labels.countries == (Country(2, "2"),) and list(labels.country) == [0, -1]


def change(position, **values):
    rows = [dict(row) for row in with_emotions(ROWS)]
    rows[position].update(values)
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (change(1, File_ID="[00001]"), ["more than once", "line 3: '[00001]'"]),
        (change(1, File_ID="[../x]"), ["plain file name", "line 3: '[../x]'"]),
        (change(1, File_ID="[]"), ["plain file name", "line 3"]),
        (change(2, Split="Dev"), ["Split must be one of Train, Val, Test", "line 4: 'Dev'"]),
        (change(2, Subject_ID="a"), ["more than one split", "line 4: 'a'"]),
        (change(0, Awe="1.2"), ["Awe must lie between 0 and 1", "line 2: '1.2'"]),
        (change(0, Awe="-0.1"), ["Awe must lie between 0 and 1"]),
        (change(0, Age="old"), ["Age must be a number or empty", "line 2: 'old'"]),
        (change(0, Age="inf"), ["Age must be a number or empty"]),
        (change(0, Age="0"), ["Age must lie between 0 and 130"]),
        (change(0, File_ID="[a/../../b]"), ["plain file name", "line 2: '[a/../../b]'"]),
        (change(0, Country="1e20"), ["Country must be a whole number", "line 2: '1e20'"]),
        (change(1, Country="abc", Country_string=""), ["Country must be a whole number", "line 3: 'abc'"]),
        (change(1, Country="", Country_string="Chile"), ["one in another row", "line 3: 'Chile'"]),
        (change(2, Subject_ID="b\nc"), ["Subject_ID goes on over the end of a line", "line 4"]),
        (change(1, File_ID="[x\n[00003],Val]"), ["File_ID goes on over the end of a line", "line 3"]),
    ],
)
def test_a_wrong_row_is_named(write, rows, words):
    with pytest.raises(CorpusError) as error:
        read_corpus(write(rows))
    assert all(word in str(error.value) for word in words), error.value


def test_all_problems_are_said_at_once(write):
    rows = change(0, Age="old")
    rows[1]["Split"] = "Dev"
    with pytest.raises(CorpusError, match="3 problems") as error:
        read_corpus(write(rows))
    assert "Age" in str(error.value) and "Split" in str(error.value)


@pytest.mark.parametrize(("delimiter", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_wrong_delimiter_is_recognised(write, delimiter, word):
    with pytest.raises(CorpusError, match=word):
        read_corpus(write(ROWS, delimiter=delimiter))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("File_ID,Split\n", "no clips"),
        ("File_ID,Speaker\nx,y\n", "no column Split"),
        ("File_ID,Split,Split\nx,Train,Train\n", "twice"),
        ("File_ID,Split\nx\n", "line 2|Row #2|Expected 2"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, word):
    (tmp_path / "data_info.csv").write_text(text)
    with pytest.raises(CorpusError, match=word):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\n\nFile_ID,Split\nx,Train\n", "its first line is"),
        ("File_ID,Split\nx,Train\n".encode("utf-16"), "UTF-8"),
        (b"File_ID,Split,\xc4ge\nx,Train,3\n", "line 1 is not UTF-8"),
        (b"File_ID,Split,Subject_ID\nx,Train,\xe4\n", "UTF-8"),
        (b'File_ID,Split\nx,"Train\ny,Train\nz,Train\n', "line 2"),
        (b'"' + b"x" * 200_000 + b'",Split\nx,Train\n', "line 1 cannot be read"),
    ],
)
def test_bytes_that_are_no_table_are_refused_in_words(tmp_path, data, word):
    (tmp_path / "data_info.csv").write_bytes(data)
    with pytest.raises(CorpusError, match=word) as error:
        read_corpus(tmp_path)
    assert str(tmp_path / "data_info.csv") in str(error.value)


def test_a_clip_may_be_called_by_two_lines(write):
    corpus = read_corpus(write(change(0, File_ID="[a\nb]")))
    assert corpus.labels.clip_id[0] == "a\nb" and len(corpus.labels) == 4


def test_a_column_that_means_nothing_is_told(write):
    rows = [{**row, "Agee": "30"} for row in with_emotions(ROWS)]
    assert read_corpus(write(rows)).notices == (
        "columns of data_info.csv that mean nothing here are left out: 'Agee'",
    )


def test_a_missing_table_says_how_to_make_one(tmp_path):
    with pytest.raises(CorpusError, match="exvo demo"):
        read_corpus(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Awe", "1.5"),
        ("Awe", "0.5"),
        ("Age", "-3"),
        ("Age", "130"),
        ("Split", "Dev"),
        ("Split", "Val"),
        ("Age", ""),
    ],
)
def test_the_reader_agrees_with_a_json_schema_validator(write, column, value):
    rows = change(3, **{column: value})
    instance = dict(rows[3])
    for name in ("Age", *EMOTIONS):
        instance[name] = float(instance[name]) if instance[name] else None
    valid = jsonschema.Draft202012Validator(schema()).is_valid(instance)
    try:
        read_corpus(write(rows))
        read = True
    except CorpusError:
        read = False
    assert read == valid


def test_a_limit_keeps_speakers_whole(write):
    rows = [
        {"File_ID": f"{speaker}{n}", "Split": "Train", "Subject_ID": f"s{speaker}"}
        for speaker in range(9)
        for n in range(4)
    ]
    corpus = read_corpus(write(rows), limit=10)
    kept = corpus.labels.speaker
    assert len(kept) == 8 and all((kept == name).sum() == 4 for name in set(kept))
    larger = read_corpus(write(rows), limit=16)
    assert set(kept) < set(larger.labels.speaker)
    assert list(corpus.file_ids) == list(corpus.labels.clip_id)
    with pytest.raises(CorpusError, match="at least 4"):
        limit_corpus(read_corpus(write(rows)), 3)


def test_a_limit_counts_clips_of_unknown_speakers_one_by_one(write):
    rows = [{"File_ID": str(n), "Split": "Test"} for n in range(20)]
    assert len(read_corpus(write(rows), limit=7).labels) == 7


def test_test_labels_come_in_the_order_of_the_test_clips(write):
    rows = [
        {
            "File_ID": f"[{n}]",
            "Split": "Test" if n else "Train",
            "Subject_ID": "",
            "Country": "" if n else "0",
        }
        for n in range(4)
    ]
    root = write(rows)
    assert read_test_labels(read_corpus(root)) is None
    known = [
        {"File_ID": f"[{n}]", "Split": "Test", "Subject_ID": f"s{n}", "Country": "0", "Age": 20 + n}
        for n in (3, 1)
    ]
    write(known, name="test_labels.csv")
    labels = read_test_labels(read_corpus(root))
    assert list(labels.clip_id) == ["1", "2", "3"]
    np.testing.assert_array_equal(labels.age, [21, np.nan, 23])
    assert list(labels.country) == [0, -1, 0] and list(labels.speaker) == ["s1", "", "s3"]


def test_a_test_country_that_the_table_lacks_is_an_error(write):
    rows = [
        {"File_ID": "1", "Split": "Test", "Country": ""},
        {"File_ID": "2", "Split": "Train", "Country": "1"},
    ]
    root = write(rows)
    write([{"File_ID": "1", "Split": "Test", "Country": "9"}], name="test_labels.csv")
    with pytest.raises(CorpusError, match="Country must be one of those"):
        read_test_labels(read_corpus(root))


def test_a_speaker_of_train_that_test_labels_names_is_refused(write):
    """In the challenge, Test's speakers stand in the table of Test labels alone."""
    root = write([*ROWS, {"File_ID": "[9]", "Split": "Test"}])
    other = {"File_ID": "[77]", "Split": "Test", "Subject_ID": "a"}  # of no clip: it is not looked at
    write([{"File_ID": "[9]", "Split": "Test", "Subject_ID": "a"}, other], name="test_labels.csv")
    with pytest.raises(
        CorpusError, match=r"test_labels.csv has 1 problem.*\n.*one of Train or Val.*line 2: 'a'\)"
    ):
        read_test_labels(read_corpus(root))
    write([{"File_ID": "[9]", "Split": "Test", "Subject_ID": "new"}, other], name="test_labels.csv")
    assert list(read_test_labels(read_corpus(root)).speaker[-1:]) == ["new"]
