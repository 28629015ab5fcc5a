import os
import subprocess
import wave
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from exvo.audio import decode, store
from exvo.audio.convert import CLIPS_A_PROCESS, convert_clip, convert_shard
from exvo.audio.decode import ConvertConfig
from exvo.audio.limited import run_limited

BINARY = imageio_ffmpeg.get_ffmpeg_exe()


def sine(rate, seconds=1.0, hz=440.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def ffmpeg(*arguments, data=None):
    run = subprocess.run(
        [BINARY, "-y", "-loglevel", "error", *arguments], input=data, capture_output=True, check=True
    )
    return run.stdout


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def convert(folder, name, **config):
    clip_id = name.rsplit(".", 1)[0]
    return convert_clip(
        clip_id, folder=folder, files={clip_id: name}, config=ConvertConfig(**config), binary=BINARY
    )


def amplitude(audio, hz=440.0, rate=16000):
    middle = audio[2000:-2000]
    wave = np.exp(-2j * np.pi * hz * np.arange(len(middle)) / rate)
    return 2 * abs(np.mean(middle * wave))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 192000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_any_rate_and_depth_becomes_16_khz_of_the_same_level(corpus, rate, subtype):
    soundfile.write(corpus / "a.wav", sine(rate), rate, subtype=subtype)
    clip = convert(corpus, "a.wav")
    assert clip.status == store.OK and clip.audio.dtype == np.float32
    assert abs(len(clip.audio) - 16000) <= 2
    assert amplitude(clip.audio) == pytest.approx(0.5, abs=0.005)
    assert clip.measures["source_sample_rate"] == rate and clip.measures["source_channels"] == "mono"


def test_channels_are_averaged(corpus):
    both = np.stack([sine(48000), np.zeros(48000)], axis=1)
    soundfile.write(corpus / "a.wav", both, 48000)
    clip = convert(corpus, "a.wav")
    assert amplitude(clip.audio) == pytest.approx(0.25, abs=0.003)
    assert clip.measures["source_channels"] == "stereo"


@pytest.mark.parametrize("mask", [False, True], ids=["without a mask", "with a mask"])
@pytest.mark.parametrize("n_channels", [1, 2, 3, 5, 6, 8, 9, 16, 33, 64])
def test_every_channel_has_the_same_weight(corpus, n_channels, mask):
    """A tone on one channel at a time: the first, the last and the one that may be taken for low frequencies."""
    for channel in sorted({0, n_channels - 1, min(3, n_channels - 1)}):
        samples = np.zeros((16000, n_channels))
        samples[:, channel] = sine(16000)
        if mask:
            soundfile.write(corpus / "a.wav", samples, 16000, format="WAVEX")
        else:
            with wave.open(str(corpus / "a.wav"), "wb") as file:
                file.setparams((n_channels, 2, 16000, 0, "NONE", ""))
                file.writeframes((samples * 32767).astype("<i2").tobytes())
        clip = convert(corpus, "a.wav")
        assert clip.status == store.OK and len(clip.audio) == 16000
        assert amplitude(clip.audio) == pytest.approx(0.5 / n_channels, rel=0.01)


def test_channels_that_cancel_are_reported_and_not_averaged_away(corpus):
    soundfile.write(corpus / "a.wav", np.stack([sine(48000), -sine(48000)], axis=1), 48000)
    clip = convert(corpus, "a.wav")
    assert amplitude(clip.audio) == pytest.approx(0.5, abs=0.005)
    assert clip.status == store.DAMAGED and "its 2 channels cancel in their mean, so channel 1" in clip.reason


def test_webm_without_a_duration_as_browsers_record_it(corpus):
    pcm = sine(48000, 2.0).astype("<f4").tobytes()
    # To a pipe, the muxer cannot go back to write the duration.
    source = ["-f", "f32le", "-ar", "48000", "-ac", "1", "-i", "pipe:0"]
    webm = ffmpeg(*source, "-c:a", "libopus", "-f", "webm", "pipe:1", data=pcm)
    (corpus / "a.webm").write_bytes(webm)
    log = subprocess.run(
        [BINARY, "-i", corpus / "a.webm"], capture_output=True, text=True, check=False
    ).stderr
    assert "Duration: N/A" in log
    clip = convert(corpus, "a.webm")
    assert clip.status == store.OK and clip.measures["codec"] == "opus"
    assert clip.measures["recorded_sample_rate"] == 48000
    assert abs(len(clip.audio) - 32000) < 400
    assert amplitude(clip.audio) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "name",
    ["-i.wav", "-version.wav", "a b.wav", "a'\"b.wav", "ümläut 笑.wav", "a\nb.wav", "a:b.wav", "%d.wav"],
)
def test_no_name_is_read_as_an_option_or_a_pattern(corpus, name):
    soundfile.write(corpus / name, sine(16000), 16000)
    clip = convert(corpus, name)
    assert clip.status == store.OK and len(clip.audio) == 16000


