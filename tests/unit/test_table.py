import csv
import unicodedata

import jsonschema
import numpy as np
import pandas
import pytest

from exvo.corpus.label_columns import schema
from exvo.corpus.labels import EMOTIONS, Country
from exvo.corpus.table import CorpusError, limit_corpus, read_corpus, read_test_labels
from exvo.corpus.text import UNKNOWN

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
        (change(0, Country="1e20"), ["Country must be an integer", "line 2: '1e20'"]),
        (change(1, Country="abc", Country_string=""), ["Country must be an integer", "line 3: 'abc'"]),
        (change(1, Country="", Country_string="Chile"), ["one in another row", "line 3: 'Chile'"]),
        (change(2, Subject_ID="b\nc"), ["Subject_ID continues over the end of a line", "line 4"]),
        (change(1, File_ID="[x\n[00003],Val]"), ["File_ID continues over the end of a line", "line 3"]),
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
        (b"\n\nFile_ID,Split\nx,Train\n", "its first line is empty"),
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


def test_a_column_that_means_nothing_is_reported(write):
    rows = [{**row, "Agee": "30"} for row in with_emotions(ROWS)]
    assert read_corpus(write(rows)).notices == ("unknown columns of data_info.csv are ignored: 'Agee'",)


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
        CorpusError, match=r"test_labels.csv has 1 problem.*\n.*also in Train or Val.*line 2: 'a'\)"
    ):
        read_test_labels(read_corpus(root))
    write([{"File_ID": "[9]", "Split": "Test", "Subject_ID": "new"}, other], name="test_labels.csv")
    assert list(read_test_labels(read_corpus(root)).speaker[-1:]) == ["new"]


def text_table(root, *lines, name="data_info.csv", end="\n"):
    (root / name).write_bytes(end.join([*lines, ""]).encode())
    return root


@pytest.mark.parametrize("word", UNKNOWN)
def test_what_programs_write_for_not_known_is_not_known(write, word):
    rows = change(0, Subject_ID=word, Country=word, Country_string=word, Age=word, Awe=word)
    rows[2].update(Subject_ID=word, Country=word, Country_string=word)  # of another split
    labels = read_corpus(write(rows)).labels
    assert list(labels.speaker) == ["", "a", "", ""] and list(labels.country) == [-1, 0, -1, -1]
    assert np.isnan(labels.age[0]) and np.isnan(labels.emotion[0, 0])
    assert labels.countries == (Country(0, "China"),)


def test_a_country_by_name_alone_is_not_made_of_words_for_not_known(write):
    names = ["Peru", "None", "NA", "<NA>", "nan"]
    labels = read_corpus(
        write([{"File_ID": str(i), "Split": "Train", "Country": name} for i, name in enumerate(names)])
    ).labels
    assert labels.countries == (Country(0, "Peru"),) and list(labels.country) == [0, -1, -1, -1, -1]


def test_a_speaker_and_a_country_called_na_are_kept(write):
    rows = change(2, Subject_ID="\\NA", Country="7", Country_string="\\NA")
    rows[3]["Subject_ID"] = "NA"
    corpus = read_corpus(write(rows))
    assert list(corpus.labels.speaker[2:]) == ["NA", ""]
    assert Country(7, "NA") in corpus.labels.countries
    assert corpus.notices == (
        "Subject_ID of data_info.csv is NA in 1 row, which is read as unknown; write \\NA for the name NA",
    )


@pytest.mark.parametrize(
    ("train", "val"), [("12", "12.0"), ("12.0", "12"), ("Jose\u0301", "Jos\u00e9"), ("a", "a\u00a0")]
)
def test_a_speaker_written_in_two_ways_is_one(write, train, val):
    rows = change(0, Subject_ID=train)
    rows[2]["Subject_ID"] = val
    with pytest.raises(CorpusError, match=r"more than one split.*line 4"):
        read_corpus(write(rows))


@pytest.mark.parametrize(("table", "test"), [("12.0", "12"), ("12", "12.0"), ("é", "e\u0301")])
def test_a_speaker_is_one_in_both_tables(write, table, test):
    root = write([*change(0, Subject_ID=table)[:1], {"File_ID": "[9]", "Split": "Test"}])
    write([{"File_ID": "[9]", "Split": "Test", "Subject_ID": test}], name="test_labels.csv")
    with pytest.raises(CorpusError, match="also in Train or Val"):
        read_test_labels(read_corpus(root))


def test_speakers_with_and_without_zeros_in_front_are_two(write):
    rows = change(0, Subject_ID="012")
    rows[2]["Subject_ID"] = "12"
    assert list(read_corpus(write(rows)).labels.speaker) == ["012", "a", "12", ""]


