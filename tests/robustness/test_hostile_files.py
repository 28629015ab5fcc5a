"""Files made by somebody who wants to read others, to say what is not so, or to fill the memory: none succeeds."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bad_clips import ffmpeg, tone
from files_of_files import KINDS, write_victim

from exvo.audio import store
from exvo.audio.convert import convert_clip, convert_clips
from exvo.audio.decode import ConvertConfig
from exvo.audio.formats import DEMUXERS
from exvo.util.bundled_ffmpeg import bundled_ffmpeg
from exvo.util.cores import n_cores

BINARY = bundled_ffmpeg()


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus/raw").mkdir(parents=True)
    return tmp_path / "corpus/raw"


def convert(folder, name, **config):
    config = ConvertConfig(**config)
    return convert_clip("a", folder=folder, files={"a": name}, config=config, binary=BINARY)


def demuxers():
    listed = subprocess.run([BINARY, "-hide_banner", "-demuxers"], capture_output=True, text=True, check=True)
    return [line[5:].split()[0] for line in listed.stdout.partition("---\n")[2].splitlines()]


def test_every_kind_of_file_that_is_not_listed_is_refused_even_if_it_is_asked_for(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.1, 16_000), 16_000)
    listed = set(DEMUXERS.split(","))
    others = [names for names in demuxers() if not listed & set(names.split(","))]
    # These can open files besides, connect to somebody or run scripts.
    assert {"hls", "dash", "concat", "image2", "imf", "sdp", "rtsp", "vobsub", "avisynth", "lavfi"} <= set(
        others
    )
    assert len(others) > 250 and listed <= {name for names in demuxers() for name in names.split(",")}

    def refusal(names):
        with (tmp_path / "a.wav").open("rb") as file:
            limits = ["-format_whitelist", DEMUXERS, "-protocol_whitelist", "fd"]
            source = ["-f", names.partition(",")[0], "-fd", str(file.fileno()), "-i", "fd:"]
            done = subprocess.run(
                [BINARY, "-nostdin", "-v", "error", *limits, *source, "-f", "null", "-"],
                pass_fds=[file.fileno()], capture_output=True, text=True, check=False,
            )  # fmt: skip
        return done.returncode != 0 and "not on whitelist" in done.stderr

    with ThreadPoolExecutor(n_cores()) as pool:
        refused = list(pool.map(refusal, others))
    assert [names for names, each in zip(others, refused, strict=True) if not each] == []


@pytest.mark.parametrize("ending", ["webm", "wav", "own"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_file_gives_the_audio_of_another(corpus, kind, ending):
    make, provoked = KINDS[kind]
    victim = corpus.parent.parent / "private.wav"
    samples = (tone(1.0, 16_000) * 32767).astype("<i2")
    write_victim(victim, samples.tobytes())
    name = f"a.{kind if ending == 'own' else ending}"
    for place in (str(victim), f"file:{victim}", "../../private.wav", "fd:", "pipe:0"):
        (corpus / name).write_bytes(make(place))
        clip = convert(corpus, name)
        assert clip.audio is None and clip.status in (store.UNREADABLE, store.EMPTY), (place, clip)
    if provoked:
        # Without our limits ffmpeg does read the other file.
        (corpus / name).write_bytes(make(str(victim)))
        leaked = ffmpeg(
            "-protocol_whitelist", "file,fd,pipe", *provoked, "-i", corpus / name, "-f", "s16le", "-"
        )
        np.testing.assert_array_equal(np.frombuffer(leaked, "<i2"), samples)


FORGED = "a\n[error] x\n[info] Input #0, wav, from 'x':\n[info]   Stream #0:0: Audio: mp3, 1 Hz, 7.1\n#codec_id 0: mp3"


@pytest.mark.parametrize("ending", ["flac", "ogg", "mkv", "mp4", "mp3", "wav", "webm"])
@pytest.mark.parametrize(
    "title", [FORGED, "[error] broken", "[fatal] Format not on whitelist", "OpusHead dOps A_OPUS"]
)
def test_what_a_file_notes_of_itself_is_no_message(corpus, ending, title):
    soundfile.write(corpus / "x.wav", tone(1.0, 48_000), 48_000)
    options = ["-c:a", "libopus"] if ending == "webm" else []
    notes = [
        "-metadata",
        f"title={title}",
        "-metadata",
        f"comment={title}",
        "-metadata:s:a:0",
        f"title={title}",
    ]
    ffmpeg("-i", corpus / "x.wav", *options, *notes, corpus / f"a.{ending}")
    assert title.splitlines()[0].encode() in (corpus / f"a.{ending}").read_bytes()
    clip = convert(corpus, f"a.{ending}")
    assert (clip.status, clip.reason) == (store.OK, "") and abs(len(clip.audio) - 16_000) < 800
    codecs = {
        "flac": "flac",
        "ogg": "vorbis",
        "mkv": "vorbis",
        "mp4": "aac",
        "mp3": "mp3",
        "wav": "pcm_s16le",
    }
    assert clip.measures["codec"] == codecs.get(ending, "opus")
    assert (clip.measures["source_sample_rate"], clip.measures["source_channels"]) == (48_000, "mono")


def exchange(make_inside, make_outside, place: Path, stop: threading.Event) -> None:
    """Put one thing and the other in a place, until told to stop."""
    other = place.with_name(f"{place.name}.new")
    while not stop.is_set():
        for make in (make_outside, make_inside):
            make(other)
            other.replace(place)


@pytest.mark.parametrize("what", ["the file", "a folder on the way"])
def test_what_was_checked_is_what_is_decoded_whatever_is_exchanged_meanwhile(corpus, what):
    root = corpus.parent.parent
    inside, outside = root / "corpus/inside", root / "outside"
    for folder, level in ((inside, 0.1), (outside, 0.9)):
        folder.mkdir()
        soundfile.write(folder / "a.wav", tone(0.2, 16_000, level), 16_000)
    if what == "the file":
        place, ends = corpus / "a.wav", (inside / "a.wav", outside / "a.wav")
    else:
        place, ends = root / "corpus/way", (inside, outside)
        (corpus / "a.wav").symlink_to("../way/a.wav")
    place.symlink_to(ends[0])
    stop = threading.Event()
    makers = [lambda path, end=end: path.symlink_to(end) for end in ends]
    thread = threading.Thread(target=exchange, args=(*makers, place, stop))
    thread.start()
    try:
        clips = [
            clip
            for _ in range(30)
            for clip in convert_clips(
                ["a", "b"],
                folder=corpus,
                files={"a": "a.wav", "b": "a.wav"},
                config=ConvertConfig(),
                binary=BINARY,
            )
        ]
    finally:
        stop.set()
        thread.join()
    peaks = [np.abs(clip.audio).max() for clip in clips if clip.audio is not None]
    assert len(clips) == 60 and peaks and max(peaks) < 0.11
    refused = [clip.reason for clip in clips if clip.audio is None]
    assert all("outside the corpus" in reason or "cannot be opened" in reason for reason in refused)


def test_a_stream_that_changes_its_rate_gives_no_more_than_a_clip_may_have(corpus):
    # Filters begin anew at each change, and so would a limit among them.
    part = {}
    for rate in (24_000, 48_000):
        source = ["-f", "lavfi", "-i", f"sine=f=330:d=20:r={rate}"]
        part[rate] = ffmpeg(*source, "-c:a", "aac", "-f", "adts", "pipe:1")
    (corpus / "a.aac").write_bytes((part[24_000] + part[48_000]) * 10)
    clip = convert(corpus, "a.aac", max_seconds=15)
    assert clip.status in (store.TRUNCATED, store.DAMAGED) and len(clip.audio) == 15 * 16_000
    assert "longer than 15" in clip.reason


def test_a_file_cannot_have_packets_without_end_counted(corpus):
    # 10 minutes in packets of 2.5 ms: 240,000 of them.
    source = ["-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "600"]
    ffmpeg(*source, "-c:a", "libopus", "-b:a", "6k", "-frame_duration", "2.5", corpus / "a.ogg")
    clip = convert(corpus, "a.ogg", max_seconds=2)
    assert len(clip.audio) == 32_000 and "longer than 2" in clip.reason


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names open files so")
def test_no_name_leads_to_a_file_that_this_process_has_open(corpus):
    with (corpus.parent.parent / "private.wav").open("wb+") as file:
        soundfile.write(file, tone(1.0, 16_000), 16_000, format="WAV")
        file.flush()
        (corpus / "a.wav").symlink_to(f"/proc/self/fd/{file.fileno()}")
        clip = convert(corpus, "a.wav")
    assert (clip.audio, clip.status) == (None, store.UNREADABLE) and "outside the corpus" in clip.reason
