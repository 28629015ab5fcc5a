import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from exvo.audio.check import check_corpus
from exvo.cli import app


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "data_info.csv").write_text(
        "File_ID,Split,Subject_ID,Country,Country_string,Age,Awe\n"
        "[1],Train,a,2,Peru,30,1\n[2],Train,a,2,Peru,31,0.5\n[3],Val,b,,,,\n[4],Test,,,,,\n"
    )
    (tmp_path / "raw").mkdir()
    for name, rate, seconds in (
        ("1.wav", 16000, 1.0),
        ("2.wav", 44100, 2.0),
        ("3.wav", 16000, 3.0),
        ("4.wav", 8000, 2.0),
    ):
        tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(round(rate * seconds)) / rate)
        soundfile.write(tmp_path / "raw" / name, tone, rate)
    return tmp_path


def run(corpus):
    result = CliRunner().invoke(app, ["check", str(corpus)])
    return result.exit_code, result.output


def test_a_good_corpus_is_described(corpus):
    code, text = run(corpus)
    assert code == 0 and "No problems were found" in text
    assert "4 clips, 2 named speakers" in text and "countries: 2 Peru" in text
    assert "codecs: pcm_s16le (4)" in text and "44100 (1)" in text and "16000 (2)" in text
    assert "mean 2.00, from 1.00 to 3.00" in text
    lines = {
        line.split()[0]: line.split()[1:]
        for line in text.splitlines()
        if line.startswith(("Train", "Val", "Test"))
    }
    assert lines["Train"] == ["2", "1", "2", "2", "2"] and lines["Test"] == ["1", "0", "0", "0", "0"]
    assert "no label in Train and Val: Excitement" in text


def test_what_is_wrong_is_named_and_ends_with_code_1(corpus):
    (corpus / "raw/4.wav").unlink()
    (corpus / "raw/3.wav").write_text("no recording")
    (corpus / "raw/9.wav").write_bytes(b"")
    (corpus / "raw/1.mp3").write_bytes(b"")
    code, text = run(corpus)
    assert code == 1
    assert "raw/ has no recording of 4" in text
    assert "files without a row in data_info.csv: 9" in text
    assert "more than one file for 1: the first by name is read (1.mp3)" in text
    assert "unreadable: raw/3.wav" in text


def test_a_table_that_cannot_be_read_says_why(corpus):
    (corpus / "data_info.csv").write_text("File_ID;Split\n1;Train\n")
    code, text = run(corpus)
    assert code == 1 and "semicolons" in text and "Traceback" not in text


def test_a_sample_is_the_same_at_every_call(corpus):
    first, _ = check_corpus(corpus, n_sample=2)
    second, _ = check_corpus(corpus, n_sample=2)
    assert first == second and any("2 of them decoded" in line for line in first)


@pytest.mark.parametrize("emptied", [True, False])
def test_a_corpus_without_recordings_is_wrong(corpus, emptied):
    for path in (corpus / "raw").iterdir():
        path.unlink()
    if not emptied:
        (corpus / "raw").rmdir()
    code, text = run(corpus)
    assert code == 1 and "no recordings in raw/ or wav/" in text
