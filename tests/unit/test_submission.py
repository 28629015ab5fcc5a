"""The submission file, and every way to get it wrong that we know of."""

from pathlib import Path

import numpy as np
import pytest

from exvo.corpus.labels import Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.check_submission import check_submission
from exvo.evaluation.metrics import score
from exvo.evaluation.predictions import Predictions
from exvo.evaluation.submission import read_submission, write_submission

HEADER = (
    "File_ID,Country,Age,Awe,Excitement,Amusement,Awkwardness,Fear,Horror,Distress,Triumph,Sadness,Surprise"
)


COUNTRIES = (Country(0, "China"), Country(3, "Venezuela"))


def make_corpus(countries=COUNTRIES):
    n = 6
    return Corpus(
        root=Path("corpus"),
        file_ids=np.array(["[00007]", "[00001]", "[00012]", "plain", "[00004]", "[00005]"], dtype=object),
        labels=Labels(
            clip_id=np.array(["00007", "00001", "00012", "plain", "00004", "00005"], dtype=object),
            split=np.array(["Test", "Train", "Test", "Test", "Val", "Train"]),
            speaker=np.array([f"s{i}" for i in range(n)]),
            age=np.array([np.nan, 20, np.nan, np.nan, 30, 39]),
            country=np.array([-1, 0, -1, -1, 1, 1] if countries else [-1] * n),
            emotion=np.where(np.arange(n)[:, None] % 2 == 1, 0.5, np.full((n, 10), np.nan)),
            countries=tuple(countries),
        ),
    )


@pytest.fixture
def corpus():
    return make_corpus()


@pytest.fixture
def predictions():
    emotion = np.tile(np.linspace(0, 0.9, 10), (3, 1))
    emotion[0, 0], emotion[0, 1], emotion[0, 2] = -0.01, 1.2, 1e-9
    return Predictions(
        clip_id=np.array(["plain", "00007", "00012"]),
        age=np.array([25.0, 31.23456, 22.5]),
        country=np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]),
        emotion=emotion,
        country_codes=(0, 3),
    )


EXPECTED = (
    HEADER
    + "\n[00007],0,31.2346,"
    + ",".join(f"0.{i}00000" for i in range(10))
    + "\n[00012],0,22.5000,"
    + ",".join(f"0.{i}00000" for i in range(10))
    + "\nplain,3,25.0000,0.000000,1.000000,0.000000,"
    + ",".join(f"0.{i}00000" for i in range(3, 10))
    + "\n"
)


def test_submission_is_byte_for_byte_the_format_of_the_challenge(tmp_path, corpus, predictions):
    path = tmp_path / "test_preds.csv"
    write_submission(path, predictions, corpus)
    assert path.read_bytes() == EXPECTED.encode()
    assert [p.name for p in tmp_path.iterdir()] == ["test_preds.csv"]
    findings = check_submission(path, corpus)
    assert (findings.problems, findings.notes) == ([], [])


