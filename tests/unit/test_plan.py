import os
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from snakemake.utils import validate

from exvo.audio.check import check_corpus
from exvo.corpus.labels import EMOTIONS
from exvo.corpus.table import CorpusError
from exvo.workflow.config import complete
from exvo.workflow.feature_fusion_plan import FeatureFusionPlan
from exvo.workflow.plan import Plan
from exvo.workflow.systems import feature_settings

REPOSITORY = Path(__file__).parents[2]
SCHEMA = REPOSITORY / "workflow/schemas/config.schema.yaml"


def load(name="config.yaml"):
    return completed(yaml.safe_load((REPOSITORY / "config" / name).read_text()))


def completed(config):
    config = complete(config, yaml.safe_load(SCHEMA.read_text()))
    validate(config, SCHEMA, set_default=False)
    return config


def test_a_key_that_is_not_known_is_refused():
    config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    config["corpus"]["shard"] = 3
    with pytest.raises(Exception, match="shard"):
        completed(config)


@pytest.mark.parametrize(
    "variants",
    [{"hubert-x": {"layers": "all"}}, {"logmel-40": {"n_mel": 40}}, {"mfcc-20": {}}, {"hubert": {}}],
)
def test_a_variant_with_a_wrong_name_or_value_is_refused(variants):
    config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    config["features"]["variants"] = variants
    with pytest.raises(Exception, match="variants"):
        completed(config)


