from pathlib import Path

import pytest

from exvo.corpus.errors import CorpusError
from exvo.corpus.paths import user_path


@pytest.mark.parametrize("written", ["~/bursts", "$HOME/bursts", "${HOME}/bursts", "$DATA/bursts"])
def test_home_and_variables_are_filled_in(written, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", str(tmp_path))
    assert user_path(written, "corpus.root") == tmp_path / "bursts"


@pytest.mark.parametrize("name", ["~", "$HOME", "a b's", "$HOMEx"])
def test_a_folder_that_is_called_so_is_meant(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    assert user_path(name, "corpus.root") == Path(name)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("$NOT_SET_HERE/x", r"config: corpus\.root: \$NOT_SET_HERE in .* is not set"),
        ("/data/${NOT_SET_HERE}", r"\$\{NOT_SET_HERE\} in .* is not set"),
        ("~nobody-of-this-name/x", "no such user"),
        ("/data/{lab}", "braces"),
        ("$BRACED", "braces"),
    ],
)
def test_what_cannot_be_filled_in_is_said(written, words, monkeypatch):
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    monkeypatch.setenv("BRACED", "/data/{lab}")
    with pytest.raises(CorpusError, match=words):
        user_path(written, "corpus.root")
