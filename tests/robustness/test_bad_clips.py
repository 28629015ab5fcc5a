"""No recording, however broken, stops a shard, changes its neighbours or goes unmentioned."""

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from bad_clips import all_bad_clips, encoded, tone

from exvo.audio import store
from exvo.audio.convert import convert_clip, convert_shard
from exvo.audio.decode import ConvertConfig
from exvo.audio.denoise import DenoiseConfig
from exvo.audio.highpass import HighpassConfig
from exvo.audio.perturb import perturb_shard
from exvo.audio.stage_dc import dc_shard
from exvo.audio.stage_denoised import denoised_shard
from exvo.audio.stage_vad import VadConfig, vad_shard
from exvo.corpus.shards import scan_files
from exvo.features.logmel import LogmelConfig, logmel_shard
from exvo.features.opensmile import OpensmileConfig, opensmile_shard
from exvo.util.bundled_ffmpeg import FfmpegError, bundled_ffmpeg

GOOD = {"good-a": (330, 0.4), "good-b": (220, 0.1), "good-z": (700, 0.9)}
STAGES = ("raw", "dc", "denoised", "vad", "raw@0.9")


class Shard:
    """The stages and features of the clips of one folder, made as the rules make them."""

    def __init__(self, root: Path, clip_ids: list[str]):
        self.root, self.clip_ids = root, sorted(clip_ids)
        found = scan_files(root / "raw").by_id
        files = {c: found[c].name if c in found else None for c in clip_ids}
        convert_shard(
            root / "raw", files, self.path("raw"), ConvertConfig(max_seconds=10), bits=24, n_threads=2
        )
        dc_shard(self.path("raw"), self.path("dc"), HighpassConfig())
        denoised_shard(self.path("dc"), self.path("denoised"), DenoiseConfig())
        vad_shard(self.path("denoised"), self.path("vad"), VadConfig())
        perturb_shard(self.path("raw"), self.path("raw@0.9"), 0.9, set(clip_ids))
        for stage in STAGES:
            opensmile_shard(self.path(stage), self.path(stage, "egemaps"), OpensmileConfig("eGeMAPSv02"))
            frames = self.path(stage, "logmel").with_suffix(".npy")
            logmel_shard(self.path(stage), frames, self.path(stage, "logmel"), LogmelConfig())

    def path(self, stage: str, kind: str = "audio") -> Path:
        return self.root / "results" / f"{kind}-{stage}.parquet"

    def rows(self, stage: str, kind: str = "audio") -> dict[str, dict]:
        return {row["clip_id"]: row for row in pq.read_table(self.path(stage, kind)).to_pylist()}

    def frames(self, stage: str) -> dict[str, np.ndarray]:
        values = np.load(self.path(stage, "logmel").with_suffix(".npy"))
        rows = self.rows(stage, "logmel").values()
        return {r["clip_id"]: values[r["start"] : r["start"] + r["n_frames"]] for r in rows}


def write_good(folder: Path) -> None:
    noise = np.random.default_rng(3)
    for clip_id, (hz, level) in GOOD.items():
        sound = level * tone(1.2, 16_000) * np.sin(np.arange(19_200) * hz / 16_000)
        soundfile.write(folder / f"{clip_id}.wav", sound + 0.01 * noise.standard_normal(19_200), 16_000)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad")
    (root / "corpus" / "raw").mkdir(parents=True)
    (root / "outside").mkdir()
    clips = all_bad_clips(root / "outside")
    for clip in clips:
        clip.make(root / "corpus" / "raw")
    write_good(root / "corpus" / "raw")
    return root / "corpus", clips


@pytest.fixture(scope="module")
def shard(bad):
    root, clips = bad
    return Shard(root, [clip.clip_id for clip in clips] + list(GOOD))


