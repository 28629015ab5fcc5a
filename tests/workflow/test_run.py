"""A true run from recordings to the submission, and what it leaves behind."""

import base64
import csv
import json
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from exvo.audio.store import read_shard
from exvo.cli import app
from exvo.corpus.labels import EMOTIONS
from exvo.corpus.table import read_corpus, read_test_labels
from exvo.evaluation.check_submission import check_submission
from exvo.evaluation.metrics import score
from exvo.evaluation.predictions import read_predictions
from exvo.evaluation.submission import read_submission

pytestmark = pytest.mark.xdist_group("workflow")


@pytest.fixture(scope="module")
def results(finished):
    return finished.root / "results"


def test_the_submission_keeps_to_the_format(finished, results):
    corpus = read_corpus(finished.corpus)
    findings = check_submission(results / "fusion/test_preds.csv", corpus)
    assert findings.problems == []
    with (results / "fusion/test_preds.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["File_ID", "Country", "Age", *EMOTIONS]
    test = corpus.labels.split == "Test"
    assert [row[0] for row in rows[1:]] == list(corpus.file_ids[test])


def test_exvo_score_says_what_the_workflow_wrote(finished, results):
    corpus = read_corpus(finished.corpus)
    run = CliRunner().invoke(app, ["score", str(results / "fusion/test_preds.csv"), str(finished.corpus)])
    assert run.exit_code == 0, run.output
    record = json.loads((results / "fusion/fusion.json").read_text())["test"]["fusion"]
    scores = score(read_test_labels(corpus), read_submission(results / "fusion/test_preds.csv", corpus))
    assert f"{scores.mae:.4f}" in run.output and f"{scores.ccc:.4f}" in run.output
    # The submission rounds to 4 and 6 places; the record is of the predictions before that.
    assert record["mae"] == pytest.approx(scores.mae, abs=1e-4)
    assert record["ccc"] == pytest.approx(scores.ccc, abs=1e-5) and record["uar"] == scores.uar


def test_every_clip_has_a_row_at_every_step(finished, results):
    labels = read_corpus(finished.corpus).labels
    everyone = sorted(labels.clip_id)
    for stage in ("baseline", "raw", "dc", "denoised", "vad"):
        shards = sorted((results / "audio" / stage).glob("*.parquet"))
        found = [clip.clip_id for shard in shards for clip in read_shard(shard)]
        assert sorted(found) == everyone, stage
        features = [
            pq.read_table(p, columns=["clip_id"]) for p in (results / "features/opensmile" / stage).glob("*")
        ]
        assert sorted(name for table in features for name in table["clip_id"].to_pylist()) == everyone
    assert pq.read_table(results / "quality/clips.parquet")["clip_id"].to_pylist() == everyone
    for split in ("Val", "Test"):
        predictions = read_predictions(results / f"models/mlp-vad/0/{split.lower()}.parquet")
        assert list(predictions.clip_id) == list(labels.clip_id[labels.split == split])
        np.testing.assert_allclose(predictions.country.sum(axis=1), 1, rtol=1e-6)
        assert predictions.emotion.min() >= 0 and predictions.emotion.max() <= 1


def test_the_stages_do_what_they_say(results):
    def clips(stage):
        return {
            clip.clip_id: clip.audio
            for shard in sorted((results / "audio" / stage).glob("*.parquet"))
            for clip in read_shard(shard)
        }

    raw, dc, denoised, vad = (clips(stage) for stage in ("raw", "dc", "denoised", "vad"))
    for name in raw:
        assert len(raw[name]) == len(dc[name]) == len(denoised[name]) >= len(vad[name])
        assert np.abs(dc[name]).max() == pytest.approx(10 ** (-1 / 20), abs=2**-15)
        assert abs(dc[name].mean()) < 1e-4
    quality = pq.read_table(results / "quality/clips.parquet").to_pylist()
    for row in quality:
        start, end = row["vad_start"], row["vad_end"]
        np.testing.assert_array_equal(vad[row["clip_id"]], denoised[row["clip_id"]][start:end])


def test_the_table_and_the_record_agree_with_the_predictions(finished, results):
    labels = read_corpus(finished.corpus).labels
    val = labels.take(labels.split == "Val")
    with (results / "tables/table1.csv").open() as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["baseline", "raw", "dc", "denoised", "vad"]
    for stage, row in rows.items():
        scores = score(val, read_predictions(results / f"models/mlp-{stage}/0/val.parquet"))
        assert float(row["mae_mean"]) == pytest.approx(scores.mae, abs=1e-4)
        assert float(row["uar_mean"]) == pytest.approx(scores.uar, abs=1e-4)
        assert float(row["ccc_mean"]) == pytest.approx(scores.ccc, abs=1e-4)
    assert rows["raw"]["paper_s_mtl"] == "0.352"


@pytest.mark.parametrize("model", ["models/mlp-vad", "models/conformer-strf", "fusion/feature-fusion"])
def test_one_recording_is_predicted_as_in_the_workflow(finished, results, tmp_path, model):
    labels = read_corpus(finished.corpus).labels
    clip_id = labels.clip_id[labels.split == "Test"][0]
    model = results / model / "0"
    recording = finished.corpus / "raw" / f"{clip_id}.webm"
    command = ["predict", str(recording), str(tmp_path / "gone.wav"), "--model", str(model)]
    run = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "answers.csv")])
    assert run.exit_code == 1 and f"error: {tmp_path / 'gone.wav'}: no such file" in run.stderr, run.output
    with (tmp_path / "answers.csv").open() as file:
        there, gone = csv.DictReader(file)
    expected = read_predictions(model / "test.parquet")
    row = list(expected.clip_id).index(clip_id)
    assert float(there["Age"]) == pytest.approx(expected.age[row], rel=1e-4)
    for position, name in enumerate(EMOTIONS):
        assert float(there[name]) == pytest.approx(expected.emotion[row, position], abs=1e-4)
    assert gone["status"] == "missing" and gone["Age"] == gone["Awe"] == ""