@pytest.fixture
def config(tmp_path):
    header = "File_ID,Split,Subject_ID,Country,Age," + ",".join(EMOTIONS)
    rows = [
        f"[{n:02d}],{split},{split[:2]}{n % 2},0,30," + ",".join(["1"] * 10)
        for n, split in enumerate(["Train"] * 6 + ["Val"] * 3 + ["Test"] * 3)
    ]
    (tmp_path / "data_info.csv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "raw").mkdir()
    for n in range(12):
        (tmp_path / "raw" / f"{n:02d}.webm").write_bytes(b"x")
    config = load()
    config["corpus"]["root"] = str(tmp_path)
    return config


def test_a_corpus_without_wav_has_no_baseline(config):
    plan = Plan(config)
    assert plan.stages == ("raw", "dc", "denoised", "vad")
    assert "mlp-baseline" not in plan.systems and len(plan.systems) == 17
    assert any("mlp-baseline is left out" in notice for notice in plan.notices)
    assert plan.tables()["table1"] == {stage: f"mlp-{stage}" for stage in plan.stages}


def test_only_stages_on_the_way_to_a_system_are_used(config):
    for name, system in config["systems"].items():
        if system["stage"] in ("baseline", "denoised", "vad"):
            config["systems"][name] = None
    assert Plan(config).used_stages() == ["raw", "dc"]


def test_names_that_do_not_exist_are_refused(config):
    config["submission"] = "all"
    with pytest.raises(CorpusError, match=r"all, but the fusions are: weighted, .*; or say best"):
        Plan(config)
    config["submission"] = "best"
    config["fusions"]["weighted"]["systems"] = ["mlp-raw", "mlp-rwa"]
    with pytest.raises(CorpusError, match="mlp-rwa"):
        Plan(config)
    for name in ("best", "mlp-raw"):
        config["fusions"] = {name: {"systems": ["mlp-raw"], "rule": "average"}}
        with pytest.raises(CorpusError, match="choose another name"):
            Plan(config)
    config["fusions"] = {"f": {"systems": ["mlp-raw"], "rule": "paper", "emotion_from": "x"}}
    with pytest.raises(CorpusError, match=r"fusions\.f\.emotion_from names x"):
        Plan(config)


def test_fusions_that_the_corpus_cannot_have_are_left_out(config):
    config["fusions"] = {
        "gone": None,
        "lone": {"systems": ["mlp-baseline"], "rule": "average"},
        "led": {
            "systems": ["mlp-raw", "mlp-baseline"],
            "rule": "paper",
            "emotion_from": "mlp-baseline",
        },
        "left": {"systems": ["mlp-vad", "mlp-baseline"], "rule": "weighted"},
    }
    plan = Plan(config)
    assert {name: entry["systems"] for name, entry in plan.fusions.items()} == {"left": ["mlp-vad"]}
    notices = " ".join(plan.notices)
    assert "fusion lone is left out: the corpus allows none" in notices
    assert "fusion led is left out: the corpus allows not mlp-baseline" in notices
    assert plan.outcome()["submission"] is None
    config["submission"] = "lone"
    with pytest.raises(CorpusError, match="submission names the fusion lone"):
        Plan(config)
    config["submission"], config["fusions"] = "best", {"gone": None}
    with pytest.raises(CorpusError, match="none of the fusions"):
        Plan(config)


def test_a_feature_fusion_reads_each_of_its_systems_once(config):
    systems = ["mlp-raw", "conformer-strf", "conformer-logmel", "mlp-baseline"]
    config["fusions"] = {
        "mid": {
            "systems": systems,
            "rule": "feature_fusion",
            "inputs": "embeddings",
            "training": {"head": 7},
        },
        "low": {"systems": systems[::-1], "rule": "feature_fusion", "inputs": "features", "training": {}},
    }
    plan = Plan(config)
    fused = FeatureFusionPlan(plan)
    assert fused.vectors("mid", 2, "npy") == [
        f"results/utterance_embeddings/systems/{name}/2.npy" for name in systems[:3]
    ]
    # Both Conformers read the same log-mel; no network comes before, so no seed.
    assert fused.vectors("low", 2, "parquet") == [
        "results/utterance_embeddings/features/logmel/raw.parquet",
        "results/utterance_embeddings/features/opensmile/raw.parquet",
    ]
    assert fused.embedded_systems() == systems[:3]
    assert plan.feature_files("conformer-strf")[:1] == ["results/features/logmel/raw/0000.npy"]
    assert [path[-7:] for path in plan.feature_files("mlp-raw")] == ["parquet"] * len(plan.shards)
    settings = fused.settings("mid")
    assert settings["systems"] == systems[:3] and settings["tasks"] == ["emotion", "age", "country"]
    assert settings["training"] == {**config["feature_fusion"], "head": 7}
    config["encoders"]["hubert"]["fine_tune"] = {}
    config["fusions"]["low"]["systems"] = ["burst-hubert-tiny", "mlp-raw"]
    config["fusions"]["mid"]["systems"] = ["burst-hubert-tiny-age", "burst-hubert-tiny-emotion"]
    fused = FeatureFusionPlan(Plan(config))
    assert (
        fused.vectors("low", 0, "npy")[0] == "results/utterance_embeddings/features/hubert_frontend/raw.npy"
    )
    assert fused.settings("mid")["tasks"] == ["emotion", "age"]


def test_a_feature_fusion_with_one_system_is_left_out(config):
    entry = {"systems": ["mlp-raw", "mlp-baseline"], "rule": "feature_fusion", "training": {}}
    config["fusions"] = {
        "lone": {**entry, "inputs": "embeddings"},
        "same": {
            "systems": ["conformer-strf", "conformer-logmel"],
            "rule": "feature_fusion",
            "inputs": "features",
            "training": {},
        },
        "left": {"systems": ["mlp-vad"], "rule": "average"},
    }
    plan = Plan(config)
    assert any("fusion same is left out: the corpus allows only one feature" in n for n in plan.notices)
    assert plan.feature_fusions() == [] and list(plan.fusions) == ["left"]
    assert (
        "fusion lone is left out: the corpus allows only mlp-raw of its systems, and a feature fusion needs two"
        in plan.notices
    )
    config["submission"] = "lone"
    with pytest.raises(CorpusError, match="submission names the fusion lone, but the corpus allows only"):
        Plan(config)


def test_training_of_a_fusion_is_checked(config):
    config["fusions"]["feature-fusion"]["training"] = {"dropuot": 0.1}
    with pytest.raises(CorpusError, match=r"fusions\.feature-fusion\.training has no key dropuot"):
        Plan(config)
    config["fusions"]["feature-fusion"]["training"] = {}
    config["fusions"]["weighted"]["training"] = {"dropout": 0.1}
    with pytest.raises(CorpusError, match=r"fusions\.weighted\.training: only a feature fusion is trained"):
        Plan(config)


def test_rows_of_tables_keep_the_order_of_the_config(config):
    rows = list(config["tables"]["table3"].items())
    rows_by_table = dict(Plan(config).outcome()["tables"])
    assert rows_by_table["table3"] == [list(row) for row in rows] and rows != sorted(rows)


def test_a_corpus_without_recordings_is_refused(config, tmp_path):
    (tmp_path / "raw").rename(tmp_path / "recordings")
    with pytest.raises(CorpusError, match=r"no clip of data_info\.csv has a file in raw/ or wav/"):
        Plan(config)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "of-no-clip.webm").write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"no clip of data_info\.csv has a file in raw/ or wav/"):
        Plan(config)


