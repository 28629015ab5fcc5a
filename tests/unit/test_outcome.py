"""The last rule on synthetic predictions: its choices and scores, and that Test does not affect the choices."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_stacking import make_labels, predict
from typer.testing import CliRunner

from exvo.cli import app
from exvo.corpus.labels import EMOTIONS
from exvo.corpus.table import read_corpus, read_test_labels
from exvo.evaluation.bootstrap import BootstrapConfig
from exvo.evaluation.metrics import score
from exvo.evaluation.predictions import read_predictions, write_predictions
from exvo.evaluation.submission import read_submission
from exvo.fusion.fuse import CrossFit, FusionConfig, Run, fuse
from exvo.report.outcome import OutcomePaths, OutcomePlan, write_outcome
from exvo.report.tables.emotion_table import emotion_correlations

SYSTEMS = ("good", "fair", "poor")
TABLES = {
    "table1": {"raw": "good", "vad": "poor"},
    "table2": {"emotion only": "good", "multitask": "fair"},
    "table3": {"Conformer (STRF)": "good", "mine": "poor"},
}
FUSIONS = (
    FusionConfig("weighted", SYSTEMS),
    FusionConfig("stacked", SYSTEMS, rule="stacked"),
    FusionConfig("paper", ("good", "fair"), rule="paper"),
)


REFERENCE = "organisers' network (raw)"
AVERAGED = f"{REFERENCE}, seeds averaged"
# The system of the row Conformer (STRF) in Table 3 is the reference, so Table 4 has it once.
FIRST_ROWS = ["Train prior (no audio)", REFERENCE, "mine"]


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class Made:
    """A corpus of Val and Test clips, and predictions of three systems with two seeds each."""

    def __init__(self, root):
        random = np.random.default_rng(0)
        self.root, self.runs = root, {}
        parts = {}
        for split, letter in (("Val", "v"), ("Test", "t"), ("Train", "n")):
            labels = make_labels(random, 14, 8)
            ids = np.array([f"{letter}{i}" for i in range(len(labels))], dtype=object)
            names = np.char.add(letter, labels.speaker.astype(str))
            parts[split] = replace(labels, clip_id=ids, speaker=names)
        self.train = parts.pop("Train")
        # Far from the mean: most of Train is young.
        self.train = replace(self.train, age=np.where(self.train.age < 33, 22.0, self.train.age))
        self.parts = parts
        self.write_table("data_info.csv", [*parts.items(), ("Train", self.train)], blind=True)
        self.write_table("test_labels.csv", [("Test", parts["Test"])])
        for name, noise in zip(SYSTEMS, (0.7, 1.1, 2.5), strict=True):
            self.runs[name] = []
            for seed in range(2):
                pair = []
                for split, labels in parts.items():
                    path = root / f"{name}_{seed}_{split}.parquet"
                    write_predictions(path, predict(random, labels.clip_id, labels, noise))
                    pair.append(path)
                self.runs[name].append(tuple(pair))
        ids = [clip_id for labels in parts.values() for clip_id in labels.clip_id]
        snr = [None if i % 9 == 0 else float(i % 45) for i in range(len(ids))]
        quality = {"clip_id": ids, "status": ["ok"] * len(ids), "reason": [""] * len(ids)}
        pq.write_table(pa.table(quality | {"denoised_snr_before_db": snr}), root / "quality.parquet")

    def write_table(self, name, parts, blind=False):
        rows = []
        for split, labels in parts:
            for i, clip_id in enumerate(labels.clip_id):
                known = not (blind and split == "Test")
                cells = [labels.country[i], labels.age[i], *labels.emotion[i]]
                cells = cells if known else [""] * len(cells)
                head = {"File_ID": f"[{clip_id}]", "Split": split, "Subject_ID": labels.speaker[i]}
                rows.append(head | dict(zip(("Country", "Age", *EMOTIONS), cells, strict=True)))
        write_csv(self.root / name, rows)

    def predictions(self, name, split):
        """The seeds of a system for Val or Test."""
        return [read_predictions(pair[split == "Test"]) for pair in self.runs[name]]

    def write(self, folder, submission=None, fusions=FUSIONS, tables=TABLES):
        paths = OutcomePaths(
            folder / "test_preds.csv", folder / "fusion.json", folder / "val.parquet", folder
        )
        plan = OutcomePlan(
            fusions, submission, tables, BootstrapConfig(resamples=200), CrossFit(4), ["stage x is left out"]
        )
        write_outcome(read_corpus(self.root), self.runs, plan, self.root / "quality.parquet", paths)
        return json.loads(paths.fusion.read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcome")
    return folder, made.write(folder)


def rows_of(folder, table):
    with (folder / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_best_candidate_is_submitted_and_said_to_be(made, written):
    folder, record = written
    candidates = record["selection"]["candidates"]
    s_mtl = [candidate["out_of_fold_val"]["s_mtl"] for candidate in candidates]
    assert s_mtl == sorted(s_mtl, reverse=True) and len(candidates) == 6
    assert record["name"] == record["selection"]["submitted"] == candidates[0]["name"]
    assert record["selection"]["asked_for"] == "best" and record["statistics"]["folds"] == 4
    corpus = read_corpus(made.root)
    found = score(read_test_labels(corpus), read_submission(folder / "test_preds.csv", corpus))
    assert record["test"]["fusion"]["ccc"] == pytest.approx(found.ccc, abs=1e-5)
    interval = record["test"]["intervals"]["ccc"]
    assert interval["low"] < found.ccc < interval["high"]


def test_exvo_score_shows_intervals_where_speakers_are_known(made, written, tmp_path):
    folder, record = written
    command = ["score", str(folder / "test_preds.csv"), str(made.root)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    interval = record["test"]["intervals"]["uar"]  # of 200 resamples there, 1,000 here
    (line,) = [line for line in run.output.splitlines() if line.startswith("country")]
    low, high = (float(part) for part in line.split("[")[1].split("]")[0].split(","))
    assert low == pytest.approx(interval["low"], abs=0.05) and high == pytest.approx(
        interval["high"], abs=0.05
    )
    assert "1000 resamples of 14 speakers" in run.output
    paths = [made.root / "test_labels.csv", made.root / "data_info.csv"]
    texts = [path.read_text() for path in paths]
    try:
        for path, text in zip(paths, texts, strict=True):
            write_csv(path, [row | {"Subject_ID": ""} for row in csv.DictReader(text.splitlines())])
        run = CliRunner().invoke(app, command)
    finally:
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
    assert run.exit_code == 0 and "[" not in run.output.split("emotion")[1] and "No intervals" in run.output


def test_a_fusion_that_is_named_is_submitted(made, tmp_path):
    record = made.write(tmp_path, submission="paper")
    assert record["name"] == record["selection"]["submitted"] == "paper"
    assert record["selection"]["runner_up"] == record["selection"]["candidates"][0]["name"] != "paper"


def test_a_single_system_can_be_the_best(made, tmp_path):
    bad = (FusionConfig("avg", ("good", "poor"), rule="average"),)
    record = made.write(tmp_path, fusions=bad)
    assert (record["name"], record["kind"]) == ("good", "system")
    rows = [row["system"] for row in rows_of(tmp_path, "table4")]
    assert rows == [*FIRST_ROWS, "avg", AVERAGED]
    # It is the best single system itself, and the reference too: what is left is its own seeds.
    assert [one["name"] for one in record["comparisons"]] == [REFERENCE, AVERAGED]
    assert record["comparisons"][1]["differences"]["ccc"]["value"] == 0


def test_a_feature_fusion_is_scored_as_the_systems_are(made, tmp_path, monkeypatch):
    monkeypatch.setitem(made.runs, "joined", made.runs["good"])
    joined = FusionConfig("joined", ("fair", "poor"), rule="feature_fusion")
    record = made.write(tmp_path, fusions=(FusionConfig("avg", ("good", "poor"), rule="average"), joined))
    found = {c["name"]: c for c in record["selection"]["candidates"]}
    assert found["joined"]["out_of_fold_val"] == found["good"]["out_of_fold_val"]
    assert (found["joined"]["kind"], found["joined"]["systems"]) == ("fusion", ["fair", "poor"])
    assert (
        record["fusions"]["joined"]["feature_fusion"]["n_seeds"] == 2
        and record["fusions"]["avg"]["feature_fusion"] is None
    )
    rows = {row["system"]: row for row in rows_of(tmp_path, "table4")}
    assert list(rows) == [*FIRST_ROWS, "avg", "joined", AVERAGED]
    # Its seeds are trained models, and their SD is that of its row in Table 4.
    assert rows["joined"]["ccc_sd"] == rows[REFERENCE]["ccc_sd"] != ""
    assert record["name"] == "joined" and rows["joined"]["paper_s_mtl"] == ""


def test_table_4_scores_test_with_the_papers_figures_beside(made, written):
    folder, record = written
    rows = {row["system"]: row for row in rows_of(folder, "table4")}
    assert list(rows) == [*FIRST_ROWS, "weighted", "stacked", "paper", AVERAGED]
    assert (rows["paper"]["paper_s_mtl"], rows["weighted"]["paper_s_mtl"]) == ("0.412", "")
    for name, scores in record["test"]["fusions"].items():
        name = AVERAGED if name == "good" else name
        assert float(rows[name]["s_mtl_mean"]) == pytest.approx(scores["s_mtl"], abs=1e-4)
    mean = np.mean([scores["mae"] for scores in record["test"]["systems"]["good"]])
    assert float(rows[REFERENCE]["mae_mean"]) == pytest.approx(mean, abs=1e-4)
    assert rows[record["name"]]["ccc_diff"] == "" and rows["mine"]["ccc_p"] != ""


def test_table_4_says_what_a_constant_scores(made, written):
    folder, record = written
    (row,) = [row for row in rows_of(folder, "table4") if row["system"] == "Train prior (no audio)"]
    median = np.median(made.train.age)
    assert median == 22
    for labels, found in ((made.parts["Test"], record["test"]), (made.parts["Val"], record)):
        scores = found["train_prior"]
        assert scores["mae"] == pytest.approx(np.abs(labels.age - median).mean(), rel=1e-9)
        assert (scores["uar"], scores["ccc"], scores["s_mtl"]) == (pytest.approx(1 / 3), 0, None)
    assert (row["ccc_mean"], row["s_mtl_mean"], row["n_seeds"]) == ("0.0000", "", "0")
    assert float(row["mae_mean"]) == pytest.approx(record["test"]["train_prior"]["mae"], abs=1e-4)
    # Rules fitted on Val may give it weight.
    assert record["fusions"]["weighted"]["tasks"]["age"]["train_prior"]["years"] == median
    assert "train_prior" not in record["fusions"]["paper"]["tasks"]["age"]


def test_the_difference_from_the_reference_has_its_interval(made, written):
    folder, record = written
    labels = made.parts["Test"]
    mine = record["test"]["fusion"]
    seeds = [score(labels, seed) for seed in made.predictions("good", "Test")]
    mean = {metric: np.mean([getattr(s, metric) for s in seeds]) for metric in ("uar", "mae", "ccc", "s_mtl")}
    # The best single system is the reference here, so it is compared with its seeds averaged.
    by_seed, averaged = record["test"]["comparisons"]
    assert [by_seed["name"], averaged["name"]] == [REFERENCE, AVERAGED]
    for metric, value in mean.items():
        found = by_seed["differences"][metric]
        assert found["value"] == pytest.approx(mine[metric] - value, abs=1e-9)
        assert found["low"] <= found["value"] <= found["high"] and 0 < found["p"] <= 1
        assert by_seed["scores"][metric] == pytest.approx(value, abs=1e-9)
        assert by_seed["intervals"][metric]["low"] < value < by_seed["intervals"][metric]["high"]
    percent = by_seed["s_mtl_percent"]
    assert percent["value"] == pytest.approx(100 * (mine["s_mtl"] / mean["s_mtl"] - 1), abs=1e-6)
    assert percent["low"] < percent["value"] < percent["high"]
    assert percent["p"] == by_seed["differences"]["s_mtl"]["p"]
    text = (folder / "table4.md").read_text()
    assert f"The submission, {record['name']}, minus the reference" in text
    assert f"{percent['value']:+.1f} [{percent['low']:+.1f}, {percent['high']:+.1f}]" in text
    assert record["reference"] == REFERENCE


def test_without_table_1_there_is_no_reference_and_table_4_says_so(made, tmp_path):
    record = made.write(tmp_path, tables={"table3": TABLES["table3"]})
    assert record["reference"] is None
    assert [one["name"] for one in record["test"]["comparisons"]] == ["Conformer (STRF), seeds averaged"]
    rows = {row["system"]: row for row in rows_of(tmp_path, "table4")}
    assert rows["Conformer (STRF)"]["paper_s_mtl"] == "0.358" and "good" not in " ".join(rows)
    assert "No reference row: Table 1" in (tmp_path / "table4.md").read_text()


def test_sds_are_of_fusions_made_from_one_seed_at_a_time(made, written):
    folder, record = written
    rows = {row["system"]: row for row in rows_of(folder, "table4")}
    labels, val = made.parts["Test"], made.parts["Val"]
    runs = {n: list(map(Run, made.predictions(n, "Val"), made.predictions(n, "Test"))) for n in SYSTEMS}
    prior = float(np.median(made.train.age))
    for config in FUSIONS:
        found = [
            fuse(config, {n: r[i : i + 1] for n, r in runs.items()}, val, labels.clip_id, CrossFit(4), prior)
            for i in range(2)
        ]
        for split, part, told in (("test", labels, rows[config.name]), ("out_of_fold", val, None)):
            scores = [score(part, getattr(fusion, split)) for fusion in found]
            expected = {m: np.std([getattr(s, m) for s in scores], ddof=1) for m in ("ccc", "mae", "s_mtl")}
            (candidate,) = [c for c in record["selection"]["candidates"] if c["name"] == config.name]
            for metric, value in expected.items():
                shown = float(told[f"{metric}_sd"]) if told else candidate["sd"][metric]
                assert shown == pytest.approx(value, abs=6e-5), (config.name, split, metric)
            if split == "out_of_fold":
                spread = np.std([s.ccc_per_emotion[3] for s in scores], ddof=1)
                emotions = [r for r in rows_of(folder, "emotions") if r["candidate"] == config.name]
                assert float(emotions[3]["ccc_sd"]) == pytest.approx(spread, abs=6e-5)
                if config.name == record["name"]:
                    (whole, *_) = rows_of(folder, "groups")
                    assert float(whole["ccc_sd"]) == pytest.approx(expected["ccc"], abs=6e-5)
    # The best single system is there as a fusion of its seeds.
    mean = np.mean([seed.age for seed in made.predictions("good", "Test")], axis=0)
    error = np.abs(mean - labels.age).mean()
    assert float(rows[AVERAGED]["mae_mean"]) == pytest.approx(error, abs=1e-4)
    assert error < float(rows[REFERENCE]["mae_mean"]) and rows[AVERAGED]["n_seeds"] == "2"


def test_without_test_labels_table_4_is_blind(made, tmp_path):
    labels = made.root / "test_labels.csv"
    away = labels.rename(tmp_path / "away.csv")
    try:
        record = made.write(tmp_path)
    finally:
        away.rename(labels)
    assert "no test_labels.csv" in record["test"]["blind"]
    assert {row["ccc_mean"] for row in rows_of(tmp_path, "table4")} == {"blind"}
    assert "comparisons" not in record["test"]
    assert record["comparisons"][0]["differences"]["s_mtl"]["p"] is not None
    assert "| blind |" in (tmp_path / "table4.md").read_text()


def test_nothing_is_chosen_by_test(made, written, tmp_path):
    folder, before = written
    path = made.root / "test_labels.csv"
    text = path.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    try:
        write_csv(path, [row | {"Age": 21, "Country": 0} for row in rows])
        after = made.write(tmp_path)
    finally:
        path.write_text(text)
    assert before["test"] != after["test"]
    assert {k: v for k, v in before.items() if k != "test"} == {k: v for k, v in after.items() if k != "test"}
    for name in ("test_preds.csv", "table1.csv", "table2.md", "table3.html", "emotions.csv", "groups.csv"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_every_table_is_written_in_four_formats_with_the_notices(written):
    folder, _ = written
    for table in ("table1", "table2", "table3", "table4"):
        assert "stage x is left out." in (folder / f"{table}.md").read_text()
    for table in ("table1", "table2", "table3", "table4", "emotions", "groups"):
        assert rows_of(folder, table)
        for ending in ("md", "html", "json"):
            text = (folder / f"{table}.{ending}").read_text()
            assert "nan" not in text.lower(), (table, ending)
    assert "Difference from multitask" in (folder / "table2.md").read_text()
    assert "Difference from Conformer (STRF)" in (folder / "table3.md").read_text()


def test_emotions_have_their_ccc_and_what_they_are_taken_for(made, written):
    folder, record = written
    rows = rows_of(folder, "emotions")
    mine = [row for row in rows if row["candidate"] == record["name"]]
    assert [row["emotion"] for row in mine] == list(EMOTIONS)
    scores = record["out_of_fold_val"]["ccc_per_emotion"]
    for row, expected in zip(mine, scores, strict=True):
        assert float(row["ccc"]) == pytest.approx(expected, abs=1e-4)
        assert float(row["ccc_low"]) < expected < float(row["ccc_high"])
        assert row["n_clips"] == "112" and row["n_speakers"] == "14"
    labels = make_labels(np.random.default_rng(1))
    labels.emotion[:5, 2] = np.nan
    labels.emotion[:, 7] = 1.0
    predicted = predict(np.random.default_rng(2), labels.clip_id, labels)
    found = emotion_correlations(labels, predicted)
    expected = np.corrcoef(predicted.emotion[5:, 4], labels.emotion[5:, 2])[0, 1]
    assert found[4, 2] == pytest.approx(expected) and np.isnan(found[:, 7]).all()


def test_groups_are_scored_by_themselves(made, written):
    folder, record = written
    rows = {(row["kind"], row["group"]): row for row in rows_of(folder, "groups")}
    assert float(rows["all", "all"]["ccc"]) == pytest.approx(record["out_of_fold_val"]["ccc"], abs=1e-4)
    assert sum(int(row["n_clips"]) for (kind, _), row in rows.items() if kind == "SNR") == 112
    assert sum(int(row["n_clips"]) for (kind, _), row in rows.items() if kind == "country") == 112
    assert {name for kind, name in rows if kind == "SNR"} >= {"below 10 dB", "40 dB and over", "not measured"}
    # The mean error of all clips is that of the age bands, by their numbers of clips.
    bands = [row for (kind, _), row in rows.items() if kind == "age"]
    mean = sum(float(row["mae"]) * int(row["n_age"]) for row in bands) / 112
    assert float(rows["all", "all"]["mae"]) == pytest.approx(mean, abs=1e-3)


def test_the_paper_rule_takes_emotion_from_one_system(made, written):
    _, record = written
    tasks = record["fusions"]["paper"]["tasks"]
    assert tasks["emotion"]["weights"] == {"good": 1.0, "fair": 0.0}
    assert tasks["age"]["weights"] == {"good": 0.5, "fair": 0.5}