@pytest.fixture(scope="module")
def good_alone(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    (root / "raw").mkdir()
    write_good(root / "raw")
    return Shard(root, list(GOOD))


def convert(folder: Path, name: str, **config: float) -> store.Clip:
    clip_id = name.partition(".")[0]
    binary = bundled_ffmpeg()
    return convert_clip(
        clip_id, folder=folder, files={clip_id: name}, config=ConvertConfig(**config), binary=binary
    )


def test_there_are_enough_kinds_of_bad_clip(bad):
    assert len({clip.clip_id for clip in bad[1]}) == len(bad[1]) >= 80


def test_every_bad_clip_has_a_true_status_and_reason(bad, shard):
    rows = shard.rows("raw")
    wrong = []
    for clip in bad[1]:
        row = rows[clip.clip_id]
        if row["status"] not in clip.statuses or clip.reason not in row["reason"]:
            wrong.append((clip.clip_id, row["status"], row["reason"], clip.status, clip.reason))
        assert (row["audio"] is None) == (row["status"] in store.WITHOUT_AUDIO)
        assert bool(row["reason"]) == (row["status"] != store.OK), row
        assert str(shard.root) not in row["reason"]
    assert wrong == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_clip_has_a_row_with_sound_numbers_at_every_step(shard, stage):
    audio, functionals, frames = shard.rows(stage), shard.rows(stage, "egemaps"), shard.frames(stage)
    assert list(audio) == list(functionals) == list(frames) == shard.clip_ids
    raw = shard.rows("raw")
    for clip_id, row in audio.items():
        values = [
            value
            for name, value in functionals[clip_id].items()
            if name not in ("clip_id", "status", "reason")
        ]
        if row["audio"] is None:
            assert row["status"] == raw[clip_id]["status"] and row["reason"] == raw[clip_id]["reason"]
            assert set(values) == {None} and len(frames[clip_id]) == 0
            assert functionals[clip_id]["status"] == row["status"]
        else:
            samples = store.decode(row["audio"]["bytes"])
            assert len(samples) == row["n_samples"] > 0 and np.isfinite(samples).all()
            assert np.isfinite(np.array(values, dtype=float)).all(), clip_id
            assert len(frames[clip_id]) == 1 + len(samples) // 160 and np.isfinite(frames[clip_id]).all()


@pytest.mark.parametrize("stage", STAGES)
def test_good_clips_come_out_as_they_would_without_the_bad_ones(shard, good_alone, stage):
    for clip_id in GOOD:
        for kind in ("audio", "egemaps"):
            assert shard.rows(stage, kind)[clip_id] == good_alone.rows(stage, kind)[clip_id]
        np.testing.assert_array_equal(shard.frames(stage)[clip_id], good_alone.frames(stage)[clip_id])


def test_bad_and_good_clips_that_share_a_process_come_out_as_alone(bad, shard, tmp_path, monkeypatch):
    found = scan_files(bad[0] / "raw").by_id
    files = {c: found[c].name if c in found else None for c in shard.clip_ids}
    # Three at a time, so that many groups have no bad clip, or one.
    for n_clips in (1, 3):
        monkeypatch.setattr("exvo.audio.convert.CLIPS_A_PROCESS", n_clips)
        target = tmp_path / f"{n_clips}.parquet"
        convert_shard(bad[0] / "raw", files, target, ConvertConfig(max_seconds=10), bits=24, n_threads=2)
        assert target.read_bytes() == shard.path("raw").read_bytes()


def test_silence_and_what_the_filter_takes_away_are_reported(shard):
    assert shard.rows("dc")["constant"]["status"] == store.SILENT
    assert "after the high-pass filter" in shard.rows("dc")["constant"]["reason"]
    assert shard.rows("vad")["silence"]["status"] == store.SILENT


def test_long_silence_in_a_small_file_takes_little_memory_and_time(bad):
    assert (bad[0] / "raw" / "bomb.flac").stat().st_size < 400_000
    start = time.perf_counter()
    # In 16 kHz floats, the whole of it would be 920 MB.
    clip = convert(bad[0] / "raw", "bomb.flac", memory_mb=800)
    assert clip.status == store.TRUNCATED and len(clip.audio) == 60 * 16_000
    assert time.perf_counter() - start < 10


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits a process from outside")
def test_a_clip_that_needs_more_memory_than_it_may_have_is_unreadable(tmp_path):
    (tmp_path / "a.webm").write_bytes(encoded("libopus", "webm"))
    clip = convert(tmp_path, "a.webm", memory_mb=60)
    assert clip.audio is None and clip.status == store.UNREADABLE and clip.reason
    assert convert(tmp_path, "a.webm").status == store.OK


def test_a_program_that_is_not_there_fails_the_job_and_not_the_clips(bad):
    config = ConvertConfig(ffmpeg="/nowhere/ffmpeg")
    with pytest.raises(FfmpegError, match="/nowhere/ffmpeg: cannot be started"):
        convert_shard(bad[0] / "raw", {"good-a": "good-a.wav"}, bad[0] / "x.parquet", config, bits=24)


@pytest.mark.parametrize("forbidden", ["file", "folder"])
def test_what_may_not_be_read_is_unreadable(forbidden):
    # Not under tmp_path, which nobody but its owner may enter.
    root = Path(tempfile.mkdtemp())
    user = os.geteuid()
    try:
        raw = root / "raw"
        raw.mkdir()
        soundfile.write(raw / "a.wav", tone(0.5, 16_000), 16_000)
        root.chmod(0o755)
        (raw / "a.wav" if forbidden == "file" else raw).chmod(0)
        if user == 0:  # root may read everything, so for a moment the test is somebody else
            os.seteuid(65534)
        clip = convert(raw, "a.wav")
    finally:
        os.seteuid(user)
        (root / "raw").chmod(0o755)
        shutil.rmtree(root)
    assert clip.status == store.UNREADABLE and "cannot be opened (Permission denied)" in clip.reason