def test_ids_are_composed_and_the_submission_gets_them_as_they_were(write):
    decomposed = unicodedata.normalize("NFD", "josé_01")
    corpus = read_corpus(write(change(0, File_ID=f"[{decomposed}]")))
    assert corpus.labels.clip_id[0] == "jos\u00e9_01" and corpus.file_ids[0] == f"[{decomposed}]"
    rows = change(0, File_ID=f"[{decomposed}]")
    rows[1]["File_ID"] = "jos\u00e9_01"
    with pytest.raises(CorpusError, match=r"more than once.*line 3"):
        read_corpus(write(rows))


def test_columns_without_a_name_are_left_out_and_reported_only_where_they_hold_something(tmp_path):
    text_table(tmp_path, "File_ID,Split,Age,,", "a,Train,30,,", "b,Val,,,")
    assert read_corpus(tmp_path).notices == ()
    # The index of a DataFrame.
    text_table(tmp_path, ",File_ID,Split,Age,", "0,a,Train,30,", "1,b,Val,,")
    corpus = read_corpus(tmp_path)
    assert list(corpus.labels.age[:1]) == [30]
    assert corpus.notices == ("unknown columns of data_info.csv are ignored: column 1 (which has no name)",)


def test_empty_cells_and_rows_at_the_end_are_left_out(tmp_path):
    text_table(tmp_path, "File_ID,Split,Age", "a,Train,30,,", " ", "b,Val,40", *[",,"] * 2000, " ,, ")
    labels = read_corpus(tmp_path).labels
    assert list(labels.clip_id) == ["a", "b"] and list(labels.age) == [30, 40]


def test_a_row_may_lack_cells_of_columns_that_mean_nothing_but_no_label(tmp_path):
    text_table(tmp_path, "File_ID,Split,Age,note", "a,Train,30", "b,Val,40,loud", "c,Test,,")
    assert list(read_corpus(tmp_path).labels.age[:2]) == [30, 40]
    text_table(tmp_path, "File_ID,Split,Subject_ID,Age", "a,Train,30", "b,Val,s,40", "c,Test,t,50,60")
    with pytest.raises(CorpusError, match=r"names 4 columns, .* \(line 2: 3, line 4: 5\)"):
        read_corpus(tmp_path)


NOTE = "laughs,\nthen coughs\n\nand Train, Val"


@pytest.mark.parametrize("first", [True, False])
def test_a_note_may_have_several_lines(write, first):
    rows = [{"note": NOTE, **row} if first else {**row, "note": NOTE} for row in with_emotions(ROWS)]
    rows[3]["Age"] = "old"
    # The header, and notes of four lines in three rows.
    with pytest.raises(CorpusError, match=r"Age must be a number.*\(line 14: 'old'\)"):
        read_corpus(write(rows))
    rows[3]["Age"] = ""
    labels = read_corpus(write(rows)).labels
    assert list(labels.clip_id) == ["00001", "00002", "00003", "00004"]


@pytest.mark.parametrize(
    "lines",
    [
        ("File_ID,Split,note", 'a,Train,"laughs', "b,Val,", "c,Test,x"),
        ("File_ID,Split,note", 'a,Train,"laughs', "b,Val,", 'c,Test,"coughs'),
        ("note,File_ID,Split", '"laughs,a,Train', '"coughs,b,Val'),
        ("note,File_ID,Split", "x,a,Train", '"laughs,b,Val', 'coughs",c,Test'),
    ],
)
def test_a_note_that_swallows_rows_is_refused(tmp_path, lines):
    with pytest.raises(
        CorpusError, match="note continues over the end of a line: a quotation mark is missing"
    ):
        read_corpus(text_table(tmp_path, *lines))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_are_those_of_the_file(tmp_path, end, mark):
    lines = [
        f"{mark}File_ID,Split,Age,note",
        "",
        "",
        "a,Train,30,",
        "",
        f'b,Val,40,"x{end}y"',
        ",,,",
        "c,Test,old,",
    ]
    with pytest.raises(CorpusError, match=r"\(line 9: 'old'\)"):
        read_corpus(text_table(tmp_path, *lines, end=end))
    # One row with a cell too many: the whole table is then read in another way.
    lines[3] += ","
    with pytest.raises(CorpusError, match=r"\(line 9: 'old'\)"):
        read_corpus(text_table(tmp_path, *lines, end=end))


