"""One run of the whole workflow over every kind of bad clip, and runs over tables that hold too little."""

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
from bad_corpus import add_bad_clips, read_table, write_table
from small_run import SUBMISSION, SYSTEM, small_workflow

from exvo.audio.store import OK, WITHOUT_AUDIO
from exvo.corpus.table import read_corpus
from exvo.evaluation.check_submission import check_submission
from exvo.evaluation.predictions import read_predictions

pytestmark = pytest.mark.xdist_group("robustness")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    workflow = small_workflow(tmp_path_factory.mktemp("good") / "workflow")
    shutil.rmtree(workflow.corpus / "wav")
    workflow.run(SUBMISSION)
    return workflow


@pytest.fixture(scope="module")
def mixed(good, tmp_path_factory):
    """The same clips with a bad one of every kind among them, in all splits; and what is expected of those."""
    root = tmp_path_factory.mktemp("mixed")
    workflow = good.copy(root / "workflow")
    shutil.rmtree(workflow.root / "results")
    bad = add_bad_clips(workflow)
    workflow.run(SUBMISSION)
    return workflow, bad


def test_every_clip_has_a_row_with_a_true_status_and_reason(good, mixed):
    workflow, bad = mixed
    rows = {
        row["clip_id"]: row
        for row in pq.read_table(workflow.root / "results/quality/clips.parquet").to_pylist()
    }
    labels = read_corpus(workflow.corpus).labels
    assert sorted(rows) == sorted(labels.clip_id)
    wrong = [
        (clip_id, rows[clip_id]["raw_status"], rows[clip_id]["raw_reason"])
        for clip_id, clip in bad.items()
        if rows[clip_id]["raw_status"] not in clip.statuses or clip.reason not in rows[clip_id]["raw_reason"]
    ]
    assert wrong == []
    for row in rows.values():
        assert bool(row["reason"]) == (row["status"] != OK)
        if row["raw_status"] in WITHOUT_AUDIO:
            assert row["status"] == row["raw_status"] == row["vad_status"] and row["vad_n_samples"] == 0
    before = pq.read_table(good.root / "results/quality/clips.parquet").to_pylist()
    assert [rows[row["clip_id"]] for row in before] == before


def test_good_clips_are_those_of_a_run_without_the_bad_ones(good, mixed):
    workflow, bad = mixed
    n_compared = 0
    for path in sorted((good.root / "results").glob("*/**/000?.parquet")):
        after = pq.read_table(workflow.root / path.relative_to(good.root)).to_pylist()
        assert [row for row in after if row["clip_id"] not in bad] == pq.read_table(path).to_pylist(), path
        n_compared += len(after)
    assert n_compared == 5 * (30 + len(bad))


def test_the_submission_has_a_row_for_every_test_clip_and_says_which_had_no_audio(mixed):
    workflow, _ = mixed
    corpus = read_corpus(workflow.corpus)
    assert check_submission(workflow.root / SUBMISSION, corpus).problems == []
    silent = {
        clip["clip_id"]
        for clip in json.loads((workflow.root / "results/fusion/fusion.json").read_text())[
            "test_clips_without_audio"
        ]
    }
    quality = pq.read_table(workflow.root / "results/quality/clips.parquet").to_pylist()
    expected = {
        row["clip_id"] for row in quality if row["split"] == "Test" and row["raw_status"] in WITHOUT_AUDIO
    }
    assert silent == expected and len(silent) > 8
    model = workflow.root / f"results/models/{SYSTEM}/0"
    priors = json.loads((model / "config.json").read_text())["priors"]
    test = read_predictions(model / "test.parquet")
    for row, clip_id in enumerate(test.clip_id):
        is_prior = test.age[row] == priors["age"] and list(test.emotion[row]) == priors["emotion"]
        assert is_prior == (clip_id in silent), clip_id


def test_nothing_of_a_name_was_run_or_written_elsewhere(mixed):
    workflow, _ = mixed
    assert not list(workflow.root.rglob("here")) and not (workflow.root / "x").exists()
    assert {path.name for path in workflow.corpus.iterdir()} >= {"data_info.csv", "raw"}
    assert [path.name for path in (workflow.root / "outside").iterdir()] == ["secret.wav"]


