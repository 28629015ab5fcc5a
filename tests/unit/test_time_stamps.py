"""What is missing from a recording by its time stamps is silence, and what disagrees with them is told."""

import subprocess

import numpy as np
import pytest
import soundfile

from exvo.audio import store
from exvo.audio.convert import convert_clip
from exvo.audio.decode import ConvertConfig
from exvo.util.bundled_ffmpeg import bundled_ffmpeg

BINARY = bundled_ffmpeg()


def ffmpeg(*arguments):
    subprocess.run([BINARY, "-y", "-v", "error", *arguments], check=True)


def convert(folder, name, **config):
    config = ConvertConfig(**config)
    return convert_clip("a", folder=folder, files={"a": name}, config=config, binary=BINARY)


@pytest.fixture
def whole(tmp_path):
    """3 s of Opus in packets of 20 ms, of a pitch that tells the time."""
    t = np.arange(3 * 48_000) / 48_000
    soundfile.write(tmp_path / "source.wav", 0.3 * np.sin(2 * np.pi * (200 * t + 100 * t**2)), 48_000)
    ffmpeg("-i", tmp_path / "source.wav", "-c:a", "libopus", "-frame_duration", "20", tmp_path / "whole.webm")
    return tmp_path


def without(folder, drop, name):
    ffmpeg("-i", folder / "whole.webm", "-c", "copy", "-bsf:a", f"noise=drop='{drop}'", folder / "part.webm")
    ffmpeg("-i", folder / "part.webm", "-c", "copy", folder / name)


@pytest.mark.parametrize("ending", ["webm", "ogg", "mkv", "mp4"])
def test_missing_packets_are_silence_of_their_length(whole, ending):
    # In Ogg, stamps stand at the ends of pages: the gap is from one to the next.
    without(whole, "between(n,50,99)", f"a.{ending}")
    ffmpeg("-i", whole / "whole.webm", "-c", "copy", whole / f"b.{ending}")
    clip, expected = convert(whole, f"a.{ending}"), convert(whole, f"b.{ending}").audio
    assert (clip.status, clip.reason) == (store.OK, "")
    assert abs(len(clip.audio) - len(expected)) <= 16
    first, last, edge = 16_000, 32_000, 400
    assert np.abs(clip.audio[first + edge : last - edge]).max() < 1e-4
    np.testing.assert_allclose(clip.audio[: first - edge], expected[: first - edge], atol=1e-6)
    # The decoder takes some time to find its way again, and stamps of Matroska are rounded to 1 ms, here 16 samples.
    n = min(len(expected), len(clip.audio)) - 16
    after = expected[last + 1600 : n]
    alike = [np.corrcoef(clip.audio[last + 1600 + lag : n + lag], after)[0, 1] for lag in range(-16, 17)]
    assert max(alike) > 0.99


@pytest.mark.parametrize(
    ("drop", "n_missing"), [("between(n,50,52)", 3), ("between(n,20,24)+between(n,60,79)", 25)]
)
def test_short_gaps_and_several_are_filled(whole, drop, n_missing):
    without(whole, drop, "a.webm")
    clip, expected = convert(whole, "a.webm"), convert(whole, "whole.webm").audio
    assert clip.status == store.OK and abs(len(clip.audio) - len(expected)) <= 48
    silent = np.convolve(np.abs(clip.audio) < 1e-4, np.ones(160), "same") > 159
    assert silent.sum() / 16_000 == pytest.approx(0.02 * n_missing, abs=0.03)


def test_recordings_without_gaps_are_what_they_were_to_the_bit(whole):
    for name, options in {
        "a.ogg": ["-c:a", "libvorbis"],
        "a.mp3": [],
        "a.m4a": [],
        "a.flac": [],
        "a.mkv": [],
    }.items():
        ffmpeg("-i", whole / "source.wav", *options, whole / name)
        plain = ["-v", "error", "-i", whole / name, "-ar", "16000", "-f", "f32le", "-"]
        expected = subprocess.run([BINARY, *plain], capture_output=True, check=True).stdout
        np.testing.assert_array_equal(convert(whole, name).audio, np.frombuffer(expected, "<f4"))


def shifted(folder, shift, name):
    """Change the time stamps of the recording, in ms, by an expression of the packet's number N."""
    stamps = f"setts=ts='TS+{shift}'"
    ffmpeg("-i", folder / "whole.webm", "-c", "copy", "-bsf:a", stamps, "-f", "matroska", folder / name)


def test_jitter_moves_nothing(whole):
    # Each packet is up to 40 ms late, as of a recorder that notes when it was woken.
    shifted(whole, "20*mod(N\\,3)", "a.webm")
    clip = convert(whole, "a.webm")
    np.testing.assert_array_equal(clip.audio, convert(whole, "whole.webm").audio)
    assert clip.status == store.OK


def test_jumps_to_and_fro_do_not_add_up(whole):
    shifted(whole, "120*mod(floor(N/10)\\,2)", "a.webm")
    clip = convert(whole, "a.webm")
    assert len(clip.audio) / 16_000 == pytest.approx(3.12, abs=0.01)


def test_a_clock_that_runs_fast_is_reported_with_both_lengths_and_moves_nothing(whole):
    shifted(whole, "4*N", "a.webm")
    clip = convert(whole, "a.webm")
    assert clip.status == store.DAMAGED
    assert clip.reason == "raw/a.webm: 3.00 s of sound, but its time stamps span 3.61 s".replace(
        "raw", whole.name
    )
    np.testing.assert_array_equal(clip.audio, convert(whole, "whole.webm").audio)


def test_a_jump_longer_than_a_clip_may_be_is_no_gap_but_reported(whole):
    # As of a recorder whose first stamp is 0 and whose second is the time of day.
    shifted(whole, "70000*gte(N\\,10)", "a.webm")
    clip = convert(whole, "a.webm")
    assert len(clip.audio) == 48_000 and clip.status == store.DAMAGED
    assert "3.00 s of sound, but its time stamps span 73.0" in clip.reason


def test_a_gap_that_makes_a_clip_too_long_cuts_it(whole):
    shifted(whole, "5000*gte(N\\,50)", "a.webm")
    clip = convert(whole, "a.webm", max_seconds=6)
    assert clip.status == store.TRUNCATED and len(clip.audio) == 96_000
    assert np.abs(clip.audio[17_000:95_000]).max() < 1e-4


def test_two_recordings_in_one_file_are_reported(whole):
    data = (whole / "whole.webm").read_bytes()
    (whole / "a.webm").write_bytes(data + data)
    clip = convert(whole, "a.webm")
    assert clip.status == store.DAMAGED and len(clip.audio) / 16_000 == pytest.approx(6, abs=0.05)
    assert "two recordings in one file: 6.01 s of sound, but its time stamps span 3.00 s" in clip.reason


def test_recordings_of_two_kinds_in_one_file_are_reported_and_the_first_is_kept(whole):
    for name, channels in (("one.ogg", "1"), ("two.ogg", "2")):
        ffmpeg("-i", whole / "source.wav", "-ac", channels, "-c:a", "libvorbis", whole / name)
    (whole / "a.ogg").write_bytes((whole / "one.ogg").read_bytes() + (whole / "two.ogg").read_bytes())
    clip = convert(whole, "a.ogg")
    assert clip.status == store.DAMAGED and "two recordings in one file, of different kinds" in clip.reason
    assert len(clip.audio) / 16_000 == pytest.approx(3, abs=0.05)
