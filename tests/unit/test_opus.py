"""Opus as phones and browsers make it, against libsndfile, which decodes with the codec's own library."""

import subprocess

import numpy as np
import pytest
import soundfile

from exvo.audio import store
from exvo.audio.convert import convert_clip, convert_clips
from exvo.audio.decode import ConvertConfig
from exvo.audio.formats import opus_input_rate, seems_opus
from exvo.util.bundled_ffmpeg import bundled_ffmpeg

BINARY = bundled_ffmpeg()
FRAME = 320
# What makes SILK's special frames: pauses that are not sent, error correction, narrow bands; and the usual kinds.
KINDS = {
    "dtx": (16_000, "-b:a 16k -application voip -dtx 1"),
    "dtx, long frames": (16_000, "-b:a 16k -application voip -dtx 1 -frame_duration 60"),
    "fec": (48_000, "-b:a 24k -application voip -fec 1 -packet_loss 10 -frame_duration 20"),
    "fec, long frames": (48_000, "-b:a 24k -application voip -fec 1 -packet_loss 10 -frame_duration 60"),
    "fec, longest frames": (48_000, "-b:a 24k -application voip -fec 1 -packet_loss 10 -frame_duration 120"),
    "narrow band": (8_000, "-b:a 8k -application voip"),
    "medium band": (12_000, "-b:a 12k -application voip"),
    "hybrid": (48_000, "-b:a 28k -application voip"),
    "celt": (48_000, "-b:a 64k -application audio"),
    "celt, short frames": (48_000, "-b:a 96k -application lowdelay -frame_duration 5"),
}


def voice(rate, seconds=6, seed=1):
    """Harmonics on a moving pitch, in bursts of half a second between silences."""
    random, n = np.random.default_rng(seed), rate * seconds
    steps = np.cumsum(random.normal(0, 0.01, n // (rate // 100) + 1)).repeat(rate // 100)[:n] / 2
    phase = np.cumsum(2 * np.pi * 120 * 2**steps / rate)
    sound = sum(np.sin(h * phase) / h for h in range(1, 25)) * 0.2
    gate = np.repeat(random.choice([0, 1.0, 0.3], 2 * seconds), rate // 2)
    return np.clip(
        sound * np.convolve(gate, np.ones(400) / 400, "same") + random.normal(0, 1e-5, n), -0.98, 0.98
    )


def encode(folder, rate, options, name="a.ogg", sound=None):
    sound = voice(rate) if sound is None else sound
    soundfile.write(folder / "source.wav", sound, rate)
    command = [BINARY, "-y", "-v", "error", "-i", folder / "source.wav", "-c:a", "libopus", *options.split()]
    subprocess.run([*command, folder / name], check=True)


def convert(folder, name="a.ogg"):
    return convert_clip("a", folder=folder, files={"a": name}, config=ConvertConfig(), binary=BINARY)


def resampled(path):
    """What libsndfile decodes, at 16 kHz, by the same resampler."""
    sound, rate = soundfile.read(path, dtype="float32")
    command = [BINARY, "-v", "error", "-f", "f32le", "-ar", str(rate), "-ac", "1", "-i", "-", "-ar", "16000"]
    done = subprocess.run(
        [*command, "-f", "f32le", "-"], input=sound.tobytes(), capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, "<f4")


def levels(sound):
    whole = len(sound) // FRAME * FRAME
    return 10 * np.log10(np.mean(sound[:whole].astype(float).reshape(-1, FRAME) ** 2, axis=1) + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_has_the_level_that_libsndfile_finds(tmp_path, kind):
    rate, options = KINDS[kind]
    encode(tmp_path, rate, options)
    clip, expected = convert(tmp_path), resampled(tmp_path / "a.ogg")
    assert (clip.status, clip.reason, clip.measures["codec"]) == (store.OK, "", "opus")
    assert abs(len(clip.audio) - len(expected)) <= 2
    found, wanted = levels(clip.audio * 10 ** (-clip.measures["gain_db"] / 20)), levels(expected)
    n = min(len(found), len(wanted))
    loud = np.maximum(found[:n], wanted[:n]) > -50
    assert loud.sum() > 50
    assert np.abs(found[:n] - wanted[:n])[loud].max() < 3


@pytest.mark.parametrize("ending", ["webm", "mkv", "mp4", "mka", "nut", "ts"])
def test_the_container_does_not_matter(tmp_path, ending):
    rate, options = KINDS["fec, long frames"]
    encode(tmp_path, rate, options)
    copy = ["-c", "copy", tmp_path / f"a.{ending}"]
    subprocess.run([BINARY, "-v", "error", "-i", tmp_path / "a.ogg", *copy], check=True)
    clip, expected = convert(tmp_path, f"a.{ending}"), convert(tmp_path).audio
    assert (clip.status, clip.measures["codec"]) == (store.OK, "opus")
    # Of some containers a few samples at the beginning or end are not left out.
    n = min(len(clip.audio), len(expected)) - 800
    most = max(
        range(-250, 251), key=lambda lag: float(np.dot(clip.audio[400 + lag : n + lag], expected[400:n]))
    )
    difference = clip.audio[4000 + most : n + most] - expected[4000:n]
    assert np.abs(difference).max() < 0.02


def test_opus_that_is_not_the_first_stream_or_not_at_the_begin_is_decoded_rightly(tmp_path):
    rate, options = KINDS["fec, long frames"]
    encode(tmp_path, rate, options)
    expected = convert(tmp_path).audio
    sources = ["-i", tmp_path / "a.ogg", "-i", tmp_path / "source.wav"]
    # Another codec comes first: the guess by the file's first bytes is wrong for it.
    streams = ["-map", "1", "-map", "0", "-c:a:0", "aac", "-c:a:1", "copy"]
    subprocess.run([BINARY, "-v", "error", *sources, *streams, tmp_path / "two.mkv"], check=True)
    clip = convert(tmp_path, "two.mkv")
    assert (clip.status, clip.measures["codec"]) == (store.OK, "aac")
    source = resampled(tmp_path / "source.wav")
    assert np.corrcoef(clip.audio[: len(source)], source[: len(clip.audio)])[0, 1] > 0.9
    # Beside others in a process.
    files = {"a": "a.ogg", "two": "two.mkv"}
    clips = convert_clips(list(files), folder=tmp_path, files=files, config=ConvertConfig(), binary=BINARY)
    np.testing.assert_array_equal(clips[0].audio, expected)
    np.testing.assert_array_equal(clips[1].audio, clip.audio)


@pytest.mark.parametrize("rate", [8_000, 12_000, 24_000, 48_000])
@pytest.mark.parametrize("ending", ["ogg", "webm", "mp4"])
def test_a_header_gives_opus_and_the_rate_of_what_was_encoded(tmp_path, rate, ending):
    encode(tmp_path, rate, "-movflags +faststart" if ending == "mp4" else "", f"a.{ending}", voice(rate, 1))
    head = (tmp_path / f"a.{ending}").read_bytes()
    assert seems_opus(head) and opus_input_rate(head) == rate


@pytest.mark.parametrize(
    "head", [b"", b"OggS", b"RIFF....OpusHead", b"\x1a\x45\xdf\xa3 A_OPUS", b"....ftypOpusHead"]
)
def test_other_files_do_not_seem_to_be_opus(head):
    assert not seems_opus(head)
