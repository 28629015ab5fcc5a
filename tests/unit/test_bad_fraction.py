import json

import numpy as np
import pytest

from exvo.audio.bad_fraction import TooManyBadClips, check_bad_fraction
from exvo.audio.store import DAMAGED, MISSING, OK, SILENT, TIMEOUT, UNREADABLE, Clip, write_shard

SOUND = np.full(100, 0.1, np.float32)


@pytest.fixture
def shards(tmp_path):
    """Ten clips in two shards, four of them without audio."""
    bad = [
        Clip("a", None, UNREADABLE, "raw/a.webm: Invalid data (EBML header parsing failed)"),
        Clip("b", None, UNREADABLE, "raw/b.webm: Invalid data (0x00 at pos 7)"),
        Clip("c", None, MISSING, "no recording raw/c.*"),
        Clip("d", None, TIMEOUT, "raw/d.webm: not decoded within 30 s"),
    ]
    kept = [
        Clip("e", SOUND, SILENT, "x"),
        Clip("f", SOUND, DAMAGED, "y"),
        *(Clip(c, SOUND, OK) for c in "ghij"),
    ]
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    write_shard(paths[0], bad[1:] + kept[:2], {}, bits=16)
    write_shard(paths[1], bad[:1] + kept[2:], {}, bits=16)
    return paths


def test_as_many_as_allowed_pass_and_are_counted_by_reason(shards, tmp_path):
    check_bad_fraction(shards, 0.4, tmp_path / "check.json")
    assert json.loads((tmp_path / "check.json").read_text()) == {
        "n_clips": 10,
        "n_without_audio": 4,
        "reasons": [
            {"status": "unreadable", "reason": "Invalid data", "n": 2, "clips": ["a", "b"]},
            {"status": "missing", "reason": "no recording", "n": 1, "clips": ["c"]},
            {"status": "timeout", "reason": "not decoded within 30 s", "n": 1, "clips": ["d"]},
        ],
    }


def test_one_more_than_allowed_stops_with_counts_clips_and_what_to_do(shards, tmp_path):
    with pytest.raises(TooManyBadClips) as error:
        check_bad_fraction(shards, 0.39, tmp_path / "check.json")
    text = str(error.value)
    assert "4 of 10 clips have no audio (40.0%)" in text and "(39.0%)" in text
    assert "- 2 unreadable: Invalid data (a, b)" in text and "- 1 missing: no recording (c)" in text
    assert "corpus.max_bad_fraction to 0.41 or more" in text
    assert not (tmp_path / "check.json").exists()


def test_all_clips_bad_can_still_be_allowed(tmp_path):
    write_shard(tmp_path / "0.parquet", [Clip("a", None, MISSING, "no recording raw/a.*")], {}, bits=16)
    check_bad_fraction([tmp_path / "0.parquet"], 1.0, tmp_path / "check.json")
    with pytest.raises(TooManyBadClips, match=r"to 1\.0 or more"):
        check_bad_fraction([tmp_path / "0.parquet"], 0.99, tmp_path / "check.json")


@pytest.mark.parametrize(("reason", "decoder"), [("Bad data", True), ("Other data", False)])
def test_a_reason_that_all_clips_share_is_not_attributed_to_the_recordings(tmp_path, reason, decoder):
    clips = [
        Clip("a", None, UNREADABLE, f"raw/a.wav: {reason}"),
        Clip("b", None, UNREADABLE, "raw/b.wav: Bad data (x)"),
    ]
    write_shard(tmp_path / "0.parquet", clips, {}, bits=16)
    with pytest.raises(TooManyBadClips) as error:
        check_bad_fraction([tmp_path / "0.parquet"], 0.5, tmp_path / "check.json")
    assert ("the decoder or its limits" in str(error.value)) == decoder
    assert ("Repair or remove these recordings" in str(error.value)) != decoder