def test_a_folder_without_recordings_of_clips_makes_no_stage(config, tmp_path):
    (tmp_path / "wav").mkdir()
    plan = Plan(config)
    assert "baseline" not in plan.stages
    assert "stage baseline is left out: no clip of the corpus has a file in wav/" in plan.notices
    (tmp_path / "wav" / "00.wav").write_bytes(b"x")
    assert "baseline" in Plan(config).stages


def test_a_section_is_a_plain_mapping_whatever_the_order_of_its_keys(config):
    section = Plan(config).section("audio.vad")
    assert section == config["audio"]["vad"]
    config["audio"]["vad"] = dict(reversed(config["audio"]["vad"].items()))
    # Snakemake compares the texts of parameters.
    assert repr(Plan(config).section("audio.vad")) == repr(section)


def test_clips_name_the_files_of_a_shard(config, tmp_path):
    (tmp_path / "raw" / "03.webm").unlink()
    plan = Plan(config)
    named = {}
    for shard in plan.shard_names():
        named |= plan.clips("raw", shard)["files"]
    assert named["02"] == "02.webm" and named["03"] is None and len(named) == 12


def test_embeddings_follow_the_weights(config, tmp_path):
    plan = Plan(config)
    options = config["features"]["hubert"]
    options["source"] = "checkpoint"
    with pytest.raises(ValueError, match="hubert_fairseq_base_ls960"):
        plan.hubert_files("hubert")
    options["checkpoint"] = str(tmp_path / "model.pt")
    (tmp_path / "model.pt").write_bytes(b"one")
    first = plan.weights("hubert")
    assert plan.hubert_files("hubert") == [options["checkpoint"]]
    assert plan.feature("hubert") == options
    assert plan.frontend("hubert")["layers"] == "frontend"
    assert "max_batch_frames" not in plan.frontend("hubert")
    (tmp_path / "model.pt").write_bytes(b"two")
    assert Plan(config).weights("hubert") != first


def test_a_variant_is_its_feature_with_some_keys_changed(config):
    config["features"]["variants"] = {"hubert-random": {"source": "random", "layers": [2]}, "logmel-40": None}
    config["systems"]["control"] = {**config["systems"]["burst-hubert-tiny"], "feature": "hubert-random"}
    plan = Plan(config)
    changed = config["features"]["hubert"] | {"source": "random", "layers": [2]}
    assert plan.systems["control"].feature_config == changed
    assert plan.systems["burst-hubert-tiny"].feature_config == config["features"]["hubert"]
    assert plan.feature("hubert-random") == changed
    assert plan.feature_names("hubert") == ["hubert", "hubert-random"]
    assert plan.feature_names("logmel") == ["logmel"]
    assert plan.feature_files("control")[0].startswith("results/features/hubert-random/raw/")


