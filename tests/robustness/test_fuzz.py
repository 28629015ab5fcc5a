"""Random corruption of good files and tables: nothing crashes or hangs, and no row is lost or invented.

EXVO_FUZZ says how many corruptions of each kind are tried; `make test-fuzz` tries 2,000.
"""

import csv
import io
import os
import time
from collections import Counter

import numpy as np
import pytest
import soundfile
import yaml
from bad_clips import encoded, tone
from corruptions import corrupt_bytes, corrupt_table
from workflow_copy import REPOSITORY

from exvo.audio import store
from exvo.audio.convert import ConvertConfig, convert_shard
from exvo.audio.denoise import DenoiseConfig
from exvo.audio.highpass import HighpassConfig
from exvo.audio.stage_dc import dc_clips
from exvo.audio.stage_denoised import denoised_clips
from exvo.audio.stage_vad import VadConfig, vad_clips
from exvo.corpus.labels import EMOTIONS, SPLITS
from exvo.corpus.table import CorpusError, read_corpus
from exvo.features.logmel import LogmelConfig, logmel
from exvo.workflow.config import complete
from exvo.workflow.plan import Plan

N_CORRUPTIONS = int(os.environ.get("EXVO_FUZZ", "150"))
PER_SHARD = 50
STATUSES = {store.OK, store.SILENT, store.DAMAGED, store.TRUNCATED, *store.WITHOUT_AUDIO}


@pytest.fixture(scope="module")
def recordings():
    """Good files of many kinds, by their ending."""
    wav, double = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, tone(0.5, 16_000), 16_000, format="WAV")
    soundfile.write(double, np.tile(tone(0.2)[:, np.newaxis], 2), 48_000, format="WAV", subtype="DOUBLE")
    return [
        ("webm", encoded("libopus", "webm", 0.8)),
        ("webm", encoded("libopus", "webm", 0.8, "-ac", "2", "-b:a", "24k")),
        ("ogg", encoded("libopus", "ogg", 0.5)),
        ("wav", wav.getvalue()),
        ("wav", double.getvalue()),
        ("flac", encoded("flac", "flac", 0.5)),
        ("m4a", encoded("aac", "adts", 0.5)),
        ("mkv", encoded("aac", "matroska", 0.5)),
    ]


@pytest.mark.parametrize("first", range(0, N_CORRUPTIONS, PER_SHARD))
def test_corrupted_recordings_keep_their_rows(recordings, tmp_path, first):
    raw = tmp_path / "raw"
    raw.mkdir()
    files = {}
    for number in range(first, min(first + PER_SHARD, N_CORRUPTIONS)):
        random = np.random.default_rng([7, number])
        ending, data = recordings[number % len(recordings)]
        files[f"{number:05d}"] = f"{number:05d}.{ending}"
        others = [other for _, other in recordings]
        (raw / files[f"{number:05d}"]).write_bytes(corrupt_bytes(data, others, random))
    start = time.perf_counter()
    convert_shard(raw, files, tmp_path / "shard.parquet", ConvertConfig(), bits=24, n_threads=2)
    seconds = time.perf_counter() - start
    clips = store.read_shard(tmp_path / "shard.parquet")
    assert [clip.clip_id for clip in clips] == sorted(files)
    # A limit of 30 s a clip would make hours of a corpus of such files; damage must not slow the decoder down.
    assert seconds < 2 * len(files)
    for clip in clips:
        assert clip.status in STATUSES - {store.TIMEOUT, store.MISSING}
        assert (clip.audio is None) == (clip.status in store.WITHOUT_AUDIO)
        assert bool(clip.reason) == (clip.status != store.OK) and str(tmp_path) not in clip.reason
    kept = [clip for clip in clips if clip.audio is not None]
    for stage in (
        lambda some: dc_clips(some, HighpassConfig()),
        lambda some: denoised_clips(some, DenoiseConfig()),
        lambda some: vad_clips(some, VadConfig()),
    ):
        kept = stage(kept)
        for clip in kept:
            assert len(clip.audio) and np.isfinite(clip.audio).all() and np.abs(clip.audio).max() <= 1
            assert np.isfinite(logmel(clip.audio, LogmelConfig())).all()


def valid_table():
    header = ["File_ID", "Split", "Subject_ID", "Country", "Country_string", "Age", *EMOTIONS]
    rows = [
        [
            f"[{n:05d}]",
            split,
            f"{split[:2]}{n % 3}",
            str(n % 2),
            ("China", "South Africa")[n % 2],
            f"{20 + n}.5",
        ]
        + [f"{(n * k) % 11 / 10}" for k in range(1, 10)]
        + ["1"]
        for n, split in enumerate(("Train",) * 8 + ("Val",) * 5 + ("Test",) * 5)
    ]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def test_corrupted_tables_are_read_whole_or_refused_in_words(tmp_path):
    schema = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
    config = complete(yaml.safe_load((REPOSITORY / "config/config.yaml").read_text()), schema)
    config["corpus"]["root"] = str(tmp_path)
    (tmp_path / "raw").mkdir()
    text, outcomes = valid_table(), Counter()
    for row in csv.DictReader(io.StringIO(text)):
        (tmp_path / "raw" / f"{row['File_ID'].strip('[]')}.webm").touch()
    for number in range(N_CORRUPTIONS):
        data = corrupt_table(text, np.random.default_rng([11, number]))
        (tmp_path / "data_info.csv").write_bytes(data)
        try:
            corpus = read_corpus(tmp_path)
        except CorpusError as error:
            assert str(tmp_path / "data_info.csv") in str(error)
            outcomes["refused"] += 1
            continue
        labels = corpus.labels
        # Counted by another reader: a row for every line that is not empty.
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) if row][1:]
        assert len(labels) == len(corpus.file_ids) == len(rows), (number, data)
        assert len(set(labels.clip_id)) == len(rows) and set(labels.split) <= set(SPLITS)
        assert all("/" not in name and name not in ("", ".", "..") for name in labels.clip_id)
        for values, low, high in ((labels.age, 0, 130), (labels.emotion, 0, 1)):
            known = values[~np.isnan(values)]
            assert np.isfinite(known).all() and (known >= low).all() and (known <= high).all()
        try:
            plan = Plan(config)
        except CorpusError:
            outcomes["read, and not planned"] += 1
            continue
        assert sum(map(len, plan.shards.values())) == len(rows)
        outcomes["planned"] += 1
    assert outcomes["planned"] > N_CORRUPTIONS // 20 and outcomes["refused"] > N_CORRUPTIONS // 20, outcomes