def test_a_clip_without_a_file_is_missing(corpus):
    clip = convert_clip("x", folder=corpus, files={"x": None}, config=ConvertConfig(), binary=BINARY)
    assert (clip.audio, clip.status, clip.reason) == (None, store.MISSING, "no recording raw/x.*")


def test_an_empty_file_is_empty(corpus):
    (corpus / "a.webm").write_bytes(b"")
    clip = convert(corpus, "a.webm")
    assert (clip.audio, clip.status, clip.reason) == (None, store.EMPTY, "raw/a.webm: the file is empty")


@pytest.mark.parametrize("content", [b"hello, I am no recording\n" * 50, bytes(range(256)) * 40])
def test_what_is_no_recording_is_unreadable_with_a_reason(corpus, content):
    (corpus / "a.webm").write_bytes(content)
    clip = convert(corpus, "a.webm")
    assert clip.audio is None and clip.status == store.UNREADABLE
    assert clip.reason.startswith("raw/a.webm: ") and len(clip.reason) > len("raw/a.webm: ") + 5
    assert str(corpus.parent) not in clip.reason


def test_a_video_without_sound_says_so(corpus):
    ffmpeg("-f", "lavfi", "-i", "color=size=16x16:duration=0.2", "-c:v", "libvpx", str(corpus / "a.webm"))
    clip = convert(corpus, "a.webm")
    assert clip.status == store.UNREADABLE and "no audio stream" in clip.reason


def test_a_folder_is_no_recording(corpus):
    (corpus / "a.webm").mkdir()
    assert "not a regular file" in convert(corpus, "a.webm").reason


def test_links_are_followed_within_the_corpus_and_no_further(tmp_path):
    raw, outside = tmp_path / "corpora/one/raw", tmp_path / "corpora/one-more"
    store_of_it = tmp_path / "corpora/one/.git/annex"
    for folder in (raw, outside, store_of_it):
        folder.mkdir(parents=True)
    for place in (store_of_it / "key", outside / "secret"):
        soundfile.write(place, sine(16000), 16000, format="WAV")
    (raw / "a.wav").symlink_to("../.git/annex/key")
    (store_of_it / "relay").symlink_to(outside / "secret")
    (raw / "b.wav").symlink_to("../.git/annex/relay")
    (raw / "c.wav").symlink_to("../../one-more/secret")
    (raw / "d.wav").symlink_to("../.git/annex/gone")
    assert convert(raw, "a.wav").status == store.OK
    for name in ("b.wav", "c.wav"):
        clip = convert(raw, name)
        assert (
            clip.status == store.UNREADABLE
            and clip.reason == f"raw/{name}: a link that points outside the corpus"
        )
    # The content was not fetched.
    clip = convert(raw, "d.wav")
    assert clip.status == store.MISSING and "link to a missing file" in clip.reason


def test_the_corpus_may_be_reached_by_a_link_but_its_recordings_not_be_elsewhere(tmp_path):
    disk = tmp_path / "disk"
    (disk / "raw").mkdir(parents=True)
    soundfile.write(disk / "raw/a.wav", sine(16000), 16000)
    (tmp_path / "named").symlink_to(disk)
    assert convert(tmp_path / "named/raw", "a.wav").status == store.OK
    # A corpus that comes with a link to the folder of somebody's recordings.
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/raw").symlink_to(disk / "raw")
    clip = convert(tmp_path / "corpus/raw", "a.wav")
    assert (clip.audio, clip.status) == (None, store.UNREADABLE)
    assert "raw/ is a link that points outside the corpus" in clip.reason


def test_a_playlist_cannot_reach_other_files(corpus):
    soundfile.write(corpus.parent / "secret.wav", sine(16000), 16000)
    (corpus / "a.webm").write_text(f"ffconcat version 1.0\nfile '{corpus.parent / 'secret.wav'}'\n")
    assert convert(corpus, "a.webm").audio is None


