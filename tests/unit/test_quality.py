import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exvo.audio.quality import summarise_quality
from exvo.audio.store import Clip, write_shard
from exvo.corpus.labels import Labels

TONE = 0.1 * np.ones(1600, np.float32)


def labels_of(ids):
    n = len(ids)
    return Labels(
        np.array(list(ids), dtype=object),
        np.array(["Train", "Val", "Test"][:n], dtype=object),
        np.array([""] * n, dtype=object),
        np.full(n, np.nan),
        np.full(n, -1),
        np.full((n, 10), np.nan),
        (),
    )


@pytest.fixture
def shards(tmp_path):
    raw = {
        "0": [
            Clip("a", TONE, measures={"peak": 0.1}),
            Clip("c", None, "unreadable", "raw/c.webm: `odd`\nname"),
        ],
        "1": [Clip("b", TONE, measures={"peak": 0.3})],
    }
    vad = {"0": [Clip("a", TONE, "no_voice", "no voice found"), raw["0"][1]], "1": raw["1"]}
    for stage, clips in (("raw", raw), ("vad", vad)):
        for name, part in clips.items():
            (tmp_path / stage).mkdir(exist_ok=True)
            write_shard(
                tmp_path / stage / name, part, {"peak": pa.float64()} if stage == "raw" else {}, bits=16
            )
    return {stage: [tmp_path / stage / name for name in "01"] for stage in ("raw", "vad")}


def test_every_clip_has_one_row_with_its_first_trouble(shards, tmp_path):
    summarise_quality(shards, labels_of("cab"), tmp_path / "q.parquet", tmp_path / "q.md")
    rows = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert [(r["clip_id"], r["split"], r["status"]) for r in rows] == [
        ("a", "Val", "no_voice"), ("b", "Test", "ok"), ("c", "Train", "unreadable"),
    ]  # fmt: skip
    assert [r["raw_peak"] for r in rows] == [0.1, 0.3, None]
    assert rows[0]["raw_status"] == "ok" and rows[0]["vad_reason"] == "no voice found"


def test_the_summary_counts_and_quotes_what_comes_from_data(shards, tmp_path):
    summarise_quality(shards, labels_of("cab"), tmp_path / "q.parquet", tmp_path / "q.md")
    text = (tmp_path / "q.md").read_text()
    assert "| raw | 3 | 0.00 | 2 | 0 | 1 |" in text and "| vad | 3 | 0.00 | 1 | 1 | 1 |" in text
    assert "- `c` unreadable: `raw/c.webm: 'odd' name`" in text
    assert "| raw_peak | 0.11 | 0.2 | 0.29 | 2 |" in text


def test_a_stage_that_lost_a_clip_is_an_error(shards, tmp_path):
    shards["vad"] = shards["vad"][:1]
    with pytest.raises(ValueError, match="stage vad: 2 clips"):
        summarise_quality(shards, labels_of("cab"), tmp_path / "q.parquet", tmp_path / "q.md")
