import os
import unicodedata

import pytest

from exvo.corpus.errors import CorpusError
from exvo.corpus.shards import (
    Recordings,
    clips_digest,
    has_file,
    scan_files,
    shard_clips,
    stable_hash,
)

IDS = [f"{n:05d}" for n in range(1000)]


def test_the_hash_is_the_same_for_ever():
    # BLAKE2b-64 of "00012", read as a big-endian number; a change would move every clip to another shard.
    assert stable_hash("00012") == 10733915469447134066


def test_every_clip_is_in_one_shard_and_shards_are_even():
    shards = shard_clips(IDS, 8)
    assert sorted(clip_id for ids in shards.values() for clip_id in ids) == IDS
    assert all(ids == sorted(ids) for ids in shards.values())
    assert list(shards) == [f"{n:04d}" for n in range(8)]
    assert max(map(len, shards.values())) < 1.4 * 1000 / 8


def test_a_new_clip_moves_no_other():
    before, after = shard_clips(IDS, 8), shard_clips([*IDS, "new"], 8)
    changed = [name for name in before if before[name] != after[name]]
    assert len(changed) == 1 and set(after[changed[0]]) - set(before[changed[0]]) == {"new"}


def test_shards_without_clips_are_left_out():
    assert len(shard_clips(["a"], 100)) == 1
    with pytest.raises(ValueError, match="at least 1"):
        shard_clips(["a"], 0)


def test_files_are_found_by_the_name_before_the_last_ending(tmp_path):
    for name in ("00001.webm", "00002.x.wav", "00002.x.mp3", "-i.webm", "no ending"):
        (tmp_path / name).write_bytes(b"12")
    files = scan_files(tmp_path)
    assert set(files.by_id) == {"00001", "00002.x", "-i", "no ending"}
    assert files.by_id["00002.x"].name == "00002.x.mp3" and files.several == {"00002.x"}
    assert files.by_id["00001"].size == 2
    assert scan_files(tmp_path / "nowhere") == Recordings()


@pytest.mark.parametrize("listed", [("a.mp3", "a.wav", "a.webm"), ("a.webm", "a.wav", "a.mp3")])
def test_of_several_files_the_first_by_name_counts_however_they_are_listed(tmp_path, monkeypatch, listed):
    for name in listed:
        (tmp_path / name).touch()
    monkeypatch.setattr(os, "listdir", lambda folder: list(listed))
    assert scan_files(tmp_path).by_id["a"].name == "a.mp3"


def test_names_are_composed_and_the_file_keeps_its_own(tmp_path):
    composed = "jos\u00e9"
    decomposed = unicodedata.normalize("NFD", composed)
    (tmp_path / f"{decomposed}.wav").write_bytes(b"12")
    files = scan_files(tmp_path)
    assert list(files.by_id) == [composed] and not files.several
    assert (tmp_path / files.by_id[composed].name).read_bytes() == b"12"
    assert has_file(tmp_path, [composed])
    (tmp_path / f"{composed}.wav").write_bytes(b"123")
    assert scan_files(tmp_path).several == {composed}


@pytest.mark.parametrize(
    "name",
    [
        *("a.json", "a.TextGrid", "a.TEXTGRID", "a.lab", "a.srt", "a.eaf", "a.csv", "a.txt", "a.xml", "a.md"),
        *("a.pkf", "._a.webm", ".DS_Store", "Thumbs.db", "desktop.ini"),
    ],
)
@pytest.mark.parametrize("listed_first", [True, False])
def test_what_stands_beside_recordings_is_not_taken_for_one(tmp_path, monkeypatch, name, listed_first):
    for file in (name, "a.webm"):
        (tmp_path / file).touch()
    monkeypatch.setattr(os, "listdir", lambda folder: sorted([name, "a.webm"], reverse=listed_first))
    files = scan_files(tmp_path)
    assert {clip_id: file.name for clip_id, file in files.by_id.items()} == {"a": "a.webm"}
    assert not files.several and list(files.ignored) == [name]
    (tmp_path / "a.webm").unlink()
    assert not has_file(tmp_path, ["a", "._a", ".DS_Store", "Thumbs", "desktop"])


@pytest.mark.parametrize(
    "name", ["a.WEBM", "a.Wav", "a.m4a", "a.opus", "a.3gp", "a.mp4", "a.caf", "a.amr", "a"]
)
def test_recordings_have_any_other_ending_or_none(tmp_path, name):
    (tmp_path / name).touch()
    assert scan_files(tmp_path).by_id["a"].name == name and has_file(tmp_path, ["a"])


@pytest.mark.parametrize("name", ["md", "txt", "CON", "nul", "a.json.wav"])
def test_a_recording_may_be_called_like_an_ending_or_as_windows_may_not(tmp_path, name):
    (tmp_path / name).touch()
    assert list(scan_files(tmp_path).by_id) == [name.removesuffix(".wav")]


def test_a_folder_is_a_clips_file_only_where_it_has_no_other(tmp_path):
    (tmp_path / "a").mkdir()
    assert scan_files(tmp_path).by_id["a"].name == "a"
    (tmp_path / "a.webm").touch()
    files = scan_files(tmp_path)
    assert files.by_id["a"].name == "a.webm" and not files.several


def test_a_dangling_link_is_a_file_by_name(tmp_path):
    (tmp_path / "00001.webm").symlink_to(tmp_path / "gone")
    assert "00001" in scan_files(tmp_path).by_id


def test_the_digest_changes_with_name_size_time_and_clips(tmp_path):
    path = tmp_path / "a.webm"
    path.write_bytes(b"12")
    os.utime(path, ns=(1, 1))

    def digest(ids=("a",)):
        return clips_digest(ids, [scan_files(tmp_path).by_id.get(clip_id) for clip_id in ids])

    first = digest()
    assert digest() == first and digest(("a", "b")) != first
    os.utime(path, ns=(2, 2))
    second = digest()
    path.write_bytes(b"123")
    os.utime(path, ns=(2, 2))
    third = digest()
    path.rename(tmp_path / "a.ogg")
    assert len({first, second, third, digest()}) == 4
    (tmp_path / "other.webm").write_bytes(b"")
    files = scan_files(tmp_path).by_id
    assert digest() == clips_digest(["a"], [files["a"]])
    assert [files.get(clip_id) for clip_id in ("b", "a")] == [None, files["a"]]


def test_one_file_of_a_clip_is_enough_to_have_recordings(tmp_path):
    folder = tmp_path / "raw"
    assert not has_file(folder, ["a"])
    folder.mkdir()
    for name in ("b.wav", "a.b.wav", ".a", "notes"):
        (folder / name).touch()
    assert not has_file(folder, ["a"]) and not has_file(folder, [])
    assert [has_file(folder, [clip_id]) for clip_id in scan_files(folder).by_id] == [True] * 4
    assert has_file(folder, ["a", "b"])


def test_a_folder_of_recordings_may_be_a_link_within_the_corpus_only(tmp_path):
    corpus = tmp_path / "corpus"
    for folder in (corpus / "store", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        (folder / "a.wav").touch()
    (corpus / "raw").symlink_to("store")
    (corpus / "wav").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to("corpus")
    for root in (corpus, tmp_path / "link"):
        assert list(scan_files(root / "raw").by_id) == ["a"] and has_file(root / "raw", ["a"])
        for look in (scan_files, lambda folder: has_file(folder, ["a"])):
            with pytest.raises(
                CorpusError, match=r"wav: a link that points outside the corpus, to .*elsewhere\. Move"
            ):
                look(root / "wav")