def test_the_same_command_gives_the_same_bytes(finished, results, tmp_path):
    again = finished.copy(tmp_path / "again")
    targets = ["results/models/mlp-denoised/0/test.parquet", "results/audio/denoised/0000.parquet"]
    before = {target: (again.root / target).read_bytes() for target in targets}
    again.run(*targets, flags=("--forcerun", "denoise_clips"))
    for target in targets:
        assert (again.root / target).read_bytes() == before[target], target


def test_snakemakes_own_report_holds_page_tables_and_figures_in_one_file(finished, results, tmp_path):
    whole = tmp_path / "whole.html"
    finished.run("results/report/report.html", flags=("--report", str(whole)))
    text = whole.read_text()
    files = ["report/report.html", "tables/table4.html", "tables/emotions.csv"]
    files += [f"figures/strf/conformer-strf_0_{name}.png" for name in ("kernels", "paths")]
    for name in files:
        # Longer than what files of a kind have in common, and free of the padding at the end.
        inside = base64.b64encode((results / name).read_bytes()[:3000]).decode().rstrip("=")[:-1]
        assert inside in text, name
    assert list(tmp_path.iterdir()) == [whole]


def test_the_figures_are_there_to_ask_for(finished, results):
    finished.run("figures")
    for name in ("highpass", "strf/conformer-strf_0_kernels", "strf/conformer-strf_0_paths"):
        assert (results / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_shows_this_run(finished, results):
    page = (results / "report/report.html").read_text()
    record = json.loads((results / "fusion/fusion.json").read_text())
    assert f"{record['test']['fusion']['s_mtl']:.3f}" in page
    assert page.count("<audio") == 25 and "Kernels of conformer-strf, seed 0" in page
    assert "Without benchmark files" not in page and str(finished.root) not in page


def test_snakemakes_own_report_holds_the_tables_and_the_page(finished, tmp_path):
    finished.run("results/report/report.html", flags=("--report", str(tmp_path / "engine.zip")))
    with zipfile.ZipFile(tmp_path / "engine.zip") as archive:
        names = " ".join(archive.namelist())
    for name in ("report.html", "table1.html", "table4.md", "conformer-strf_0_kernels.png"):
        assert name in names, name


def test_a_feature_fusion_reads_one_vector_a_clip_of_each_of_its_systems(finished, results):
    everyone = sorted(read_corpus(finished.corpus).labels.clip_id)
    record = json.loads((results / "fusion/feature-fusion/0/config.json").read_text())
    widths = []
    for name in record["system"]["systems"]:
        stem = results / f"utterance_embeddings/systems/{name}/0"
        index = pq.read_table(stem.with_suffix(".parquet"))
        assert sorted(index["clip_id"].to_pylist()) == everyone
        frames = np.load(stem.with_suffix(".npy"))
        assert len(frames) == sum(index["n_frames"].to_pylist()) and frames.dtype == np.float32
        widths.append(frames.shape[1])
    # The shared layer of the organisers' network, and a vector for each of three tasks.
    assert widths == record["network"]["widths"] == [64, 3 * 64, 3 * 64]
    fusion = json.loads((results / "fusion/fusion.json").read_text())["fusions"]["feature-fusion"]
    assert list(fusion["systems"]) == record["system"]["systems"] and fusion["feature_fusion"]["n_seeds"] == 1
    val = json.loads((results / "fusion/feature-fusion/0/metrics.json").read_text())["val"]
    assert fusion["out_of_fold_val"]["ccc"] == pytest.approx(val["ccc"])
    with (results / "tables/table4.csv").open() as file:
        rows = [row["system"] for row in csv.DictReader(file)]
    # What a constant scores, the reference, single systems, then their fusions.
    assert rows[0] == "Train prior (no audio)" and rows[1].startswith("organisers' network")
    assert rows[2:7] == [
        "HuBERT: burst-hubert-tiny",
        "HuBERT + denoise: burst-hubert-tiny",
        "HuBERT + denoise + speed perturbation: burst-hubert-tiny",
        "Conformer (STRF)",
        "Conformer (log-mel)",
    ]
    fusions = ["weighted", "stacked", "per-task", "paper", "feature-fusion"]
    assert [row for row in rows[7:] if row in fusions] == fusions


def test_logmel_is_normalised_over_train_only(finished, results):
    statistics = json.loads((results / "features/logmel/raw/statistics.json").read_text())
    labels = read_corpus(finished.corpus).labels
    assert statistics["n_clips"] == (labels.split == "Train").sum() and len(statistics["mean"]) == 80


def test_a_system_of_one_task_predicts_that_task_only(results):
    predictions = read_predictions(results / "models/burst-hubert-tiny-age/0/val.parquet")
    assert np.isfinite(predictions.age).all()
    assert np.isnan(predictions.emotion).all() and np.isnan(predictions.country).all()
    table = (results / "tables/table2.csv").read_text().splitlines()
    assert table[2].startswith("age only,1,,,")


def test_it_runs_from_anywhere_on_another_corpus(finished, tmp_path):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--directory", tmp_path, "--dry-run"]
    command += ["--snakefile", finished.root / "workflow/Snakefile", "results/fusion/test_preds.csv"]
    command += ["--config", f"corpus={{root: {finished.corpus}, limit: 20, shards: 3}}"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Decoding shard 0002 (raw)" in run.stdout + run.stderr


def test_a_failing_job_shows_its_real_error(finished, tmp_path):
    broken = finished.copy(tmp_path / "broken")
    (broken.root / "results/audio/dc/0000.parquet").write_bytes(b"no parquet at all")
    printed = broken.run("results/audio/denoised/0000.parquet", check=False)
    assert "Parquet magic bytes not found" in printed and "Traceback" in printed


def test_the_workflow_passes_its_linter(finished):
    assert "Congratulations" in finished.run(flags=("--lint",))