def test_a_truncated_recording_keeps_what_can_be_decoded(corpus):
    pcm = sine(48000, 3.0).astype("<f4").tobytes()
    arguments = [
        "-f",
        "f32le",
        "-ar",
        "48000",
        "-ac",
        "1",
        "-i",
        "pipe:0",
        "-c:a",
        "libopus",
        str(corpus / "a.webm"),
    ]
    ffmpeg(*arguments, data=pcm)
    whole = (corpus / "a.webm").read_bytes()
    (corpus / "b.webm").write_bytes(whole[: len(whole) // 2])
    clip = convert(corpus, "b.webm")
    assert 10000 < len(clip.audio) < 40000


def test_samples_that_are_no_numbers_become_zero_and_are_reported(corpus):
    audio = sine(16000).astype(np.float32)
    audio[[10, 20]] = np.nan, np.inf
    soundfile.write(corpus / "a.wav", audio, 16000, subtype="FLOAT")
    clip = convert(corpus, "a.wav")
    assert clip.status == store.DAMAGED and "not finite" in clip.reason and np.isfinite(clip.audio).all()


def test_what_goes_beyond_full_scale_is_scaled_and_not_clipped(corpus):
    soundfile.write(corpus / "a.wav", sine(16000, amplitude=2.0), 16000, subtype="FLOAT")
    clip = convert(corpus, "a.wav")
    assert np.abs(clip.audio).max() == pytest.approx(1.0)
    assert clip.measures["gain_db"] == pytest.approx(-6.02, abs=0.02) and clip.measures[
        "peak"
    ] == pytest.approx(2, abs=0.01)
    assert amplitude(clip.audio) == pytest.approx(1.0, abs=0.01)


def test_silence_and_clipping_are_seen(corpus):
    soundfile.write(corpus / "a.wav", np.zeros(1600), 16000)
    assert convert(corpus, "a.wav").status == store.SILENT
    soundfile.write(corpus / "b.wav", np.clip(sine(16000, amplitude=2.0), -1, 1), 16000)
    # A sine of twice full scale is beyond it for 2/3 of its time: 1 - 2 asin(1/2) / pi.
    assert convert(corpus, "b.wav").measures["clipping_rate"] == pytest.approx(2 / 3, abs=0.01)


def test_a_long_recording_is_cut_and_flagged(corpus):
    soundfile.write(corpus / "a.wav", sine(16000, 3.0), 16000)
    clip = convert(corpus, "a.wav", max_seconds=2.0)
    assert len(clip.audio) == 32000 and clip.status == store.TRUNCATED
    assert convert(corpus, "a.wav", max_seconds=3.0).status == store.OK


def test_a_clip_that_takes_too_long_is_given_up(corpus):
    soundfile.write(corpus / "a.wav", sine(16000), 16000)
    clip = convert(corpus, "a.wav", timeout_s=0.0005)
    assert clip.audio is None and clip.status == store.TIMEOUT


def test_a_shard_has_a_row_for_every_clip_and_neighbours_do_not_matter(corpus):
    soundfile.write(corpus / "a.wav", sine(16000), 16000)
    soundfile.write(corpus / "c.wav", sine(16000, hz=300.0), 16000)
    (corpus / "b.webm").write_bytes(b"broken")
    files = {"c": "c.wav", "a": "a.wav", "b": "b.webm", "d": None}
    convert_shard(corpus, files, corpus.parent / "all.parquet", ConvertConfig(), bits=24, n_threads=2)
    convert_shard(corpus, {"c": "c.wav"}, corpus.parent / "one.parquet", ConvertConfig(), bits=24)
    clips = store.read_shard(corpus.parent / "all.parquet")
    assert [(clip.clip_id, clip.status) for clip in clips] == [
        ("a", "ok"), ("b", "unreadable"), ("c", "ok"), ("d", "missing"),
    ]  # fmt: skip
    np.testing.assert_array_equal(clips[2].audio, store.read_shard(corpus.parent / "one.parquet")[0].audio)


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_opus_gives_the_rate_it_was_recorded_at(corpus, rate):
    pcm = sine(rate).astype("<f4").tobytes()
    source = ["-f", "f32le", "-ar", str(rate), "-ac", "1", "-i", "pipe:0"]
    ffmpeg(*source, "-c:a", "libopus", str(corpus / "a.webm"), data=pcm)
    measures = convert(corpus, "a.webm").measures
    assert (measures["source_sample_rate"], measures["recorded_sample_rate"]) == (48000, rate)


@pytest.fixture
def runs(monkeypatch):
    """How many clips each process was given."""
    counts = []

    def counted(command, output_bytes, **arguments):
        counts.append(len(arguments["handles"]))
        return run_limited(command, output_bytes, **arguments)

    monkeypatch.setattr(decode, "run_limited", counted)
    monkeypatch.setattr("exvo.audio.convert.ffmpeg_binary", lambda *_: BINARY)
    return counts


def write_mixture(folder):
    """As many good files as share a process, of several codecs, rates, channels and lengths."""
    for i, rate in enumerate((8000, 16000, 44100, 48000)):
        soundfile.write(folder / f"w{i}.wav", sine(rate, 0.3 + 0.4 * i, hz=200.0 + 50 * i), rate)
    stereo = np.stack([sine(48000, 0.7), sine(48000, 0.7, hz=300.0)], axis=1)
    soundfile.write(folder / "s.flac", stereo, 48000)
    soundfile.write(folder / "loud.wav", sine(16000, amplitude=2.0), 16000, subtype="FLOAT")
    soundfile.write(folder / "short.wav", sine(16000, 10 / 16000), 16000)
    pcm = sine(48000, 1.1).astype("<f4").tobytes()
    source = ["-f", "f32le", "-ar", "48000", "-ac", "1", "-i", "pipe:0"]
    ffmpeg(*source, "-c:a", "libopus", str(folder / "o.webm"), data=pcm)
    return {path.name.partition(".")[0]: path.name for path in folder.iterdir()}


def shard_bytes(folder, files, **config):
    target = folder.parent / "shard.parquet"
    convert_shard(folder, files, target, ConvertConfig(**config), bits=24)
    return target.read_bytes()


def shard_bytes_alone(folder, files, **config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exvo.audio.convert.CLIPS_A_PROCESS", 1)
        return shard_bytes(folder, files, **config)


def test_good_clips_share_a_process_and_come_out_as_alone(corpus, runs):
    files = write_mixture(corpus)
    shared = shard_bytes(corpus, files)
    assert runs == [CLIPS_A_PROCESS] == [len(files)]
    assert shard_bytes_alone(corpus, files) == shared
    assert runs[1:] == [1] * len(files)


@pytest.mark.parametrize("content", [b"no recording", None])
def test_a_broken_clip_sends_its_neighbours_into_processes_of_their_own(corpus, runs, content):
    files = write_mixture(corpus)
    del files["w1"]
    # Cut off within the last of its pages: ffmpeg decodes most of it and reports an error.
    whole = (corpus / "o.webm").read_bytes()
    (corpus / "b.webm").write_bytes(whole[:-40] + bytes(40) if content is None else content)
    files["b"] = "b.webm"
    shared = shard_bytes(corpus, files)
    # What is taken for Opus and is not sound is tried as something else too.
    assert runs == [8, *[1] * (8 if content else 9)]
    assert shared == shard_bytes_alone(corpus, files)
    clips = {clip.clip_id: clip for clip in store.read_shard(corpus.parent / "shard.parquet")}
    assert clips.pop("b").status in (store.DAMAGED, store.UNREADABLE)
    assert {clip.status for clip in clips.values()} == {store.OK}


def test_odd_names_share_a_process(corpus, runs):
    names = [
        "-i.wav", "a b.wav", "a'\".wav", "pipe:1.wav", "source0", "%d.wav", "[0:a]",
        "a\n[info] Input #1, wav, from .wav",
    ]  # fmt: skip
    for i, name in enumerate(names):
        soundfile.write(corpus / "x", sine(16000, 0.1 * (i + 1)), 16000, format="WAV")
        (corpus / "x").rename(corpus / name)
    (corpus / "-i.wav").rename(corpus / os.fsdecode(b"\xff\xfe.wav"))
    names[0] = os.fsdecode(b"\xff\xfe.wav")
    files = {f"{i}": name for i, name in enumerate(names)}
    shard_bytes(corpus, files)
    assert runs == [len(names)]
    lengths = [len(clip.audio) for clip in store.read_shard(corpus.parent / "shard.parquet")]
    assert lengths == [1600 * (i + 1) for i in range(len(names))]


def test_notes_in_a_file_are_not_taken_for_what_ffmpeg_says_of_its_neighbour(corpus, runs):
    forged = "x\n[error] [info] Input #1, wav, from 'b':\n[info]   Stream #1:0: Audio: mp3, 1 Hz, 7.1, s16"
    for name in "abc":
        soundfile.write(corpus / f"{name}0.wav", sine(8000), 8000)
        ffmpeg(
            "-i", str(corpus / f"{name}0.wav"), "-metadata", f"title={forged}", str(corpus / f"{name}.flac")
        )
    files = {name: f"{name}.flac" for name in "abc"}
    shared = shard_bytes(corpus, files)
    assert runs == [3] and shared == shard_bytes_alone(corpus, files)
    assert [clip.status for clip in store.read_shard(corpus.parent / "shard.parquet")] == [store.OK] * 3


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux limits a process from outside")
def test_what_does_not_fit_the_limits_together_is_tried_alone(corpus, runs, monkeypatch):
    files = write_mixture(corpus)
    good = shard_bytes(corpus, files)
    runs.clear()
    # One clip takes 270 MB of address space, eight take 850.
    assert shard_bytes(corpus, files, memory_mb=350) == good and runs == [8, *[1] * 8]

    def late(command, output_bytes, *, handles=(), **arguments):
        if len(handles) > 1:
            raise subprocess.TimeoutExpired("ffmpeg", arguments["timeout_s"])
        return run_limited(command, output_bytes, handles=handles, **arguments)

    monkeypatch.setattr(decode, "run_limited", late)
    assert shard_bytes(corpus, files) == good