def test_too_many_broken_clips_stop_the_run_after_decoding(good, tmp_path):
    """For each processor that is free, and with keep-going, as the default profile has it."""
    workflow = good.copy(tmp_path / "workflow")
    for folder in ("results/models", "results/audio/dc", "results/features"):
        shutil.rmtree(workflow.root / folder)
    recordings = sorted((workflow.corpus / "raw").iterdir())
    for path in recordings[:5]:
        path.write_text("not found\n")
    for path in recordings[5:7]:
        path.unlink()
    printed = workflow.run(f"results/models/{SYSTEM}/0/val.parquet", flags=("--cores", "6"), check=False)
    reasons = "7 of 30 clips have no audio (23.3%), more than corpus.max_bad_fraction allows (10.0%)"
    names = [path.stem for path in recordings]
    words = "not a recording in a known format, or its beginning is damaged"
    unreadable = f"- 5 unreadable: {words} ({', '.join(names[:3])}, ...)"
    # Where it happened, and again at the end of the run.
    for said in (reasons, unreadable, f"- 2 missing: no recording ({', '.join(names[5:7])})"):
        assert said in printed.partition("Error in rule check_clips")[2]
        assert any(said in line for line in printed.splitlines()[-12:]), said
    started = re.findall(r"^Job \d+: (.+)$", printed, re.MULTILINE)
    decoding = [f"Decoding shard {shard} (raw)" for shard in ("0000", "0001")]
    assert sorted(started) == ["Counting clips without audio (raw)", *decoding]
    assert not (workflow.root / "results/audio/dc").exists()


def test_a_table_with_little_in_it_still_runs_to_a_whole_submission(good, tmp_path):
    """No Val, no age, one country, no Test labels, and a system that has nothing to learn from."""
    workflow = good.copy(tmp_path / "workflow")
    alone = {"stage": "vad", "feature": "opensmile", "encoder": "mlp", "tasks": ["age"]}
    workflow.config["systems"]["age-alone"] = alone
    workflow.config["fusions"] = {"all": {"systems": [SYSTEM, "age-alone"]}}
    (workflow.corpus / "test_labels.csv").unlink()
    rows = read_table(workflow)
    for row in rows:
        row.update(Age="", Country_string="Here" * bool(row["Country"]), Country="1" * bool(row["Country"]))
        if row["Split"] == "Val":
            row.update(Split="Train", Subject_ID="moved")
    write_table(workflow, rows)
    printed = workflow.run(SUBMISSION)
    assert "Notice: system age-alone is left out: no Train clip has a label of age." in printed
    record = json.loads((workflow.root / "results/fusion/fusion.json").read_text())
    assert list(record["systems"]) == [SYSTEM] and record["n_val_clips"] == 0
    assert any("age-alone" in notice for notice in record["notices"])
    corpus = read_corpus(workflow.corpus)
    assert check_submission(workflow.root / SUBMISSION, corpus).problems == []
    lines = (workflow.root / SUBMISSION).read_text().splitlines()
    assert len(lines) == 1 + sum(row["Split"] == "Test" for row in rows) and lines[1].split(",")[1] == "1"


def test_a_table_of_one_row_runs(good, tmp_path):
    workflow = good.copy(tmp_path / "workflow")
    workflow.config["corpus"]["shards"] = 1
    (workflow.corpus / "test_labels.csv").unlink()
    write_table(workflow, [next(row for row in read_table(workflow) if row["Split"] == "Train")])
    workflow.run(SUBMISSION)
    assert (workflow.root / SUBMISSION).read_text().count("\n") == 1


def test_what_exvo_check_says_of_files_is_a_notice_of_the_run(tmp_path):
    workflow = small_workflow(tmp_path / "workflow")
    shutil.rmtree(workflow.corpus / "wav")
    raw = workflow.corpus / "raw"
    (raw / "00001.webm").rename(raw / "1.webm")
    (raw / "00002.mp3").write_bytes(b"x")
    # Of raters and aligners, which come first by name: the recordings are read all the same.
    for name in ("00003.TextGrid", "00004.json", "00005.csv", "._00006.webm"):
        (raw / name).write_text("no recording")
    printed = workflow.run("results/audio/raw/0000.parquet", "results/audio/raw/0001.parquet")
    notices = [
        line.removeprefix("Notice: ") for line in printed.splitlines() if line.startswith("Notice: raw/")
    ]
    assert notices == [
        "raw/ has no recording of 00001 (meant '1'?): they are predicted without audio.",
        "raw/ has files without a row in data_info.csv: 1: they are ignored.",
        "raw/ has more than one file for 00002: the first by name is read (00002.mp3).",
    ]
    rows = [
        row
        for path in (workflow.root / "results/audio/raw").iterdir()
        for row in pq.read_table(path, columns=["clip_id", "status"]).to_pylist()
    ]
    assert {row["clip_id"] for row in rows if row["status"] in WITHOUT_AUDIO} == {"00001", "00002"}


def test_broken_test_labels_stop_the_run_before_any_job(tmp_path):
    workflow = small_workflow(tmp_path / "workflow")
    labels = workflow.corpus / "test_labels.csv"
    labels.write_text(labels.read_text().replace(",", ";"))
    printed = workflow.run(SUBMISSION, flags=("--dry-run",), check=False)
    assert "test_labels.csv: columns are separated by semicolons; save it with commas" in printed
    assert "Traceback" not in printed and "Decoding shard" not in printed