@pytest.mark.parametrize(
    ("variant", "checkpoint", "sha256"),
    [
        ({"layers": [2]}, "a.pt", "0" * 64),
        ({"source": "checkpoint", "checkpoint": "a.pt"}, "a.pt", "0" * 64),
        ({"checkpoint": "b.pt"}, "b.pt", None),
        ({"checkpoint": "b.pt", "sha256": "1" * 64}, "b.pt", "1" * 64),
        ({"source": "bundled"}, None, None),
        ({"source": "bundle", "sha256": "1" * 64}, None, "1" * 64),
        ({"bundle": "HUBERT_LARGE"}, "a.pt", None),
    ],
)
def test_a_variant_with_other_weights_has_not_the_checksum_of_the_first(config, variant, checkpoint, sha256):
    config["features"]["hubert"] |= {"source": "checkpoint", "checkpoint": "a.pt", "sha256": "0" * 64}
    config["features"]["variants"] = {"hubert-x": variant}
    found = feature_settings(config, "hubert-x")
    assert (found["checkpoint"], found["sha256"]) == (checkpoint, sha256)
    assert found | variant == found


def test_messages_name_the_variant_they_are_of(config, tmp_path):
    config["features"]["variants"] = {"hubert-x": {"source": "checkpoint", "checkpoint": "no.pt"}}
    plan = Plan(config)
    for ask in (plan.hubert_files, plan.weights):
        with pytest.raises(
            ValueError, match=r"config: features\.variants\.hubert-x\.checkpoint: no\.pt does not exist"
        ):
            ask("hubert-x")


@pytest.mark.parametrize(
    ("feature", "variant", "message"),
    [
        ("hubert-base", None, "there is no feature hubert-base; the features are: opensmile, logmel, hubert"),
        ("hubert-base", {"layer": 3}, "features.variants.hubert-base has no key layer"),
        ("opensmile-e", {"feature_set": "eGeMAPSv02"}, "hubert reads hubert or logmel, not opensmile-e"),
    ],
)
def test_a_variant_that_is_not_there_or_does_not_fit_is_refused(config, feature, variant, message):
    config["features"]["variants"] = {feature: variant}
    config["systems"]["burst-hubert-tiny"]["feature"] = feature
    with pytest.raises(CorpusError, match=message):
        Plan(config)


def test_an_encoder_reads_features_of_another_kind(config):
    entry = config["systems"]["mlp-raw"]
    config["systems"] |= {
        "mlp-hubert": entry | {"feature": "hubert"},
        "hubert-logmel": entry | {"feature": "logmel", "encoder": "hubert"},
    }
    plan = Plan(config)
    assert plan.feature_files("mlp-hubert")[0] == "results/features/hubert/raw/0000.npy"
    assert plan.feature_files("hubert-logmel")[0] == "results/features/logmel/raw/0000.npy"
    # Both standardise by themselves, and need no file of statistics.
    assert plan.statistics("mlp-hubert") == plan.statistics("hubert-logmel") == []
    config["systems"]["hubert-logmel"]["training"] = {"fine_tune": {}}
    with pytest.raises(CorpusError, match=r"systems\.hubert-logmel: fine_tune trains a HuBERT further"):
        Plan(config)


