import os
import socket

import pytest

from exvo.audio.recording import HEAD_BYTES, NotOpened, open_recording
from exvo.audio.store import EMPTY, MISSING, UNREADABLE


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "corpus/raw"
    folder.mkdir(parents=True)
    return folder


def content(folder, name):
    recording = open_recording(folder, name)
    with os.fdopen(recording.handle, "rb") as file:
        return file.read()


def test_a_file_is_opened_for_reading_and_has_a_head(raw):
    (raw / "a.wav").write_bytes(b"x" * 2 * HEAD_BYTES)
    recording = open_recording(raw, "a.wav")
    try:
        assert recording.where == "raw/a.wav" and recording.head == b"x" * HEAD_BYTES
        # The head was not read away.
        assert os.read(recording.handle, 3 * HEAD_BYTES) == b"x" * 2 * HEAD_BYTES
        assert not os.get_inheritable(recording.handle)
    finally:
        os.close(recording.handle)


def test_links_within_the_corpus_are_followed(raw):
    store = raw.parent / ".git/annex"
    store.mkdir(parents=True)
    (store / "key").write_bytes(b"there")
    (raw.parent / "short").symlink_to(".git/annex")
    (raw / "a.wav").symlink_to("../short/key")
    assert content(raw, "a.wav") == b"there"


def test_a_corpus_may_be_named_by_a_link_and_relative_to_the_working_directory(raw, tmp_path, monkeypatch):
    (raw / "a.wav").write_bytes(b"there")
    (tmp_path / "link").symlink_to("corpus")
    monkeypatch.chdir(tmp_path)
    assert content(tmp_path / "link/raw", "a.wav") == content(raw.relative_to(tmp_path), "a.wav") == b"there"


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("gone", MISSING, "the file is missing"),
        ("broken", MISSING, "a link to a missing file"),
        ("empty", EMPTY, "the file is empty"),
        ("folder", UNREADABLE, "not a regular file"),
        ("pipe", UNREADABLE, "not a regular file"),
        ("socket", UNREADABLE, "not a regular file"),
        ("itself", UNREADABLE, "a link that points to itself"),
        ("outside", UNREADABLE, "a link that points outside the corpus"),
        ("../../outside.wav", UNREADABLE, "a link that points outside the corpus"),
        ("device", UNREADABLE, "a link that points outside the corpus"),
    ],
)
def test_what_is_not_a_recording_is_reported(raw, name, status, words):
    (raw.parent.parent / "outside.wav").write_bytes(b"secret")
    (raw / "broken").symlink_to("nothing")
    (raw / "empty").touch()
    (raw / "folder").mkdir()
    os.mkfifo(raw / "pipe")
    (raw / "itself").symlink_to("itself")
    (raw / "outside").symlink_to("../../outside.wav")
    (raw / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(raw)
        listener.bind("socket")
        with pytest.raises(NotOpened, match=words) as error:
            open_recording(raw, name)
    assert error.value.status == status


def test_no_file_is_left_open(raw):
    (raw / "empty").touch()
    (raw / "folder").mkdir()
    # The next number that is free.
    free = os.dup(0)
    os.close(free)
    for name in ("empty", "folder", "gone"):
        with pytest.raises(NotOpened):
            open_recording(raw, name)
    again = os.dup(0)
    os.close(again)
    assert again == free


def test_a_folder_of_recordings_that_is_a_link_within_the_corpus_is_followed(raw):
    (raw.parent / "sounds").mkdir()
    (raw.parent / "sounds/a.wav").write_bytes(b"there")
    raw.rmdir()
    raw.symlink_to("sounds")
    assert content(raw, "a.wav") == b"there"


def test_a_file_that_its_disk_does_not_give_is_unreadable_and_closed(raw, monkeypatch):
    (raw / "a.wav").write_bytes(b"there")
    handles = []

    def pread(handle, *_):
        handles.append(handle)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(NotOpened) as refused:
        open_recording(raw, "a.wav")
    assert (refused.value.status, refused.value.reason) == (
        UNREADABLE,
        "raw/a.wav: cannot be read (Input/output error)",
    )
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handles[0])
