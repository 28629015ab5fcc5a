"""Test clips that were predicted without audio stand in fusion.json."""

import json

import numpy as np
import pytest

from exvo.audio.quality import summarise_quality
from exvo.audio.store import DAMAGED, UNREADABLE, Clip, write_shard
from exvo.corpus.table import read_corpus
from exvo.evaluation.bootstrap import BootstrapConfig
from exvo.evaluation.predictions import Predictions, write_predictions
from exvo.fusion.fuse import CrossFit, FusionConfig
from exvo.report.outcome import OutcomePaths, OutcomePlan, write_outcome

SOUND = np.full(100, 0.1, np.float32)


@pytest.fixture
def corpus(tmp_path):
    rows = ["a,Train,30", "b,Val,31", "c,Test,", "d,Test,", "e,Test,"]
    (tmp_path / "data_info.csv").write_text("\n".join(["File_ID,Split,Age", *rows]) + "\n")
    return read_corpus(tmp_path)


def test_every_test_clip_without_audio_is_listed_with_the_stage_that_lacks_it(corpus, tmp_path):
    ids = list(corpus.labels.clip_id)
    # c: damaged in one stage and unreadable in the other; d: the other way round; e: both are fine.
    faults = {
        "baseline": {"c": (SOUND, DAMAGED, "half"), "d": (None, UNREADABLE, "wav/d.wav: nothing")},
        "raw": {
            "c": (None, UNREADABLE, "raw/c.webm: nothing"),
            "a": (None, UNREADABLE, "raw/a.webm: nothing"),
        },
    }
    shards = {}
    for stage, of_clip in faults.items():
        shards[stage] = [tmp_path / f"{stage}.parquet"]
        clips = [Clip(name, *of_clip.get(name, (SOUND,))) for name in ids]
        write_shard(shards[stage][0], clips, {}, bits=16)
    summarise_quality(shards, corpus.labels, tmp_path / "clips.parquet", tmp_path / "summary.md")
    files = {}
    for split, names in (("val", ["b"]), ("test", ["c", "d", "e"])):
        n = len(names)
        answer = Predictions(
            np.array(names), np.full(n, 30.0), np.empty((n, 0)), np.full((n, 10), np.nan), ()
        )
        files[split] = tmp_path / f"{split}.parquet"
        write_predictions(files[split], answer)
    plan = OutcomePlan(
        [FusionConfig("all", ("one",))], None, {}, BootstrapConfig(resamples=20), CrossFit(2), []
    )
    paths = OutcomePaths(
        tmp_path / "preds.csv", tmp_path / "fusion.json", tmp_path / "val_fused.parquet", tmp_path
    )
    write_outcome(corpus, {"one": [(files["val"], files["test"])]}, plan, tmp_path / "clips.parquet", paths)
    assert json.loads((tmp_path / "fusion.json").read_text())["test_clips_without_audio"] == [
        {"clip_id": "c", "stage": "raw", "status": "unreadable", "reason": "raw/c.webm: nothing"},
        {"clip_id": "d", "stage": "baseline", "status": "unreadable", "reason": "wav/d.wav: nothing"},
    ]