def edit_labels(root, change):
    lines = (root / "data_info.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    for row in rows:
        change(row)
    table = [lines[0], *(",".join(row.values()) for row in rows)]
    (root / "data_info.csv").write_text("\n".join(table) + "\n")


def test_a_system_whose_tasks_have_no_train_label_is_left_out_with_a_notice(config, tmp_path):
    def no_age_on_train(row):
        row["Age"] = "" if row["Split"] == "Train" else row["Age"]

    edit_labels(tmp_path, no_age_on_train)
    plan = Plan(config)
    assert "burst-hubert-tiny-age" not in plan.systems and "mlp-raw" in plan.systems
    assert "system burst-hubert-tiny-age is left out: no Train clip has a label of age" in plan.notices
    assert "age only" not in plan.tables()["table2"]
    assert "burst-hubert-tiny-age" not in plan.compared_systems()


def test_a_corpus_without_any_label_says_what_is_missing(config, tmp_path):
    edit_labels(tmp_path, lambda row: row.update(dict.fromkeys(("Age", "Country", *EMOTIONS), "")))
    with pytest.raises(CorpusError, match=r"no system is left.*no Train clip has a label.*data_info\.csv"):
        Plan(config)


def test_a_corpus_without_train_is_refused(config, tmp_path):
    edit_labels(tmp_path, lambda row: row.update(Split="Test", Subject_ID=""))
    with pytest.raises(CorpusError, match=r"data_info\.csv: no clip of the split Train"):
        Plan(config)


def test_emotion_of_the_papers_fusion_comes_from_a_system_that_predicts_it(config):
    fusion = {"systems": ["burst-hubert-tiny-age", "mlp-raw"], "rule": "paper"}
    config["fusions"]["paper"].update(fusion)
    with pytest.raises(CorpusError, match=r"burst-hubert-tiny-age.*fusions\.paper\.emotion_from"):
        Plan(config)
    config["fusions"]["paper"]["emotion_from"] = "mlp-raw"
    assert Plan(config).fusions["paper"]["emotion_from"] == "mlp-raw"
    config["fusions"]["paper"]["emotion_from"] = "mlp-dc"
    with pytest.raises(CorpusError, match=r"names mlp-dc, which is not in its systems"):
        Plan(config)


def test_the_check_of_a_system_is_of_the_recordings_it_comes_from(config, tmp_path):
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "00.wav").write_bytes(b"x")
    plan = Plan(config)
    assert plan.check("mlp-vad") == plan.check("mlp-raw") == "results/quality/check_raw.json"
    assert plan.check("mlp-baseline") == "results/quality/check_baseline.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("File_ID;Split;Age\n[09];Test;30\n", r"test_labels\.csv: columns are separated by semicolons"),
        (
            "File_ID,Split,Age\n[9],Test,30\n",
            r"test_labels\.csv has 1 problem:\n- File_ID must be as in data_info\.csv \(line 2: '9', meant '09'\?\)",
        ),
        (
            "File_ID,Split,Age\n[x],Test,30\n",
            r"test_labels\.csv: none of its 1 clips is a Test clip of data_info\.csv \(line 2: 'x'",
        ),
        ("File_ID,Split,Age\n[09],Test,thirty\n", r"Age must be a number or empty \(line 2: 'thirty'\)"),
        ("File_ID,Split,Country\n[09],Test,7\n", r"Country must be one of those in data_info\.csv"),
        ("File_ID,Split,Age\n[09],Test,30\n[09],Test,30\n", "occurs more than once"),
    ],
)
def test_test_labels_are_checked_before_any_job(config, tmp_path, text, message):
    (tmp_path / "test_labels.csv").write_text(text)
    with pytest.raises(CorpusError, match=message):
        Plan(config).check_sources()


def test_test_labels_of_a_part_of_the_clips_will_do(config, tmp_path):
    labels = tmp_path / "test_labels.csv"
    labels.write_text("File_ID,Split,Age\n[09],Test,30\n[77],Test,30\n[00],Train,30\n")
    Plan(config).check_sources()
    # Of a corpus that is cut short, none need be left.
    labels.write_text("File_ID,Split,Age\n[77],Test,30\n")
    config["corpus"]["limit"] = 3
    Plan(config).check_sources()
    labels.unlink()
    Plan(config).check_sources()