def test_columns_are_known_in_other_cases_and_with_spaces(tmp_path):
    text_table(tmp_path, "file id, SPLIT ,subject-id,AGE,awe,Age2", "a,Train,s,30,0.5,1")
    corpus = read_corpus(tmp_path)
    assert (
        list(corpus.labels.speaker) == ["s"]
        and corpus.labels.age[0] == 30
        and corpus.labels.emotion[0, 0] == 0.5
    )
    assert corpus.notices == ("unknown columns of data_info.csv are ignored: 'Age2'",)
    # One that is spelt right is the one that is meant.
    text_table(tmp_path, "File_ID,Split,age,Age", "a,Train,1,30")
    assert read_corpus(tmp_path).labels.age[0] == 30
    text_table(tmp_path, "File_ID,Split,age,AGE", "a,Train,1,30")
    with pytest.raises(CorpusError, match="names a column twice: Age"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    ("value", "age"), [("34.5", 34.5), ("\uff13\uff14", 34), ("3.45e1", 34.5), (" 34 ", 34), ("+34", 34)]
)
def test_a_number_is_read_in_any_spelling_of_one(write, value, age):
    assert read_corpus(write(change(0, Age=value))).labels.age[0] == age


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("34,5", "Age must be a number or empty, with a decimal point instead of a comma (line 2: '34,5')"),
        ("3_4", "Age must be a number or empty (line 2: '3_4')"),
        ("TRUE", "Age must be a number or empty (line 2: 'TRUE')"),
        ("#REF!", "Age must be a number or empty (line 2: '#REF!')"),
        ("-inf", "Age must be a number or empty (line 2: '-inf')"),
    ],
)
def test_what_is_no_number_is_refused(write, value, words):
    with pytest.raises(CorpusError) as error:
        read_corpus(write(change(0, Age=value)))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"sep=,\nFile_ID,Split\nx,Train\n",
            r"line 1 sets the separator for Excel \(sep=\); remove it",
        ),
        ("File_ID,Split\nx,Train\n".encode("utf-16-le"), "line 1 is not UTF-8"),
        ("File_ID\tSplit\nx\tTrain\n".encode("utf-16"), "line 1 is not UTF-8"),
        (b"File_ID,Split,Subject_ID\nx,Train,\ny,Train,M\xfcller\n", r"line 3 is not UTF-8 \(b',Train,M"),
        (b"File_ID,Split,Subject_ID\rx,Train,\ry,Train,M\xfcller\r", "line 3 is not UTF-8"),
        (b"File_ID,Split,Subject_ID\nx,Train,,\ny,Train,M\xfcller,\n", "line 3 is not UTF-8"),
    ],
)
def test_what_other_programs_save_is_refused_with_what_to_do(tmp_path, data, words):
    (tmp_path / "data_info.csv").write_bytes(data)
    with pytest.raises(CorpusError, match=words):
        read_corpus(tmp_path)


@pytest.mark.parametrize(("written", "meant"), [("4", "00004"), ("00004.webm", "00004"), ("4.0", "00004")])
def test_a_test_label_whose_id_lost_its_zeros_is_refused_and_not_left_out(write, written, meant):
    root = write([*with_emotions(ROWS), {"File_ID": "10000", "Split": "Test"}])
    rows = [{"File_ID": "10000", "Split": "Test"}, {"File_ID": written, "Split": "Test"}]
    write(rows, name="test_labels.csv")
    with pytest.raises(CorpusError) as error:
        read_test_labels(read_corpus(root))
    assert f"File_ID must be as in data_info.csv (line 3: {written!r}, meant {meant!r}?)" in str(error.value)


def test_a_row_that_is_longer_than_a_block_of_the_reader_is_read(write):
    rows = [{**row, "note": "word " * 400_000} for row in with_emotions(ROWS)]
    with pytest.raises(CorpusError, match="line 2 cannot be read as comma-separated text: field larger than"):
        read_corpus(write(rows))
    rows = [{**row, **{f"note {n}": "word " * 20_000 for n in range(30)}} for row in with_emotions(ROWS)]
    assert len(read_corpus(write(rows)).labels) == 4


@pytest.mark.parametrize(
    "options", [{}, {"na_rep": "NA"}, {"na_rep": "nan"}, {"index": False}, {"quoting": csv.QUOTE_ALL}]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_what_pandas_writes_is_read_as_it_was(tmp_path, options, encoding):
    """Of whole numbers some of which are missing, pandas makes 12.0 and 2.0."""
    frame = pandas.DataFrame(
        {
            "File_ID": ["josé_1", "b", "c", "d"],
            "Split": ["Train", "Train", "Val", "Test"],
            "Subject_ID": [12, 12, 13, None],
            "Country": [2, None, 0, None],
            "Country_string": ["Peru", None, "Chile", None],
            "Age": [30, 31.5, None, None],
            "note": ["a, b", 'two\nlines "quoted"', None, ""],
        }
    )
    frame.to_csv(tmp_path / "data_info.csv", encoding=encoding, **options)
    labels = read_corpus(tmp_path).labels
    assert list(labels.clip_id) == list(frame["File_ID"]) and list(labels.speaker) == ["12", "12", "13", ""]
    assert labels.countries == (Country(0, "Chile"), Country(2, "Peru")) and list(labels.country) == [
        1,
        -1,
        0,
        -1,
    ]
    np.testing.assert_array_equal(labels.age, frame["Age"])
