import shlex
import stat

import pytest

from exvo.audio import program
from exvo.audio.decode import ConvertConfig
from exvo.audio.program import ffmpeg_binary
from exvo.corpus.errors import CorpusError
from exvo.util.bundled_ffmpeg import FfmpegError, bundled_ffmpeg

VERSION = "ffmpeg version {} Copyright (c) 2000-2026 the FFmpeg developers"


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def printing(path, version, decoders):
    """A program that can say what it is and decode nothing."""
    answers = f'*-version) echo "{VERSION.format(version)}";;\n*-decoders) echo "{decoders}";;\n*) exit 1;;'
    return script(path, f'case "$*" in\n{answers}\nesac')


def test_the_bundled_program_is_the_packages_whatever_the_environment_says(tmp_path, monkeypatch):
    for variable in ("IMAGEIO_FFMPEG_EXE", "PATH"):
        monkeypatch.setenv(variable, script(tmp_path / "ffmpeg", "touch called; exit 1"))
    assert (
        ffmpeg_binary("bundled") == bundled_ffmpeg() and "imageio_ffmpeg/binaries/ffmpeg-" in bundled_ffmpeg()
    )
    assert not (tmp_path / "called").exists()


def test_the_systems_program_and_a_path_are_taken_if_they_decode(tmp_path, monkeypatch):
    another = script(tmp_path / "ffmpeg", f'exec {shlex.quote(bundled_ffmpeg())} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert ffmpeg_binary("system") == "ffmpeg" and ffmpeg_binary(another) == another


@pytest.mark.parametrize(
    ("version", "decoders", "words"),
    [
        ("4.2.2-static", "", "ffmpeg 4.2.2-static is too old; .* at least 6.0"),
        ("n5.1.6-0+deb12u1", "", "ffmpeg n5.1.6-0.deb12u1 is too old; .* at least 6.0"),
        ("6.1.1", " A....D opus   Opus", "built without libopus"),
        (
            "6.1.1",
            " A....D opus   Opus\n A....D libopus    libopus Opus",
            "decodes a sample wrongly",
        ),
        ("N-109542-g1bf1beb", " A....D opus   Opus", "built without libopus"),
    ],
)
def test_a_program_that_cannot_be_used_is_reported_with_what_to_do(tmp_path, version, decoders, words):
    binary = printing(tmp_path / "ffmpeg", version, decoders)
    with pytest.raises(FfmpegError, match=words) as error:
        ffmpeg_binary(binary)
    assert str(error.value).startswith(f"{binary}: ") and "no recording was decoded" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exit 0", "not an ffmpeg that runs on this machine"),
        ("kill -9 $$", "not an ffmpeg that runs on this machine"),
    ],
)
def test_what_is_no_ffmpeg_is_reported(tmp_path, text, words):
    with pytest.raises(FfmpegError, match=words):
        ffmpeg_binary(script(tmp_path / "ffmpeg", text))


def test_a_program_that_decodes_wrongly_is_reported(tmp_path):
    # As one that takes the native decoder of a damaged build: here, half as loud.
    lines = f'exec {shlex.quote(bundled_ffmpeg())} $(echo "$@" | sed "s/,atrim=/,volume=0.5,atrim=/")'
    with pytest.raises(FfmpegError, match="the samples differ"):
        ffmpeg_binary(script(tmp_path / "ffmpeg", lines))


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"timeout_s": 0.001}, "audio.convert.timeout_s"), ({"memory_mb": 60}, "audio.convert.memory_mb")],
)
def test_limits_under_which_nothing_can_be_decoded_are_reported(limits, words):
    with pytest.raises(FfmpegError, match=words):
        ffmpeg_binary("bundled", ConvertConfig(**limits))


def test_the_path_of_a_program_is_filled_in_as_a_shell_would(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    ours = script(tmp_path / "an ffmpeg {of ours}", f'exec {shlex.quote(bundled_ffmpeg())} "$@"')
    assert ffmpeg_binary("~/an ffmpeg {of ours}") == ours
    with pytest.raises(CorpusError, match=r"audio\.convert\.ffmpeg: \$NOT_SET_HERE in .* is not set"):
        ffmpeg_binary("$NOT_SET_HERE/ffmpeg")


def test_a_program_is_tried_once(tmp_path):
    binary = script(
        tmp_path / "ffmpeg", f'echo x >> {tmp_path}/calls; exec {shlex.quote(bundled_ffmpeg())} "$@"'
    )
    for _ in range(3):
        ffmpeg_binary(binary)
    assert (tmp_path / "calls").read_text() == "x\n"


def test_a_package_without_a_program_is_reported(tmp_path, monkeypatch):
    (tmp_path / "binaries").mkdir()
    monkeypatch.setattr("exvo.util.bundled_ffmpeg.files", lambda _: tmp_path)
    program._try.cache_clear()
    with pytest.raises(FfmpegError, match="`system`"):
        ffmpeg_binary("bundled")