def test_a_run_says_of_files_and_names_what_exvo_check_says(config, tmp_path):
    assert Plan(config).check_sources() == []
    raw = tmp_path / "raw"
    (raw / "03.webm").rename(raw / "003.webm")
    (raw / "04.webm").rename(raw / "04.txt")
    (raw / "05.wav").write_bytes(b"x")
    (raw / "06.json").write_bytes(b"x")
    (raw / "06.TextGrid").write_bytes(b"x")
    (raw / "._06.webm").write_bytes(b"x")
    Path(os.fsdecode(bytes(raw) + b"/b\xe9\n.webm")).write_bytes(b"x")
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "07.wav").write_bytes(b"x")
    (tmp_path / "test_labels.csv").write_text("File_ID,Split,Subject_ID\n[09],Test,VA0\n[10],Test,VA1\n")
    edit_labels(
        tmp_path, lambda row: row.update(Subject_ID=row["Subject_ID"] if row["Split"] != "Test" else "")
    )
    absent = [f"{n:02d}" for n in range(12) if n != 7]
    files = [
        f"wav/ has no recording of {', '.join(absent[:5])} and 6 more: they are predicted without audio",
        "raw/ has no recording of 03 (meant '003'?), 04 (there is 04.txt, which is not a recording by its ending): they"
        " are predicted without audio",
        "raw/ has files without a row in data_info.csv: 003, b\\xe9\\n: they are ignored",
        "raw/ has more than one file for 05: the first by name is read (05.wav)",
    ]
    names = [
        "speakers (Subject_ID of data_info.csv and test_labels.csv) may have several spellings, and each spelling"
        " counts separately: 'VA0' and 'Va0', 'VA1' and 'Va1'; use one spelling if they are the same"
    ]
    assert Plan(config).check_sources() == files + names
    report, problems = check_corpus(tmp_path, n_sample=0)
    assert sorted(problems) == sorted(files) and f"notice: {names[0]}" in report
    assert "  ignored, not named as recordings: .TextGrid (1), ._* (1), .json (1), .txt (1)" in report
    # What a limit leaves out has rows all the same.
    config["corpus"]["limit"] = 3
    assert not any("without a row" in finding for finding in Plan(config).check_sources())


def test_a_corpus_whose_ids_lost_their_zeros_is_reported(config, tmp_path):
    edit_labels(tmp_path, lambda row: row.update(File_ID=str(int(row["File_ID"].strip("[]")))))
    for n in (10, 11):
        (tmp_path / "raw" / f"{n}.webm").unlink()
    with pytest.raises(CorpusError, match=r"has the clip '0': meant '00', of raw/00\.webm\?"):
        Plan(config)


def test_paths_of_the_config_may_start_at_home(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    config["corpus"]["root"] = f"~/{tmp_path.name}"
    config["features"]["hubert"] |= {"source": "checkpoint", "checkpoint": f"$HOME/{tmp_path.name}/model.pt"}
    (tmp_path / "model.pt").write_bytes(b"one")
    plan = Plan(config)
    assert plan.table == str(tmp_path / "data_info.csv")
    assert plan.hubert_files("hubert") == [str(tmp_path / "model.pt")]
    config["corpus"]["root"] = "~/{corpus}"
    with pytest.raises(CorpusError, match=r"corpus\.root: .*braces"):
        Plan(config)


def test_clips_of_the_report_are_named_as_in_the_table(config, tmp_path):
    edit_labels(tmp_path, lambda row: row.update(File_ID=row["File_ID"].replace("03", "jos\u00e9")))
    config["report"]["clips"] = ["[jose\u0301]", "04"]
    Plan(config)
    config["report"]["clips"] = ["joe"]
    with pytest.raises(CorpusError, match="names joe"):
        Plan(config)


@pytest.mark.parametrize("named", ["", "raw", "data_info.csv", "test_labels.csv"])
@pytest.mark.parametrize("mode", [0, 0o444])
def test_what_may_not_be_read_is_named_with_what_to_do(config, tmp_path, named, mode):
    if mode and named.endswith("csv"):
        pytest.skip("a file that may be read")
    # Not under tmp_path, which nobody but its owner may enter.
    root, user = Path(tempfile.mkdtemp()), os.geteuid()
    try:
        shutil.copytree(tmp_path, root, dirs_exist_ok=True)
        (root / "test_labels.csv").write_text("File_ID,Split,Age\n[09],Test,30\n")
        config["corpus"]["root"] = str(root)
        for path in (root, root / "raw"):
            path.chmod(0o755)
        (root / named).chmod(mode)
        if user == 0:  # root may read everything, so for a moment the test is somebody else
            os.seteuid(65534)
        with pytest.raises(
            CorpusError, match=r"cannot be read \(Permission denied\).*permission to read"
        ) as raised:
            Plan(config).check_sources()
    finally:
        os.seteuid(user)
        root.chmod(0o755)
        (root / "raw").chmod(0o755)
        shutil.rmtree(root)
    assert str(raised.value).startswith(str(root / named))