def test_submission_comes_back_ready_for_scoring(tmp_path, corpus, predictions):
    write_submission(tmp_path / "s.csv", predictions, corpus)
    back = read_submission(tmp_path / "s.csv", corpus)
    assert back.clip_id.tolist() == ["00007", "00012", "plain"]
    np.testing.assert_array_equal(back.country, [[1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(back.age, [31.2346, 22.5, 25])
    test = corpus.labels.take(corpus.labels.split == "Test")
    truth = Labels(
        test.clip_id,
        test.split,
        test.speaker,
        back.age + 2,
        np.array([0, 1, 1]),
        back.emotion,
        test.countries,
    )
    scores = score(truth, back)
    assert scores.mae == pytest.approx(2)
    assert scores.uar == pytest.approx(0.75)
    assert scores.n_country == 3


def test_rows_in_another_order_are_read_by_their_id(tmp_path, corpus):
    lines = EXPECTED.splitlines()
    (tmp_path / "s.csv").write_text("\n".join([lines[0], lines[3], lines[1], lines[2]]) + "\n")
    findings = check_submission(tmp_path / "s.csv", corpus)
    assert findings.problems == []
    assert "order" in findings.notes[0]
    assert read_submission(tmp_path / "s.csv", corpus).age.tolist() == [31.2346, 22.5, 25]


def test_a_test_clip_without_a_prediction_is_an_error(tmp_path, corpus, predictions):
    short = Predictions(
        *(a[:2] for a in (predictions.clip_id, predictions.age, predictions.country, predictions.emotion)),
        (0, 3),
    )
    with pytest.raises(ValueError, match="1 of 3 clips have none: 00012"):
        write_submission(tmp_path / "s.csv", short, corpus)
    assert list(tmp_path.iterdir()) == []


def test_countries_of_another_corpus_are_an_error(tmp_path, corpus, predictions):
    other = Predictions(
        predictions.clip_id, predictions.age, predictions.country, predictions.emotion, (0, 1)
    )
    with pytest.raises(ValueError, match="countries"):
        write_submission(tmp_path / "s.csv", other, corpus)


def test_a_corpus_without_countries_leaves_the_column_empty_and_the_check_says_so(tmp_path, predictions):
    corpus = make_corpus(countries=())
    none = Predictions(predictions.clip_id, predictions.age, np.empty((3, 0)), predictions.emotion, ())
    write_submission(tmp_path / "s.csv", none, corpus)
    assert "[00007],,31.2346," in (tmp_path / "s.csv").read_text()
    findings = check_submission(tmp_path / "s.csv", corpus)
    assert findings.problems == []
    assert findings.notes == ["Country is empty in every row: the corpus has no labels of it"]
    assert read_submission(tmp_path / "s.csv", corpus).country.shape == (3, 0)


def test_a_task_nobody_predicted_is_a_problem_where_the_corpus_has_its_labels(tmp_path, corpus, predictions):
    no_age = Predictions(
        predictions.clip_id, np.full(3, np.nan), predictions.country, predictions.emotion, (0, 3)
    )
    write_submission(tmp_path / "s.csv", no_age, corpus)
    assert check_submission(tmp_path / "s.csv", corpus).problems == [
        "Age is empty in every row; predict it, or name its system in the fusion"
    ]
    assert np.isnan(read_submission(tmp_path / "s.csv", corpus).age).all()


ROW = EXPECTED.splitlines()[1]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[00012],0", "[00012],7", "line 3 (7): Country is not a code of this corpus (0 China, 3 Venezuela)"),
        ("[00012],0", "[00012],Venezuela", "its code is 3"),
        ("[00012],0", "[00012],0.0", "line 3 ('0.0'): Country must be an integer code"),
        ("[00012],0", "[00012],", "line 3 ([00012]): Country is empty"),
        ("[00012],0", "[00012],-1", "integer code"),
        ("22.5000", "nan", "line 3 (nan): Age must be a finite number"),
        ("22.5000", "-inf", "Age must be a finite number"),
        ("22.5000", '"22,5"', "Age must be a number (decimal point, not comma)"),
        ("22.5000", "old", "line 3 ('old'): Age must be a number"),
        ("22.5000", "1_000", "Age must be a number"),
        ("22.5000", "٢٢", "Age must be a number"),
        ("22.5000", "-4", "Age must be in years"),
        ("22.5000,0.000000", "22.5000,1.5", "line 3 (1.5): Awe must lie in [0, 1]"),
        ("22.5000,0.000000", "22.5000,-0.1", "Awe must lie in [0, 1]"),
        ("22.5000,0.000000", "22.5000,", "line 3 ([00012]): Awe is empty"),
        ("[00012]", "00012", "meant '[00012]'?"),
        ("[00012]", "12", "meant '[00012]'?"),
        ("[00012]", "[99999]", "line 3 ('[99999]'): File_ID is not in data_info.csv"),
        ("[00012]", "[99999]", "1 Test clips have no row: [00012]"),
        ("[00012]", "[00004]", "[00004] is Val"),
        ("[00012]", "[00007]", "line 3 ('[00007]'): a File_ID is repeated"),
        (ROW + "\n", "", "2 rows, but the corpus has 3 Test clips"),
        (ROW + "\n", "", "1 Test clips have no row: [00007]"),
        (ROW, ROW + ",1", "line 2 (14 cells): a row must have as many cells as the header, 13"),
        (ROW, ROW + "\n", "line 3 (empty): remove the empty lines"),
        ("Country,Age", "Age,Country", "line 1: the columns are in another order"),
        ("Awe,", "awe,", "line 1: these columns are missing: Awe"),
        ("Awe,", "awe,", "line 1: these columns are not part of the format: 'awe'"),
        ("Awe,", "Age,", "line 1: these columns are repeated: Age"),
        (",", ";", "columns are separated by semicolons"),
        (",", "\t", "columns are separated by tabs"),
        ("File_ID", "\ufeffFile_ID", "byte order mark"),
    ],
)
def test_what_is_wrong_is_reported_with_its_line(tmp_path, corpus, old, new, told):
    assert old in EXPECTED
    path = tmp_path / "s.csv"
    path.write_text(EXPECTED.replace(old, new), encoding="utf-8")
    problems = check_submission(path, corpus).problems
    assert any(told in problem for problem in problems), problems


def test_a_byte_order_mark_hides_nothing_else(tmp_path, corpus):
    (tmp_path / "s.csv").write_text("\ufeff" + EXPECTED.replace("22.5000", "old"), encoding="utf-8")
    assert len(check_submission(tmp_path / "s.csv", corpus).problems) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (EXPECTED.encode("utf-16"), "UTF-16"),
        (EXPECTED.replace("plain", "pl\xe4in").encode("latin-1"), "line 4: not UTF-8"),
        (EXPECTED.encode() + b"\0" * 10, "line 5"),
        (b"PK\x03\x04 not a table at all", "line 1"),
    ],
)
def test_files_that_are_no_table_are_reported_and_not_crashed_on(tmp_path, corpus, content, told):
    (tmp_path / "s.csv").write_bytes(content)
    assert told in check_submission(tmp_path / "s.csv", corpus).problems[0]


def test_a_file_that_is_not_there_is_reported(tmp_path, corpus):
    assert "check the path" in check_submission(tmp_path / "none.csv", corpus).problems[0]


def test_carriage_returns_are_a_note_and_many_bad_rows_are_one_problem(tmp_path, corpus):
    (tmp_path / "s.csv").write_bytes(EXPECTED.replace("\n", "\r\n").encode())
    findings = check_submission(tmp_path / "s.csv", corpus)
    assert findings.problems == []
    assert "\\r\\n" in findings.notes[0]
    rows = "".join(EXPECTED.splitlines(keepends=True)[1].replace("00007", f"x{i}") for i in range(9))
    (tmp_path / "s.csv").write_text(EXPECTED + rows)
    problems = check_submission(tmp_path / "s.csv", corpus).problems
    assert len(problems) == 2
    assert "and 6 more: File_ID is not in data_info.csv" in problems[1]


def test_reading_what_the_check_rejects_names_the_line(tmp_path, corpus):
    (tmp_path / "s.csv").write_text(EXPECTED.replace("[00012],0", "[00012],7"))
    with pytest.raises(ValueError, match=r"s\.csv, line 3"):
        read_submission(tmp_path / "s.csv", corpus)
    (tmp_path / "s.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="missing: File_ID"):
        read_submission(tmp_path / "s.csv", corpus)
