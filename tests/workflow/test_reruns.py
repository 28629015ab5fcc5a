"""What runs again after a change, and nothing else: the exact set of jobs of a dry run."""

import csv
import os
import shutil
import time

import pytest

pytestmark = pytest.mark.xdist_group("workflow")

SHARDS = ("0000", "0001")
STAGES = ("baseline", "raw", "dc", "denoised", "vad")
FUSE = {"Fusing systems, writing the submission and the tables"}
QUALITY = {"Summarising the quality of every clip"}
PAGE = "results/report/report.html"
REPORT = {"Writing the report"}
KERNELS = {"Drawing the STRF kernels of conformer-strf, seed 0"}


def audio(*stages, shards=SHARDS):
    words = {"dc": "Filtering shard {}", "denoised": "Denoising shard {}", "vad": "Trimming shard {}"}
    return {
        words.get(stage, "Decoding shard {} (" + stage + ")").format(s) for stage in stages for s in shards
    }


def opensmile(*stages, shards=SHARDS):
    return {f"Extracting opensmile functionals of shard {s} ({stage})" for stage in stages for s in shards}


def logmel(shards=SHARDS):
    statistics = {"Computing the statistics of logmel over Train (raw)"}
    return {f"Extracting logmel spectrograms of shard {s} (raw)" for s in shards} | statistics


def feature_fusion(seeds=(0,)):
    return {f"Training the feature fusion feature-fusion, seed {seed}" for seed in seeds}


def pooled(*systems, seeds=(0,)):
    """What follows in the feature fusion when some of its systems are trained."""
    pooling = {f"Computing the embeddings of {name}, seed {seed}" for name in systems for seed in seeds}
    return pooling | feature_fusion(seeds) if pooling else set()


def train(*stages, seeds=(0,)):
    jobs = {f"Training mlp-{stage}, seed {seed}" for stage in stages for seed in seeds}
    return jobs | pooled(*(f"mlp-{stage}" for stage in stages if stage == "denoised"), seeds=seeds)


def conformers(seeds=(0,)):
    jobs = {f"Training conformer-{name}, seed {seed}" for name in ("logmel", "strf") for seed in seeds}
    return jobs | pooled("conformer-strf", seeds=seeds)


def embeddings(*stages, shards=SHARDS):
    return {f"Extracting hubert embeddings of shard {s} ({stage})" for stage in stages for s in shards}


def faster_and_slower(shards=SHARDS):
    return {f"Playing shard {s} (denoised) at speed {speed}" for s in shards for speed in ("0.9", "1.1")}


def decoders(*names, seeds=(0,)):
    jobs = {f"Training burst-hubert-tiny{name}, seed {seed}" for name in names for seed in seeds}
    return jobs | pooled(*(f"burst-hubert-tiny{name}" for name in names if name == "-denoised"), seeds=seeds)


POOLED = ("mlp-denoised", "conformer-strf", "burst-hubert-tiny-denoised")
BY_FEATURE = {
    f"Computing clip vectors of {what}"
    for what in ("opensmile (denoised)", "logmel (raw)", "hubert (denoised)")
}
ON_RAW, ON_DENOISED = ("", "-emotion", "-age", "-country"), ("-denoised", "-speed")
DENOISED = ("denoised", "denoised@0.9", "denoised@1.1")


def check(*stages):
    return {f"Counting clips without audio ({stage})" for stage in stages if stage in ("baseline", "raw")}


def after_audio(*stages, shards=SHARDS):
    """All that follows when the audio of some stages is made again.

    The Conformers read raw, the decoders of HuBERT embeddings raw and denoised.
    """
    jobs = audio(*stages, shards=shards) | check(*stages) | opensmile(*stages, shards=shards) | train(*stages)
    jobs |= QUALITY | FUSE
    if "raw" in stages:
        jobs |= logmel(shards) | conformers() | embeddings("raw", shards=shards) | decoders(*ON_RAW)
    if "denoised" in stages:
        jobs |= faster_and_slower(shards) | embeddings(*DENOISED, shards=shards) | decoders(*ON_DENOISED)
    return jobs


EVERYTHING = after_audio(*STAGES)
ALL_DECODERS = decoders(*ON_RAW, *ON_DENOISED)
TRAINING = train(*STAGES) | conformers() | ALL_DECODERS


@pytest.fixture
def workflow(finished, tmp_path):
    """A finished run in a place of its own: what a test edits, no other test sees."""
    # The copy keeps the times of all files, because Snakemake compares them.
    return finished.copy(tmp_path / "workflow")


def edit_table(workflow, change, name="data_info.csv"):
    path = workflow.corpus / name
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def edit_text(path, old, new):
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))


def shard_of(clip_id):
    from exvo.corpus.shards import stable_hash

    return f"{stable_hash(clip_id) % 2:04d}"


def test_nothing_changed_nothing_runs(workflow):
    assert workflow.planned() == set()
    assert workflow.planned(PAGE) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"report": {"clips": ["00001"]}}, REPORT),
        ({"audio": {"vad": {"threshold": 0.2}}}, after_audio("vad") | REPORT),
        (
            {"encoders": {"conformer": {"patience": 3}, "hubert": {"max_epochs": 2, "patience": 2}}},
            conformers() | FUSE | KERNELS | REPORT,
        ),
        ({"statistics": {"resamples": 500}}, FUSE | REPORT),
        # Not in any table or fusion, but the report shows the complete config.
        ({"systems": {"spare": {"stage": "vad", "feature": "opensmile", "encoder": "mlp"}}}, REPORT),
    ],
)
def test_the_report_is_written_anew_when_what_it_shows_changes(workflow, change, expected):
    workflow.config |= change
    assert workflow.planned(PAGE) == expected


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("page/page.html.j2", "<footer>", '<footer class="last">', REPORT),
        ("page/clips.py", "MAX_SECONDS = 6.0", "MAX_SECONDS = 5.0", REPORT),
        ("page/clips.py", "# Longer clips are not chosen", "# Longer ones are not chosen", set()),
        ("figures/strf.py", "COLUMNS = 6", "COLUMNS = 5", KERNELS | REPORT),
    ],
)
def test_the_report_is_written_anew_when_its_looks_change(workflow, file, old, new, expected):
    edit_text(workflow.root / "src/exvo/report" / file, old, new)
    assert workflow.planned(PAGE) == expected


def test_a_label_reaches_the_report(workflow):
    edit_table(workflow, lambda rows: rows[0].update(Age="33.5"), "test_labels.csv")
    assert workflow.planned(PAGE) == FUSE | REPORT


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("audio.convert", "max_seconds", 50, EVERYTHING),
        ("corpus", "max_bad_fraction", 0.2, check(*STAGES) | TRAINING | FUSE),
        ("audio.highpass", "peak_dbfs", -2, after_audio("dc", "denoised", "vad")),
        ("audio.denoise", "alpha", 0.97, after_audio("denoised", "vad")),
        ("audio.vad", "threshold", 0.2, after_audio("vad")),
        ("audio.vad", "above_noise_db", None, after_audio("vad")),
        ("features.opensmile", "feature_set", "eGeMAPSv02", opensmile(*STAGES) | train(*STAGES) | FUSE),
        ("features.logmel", "n_mels", 64, logmel() | conformers() | FUSE),
        (
            "features.hubert",
            "layers",
            [4],
            embeddings("raw", *DENOISED) | ALL_DECODERS | FUSE,
        ),
        ("encoders.hubert", "head", 16, ALL_DECODERS | FUSE),
        ("encoders.mlp", "learning_rate", 2e-3, train(*STAGES) | FUSE),
        ("encoders.conformer", "patience", 3, conformers() | FUSE),
        ("systems.mlp-dc", "training", {"patience": 4}, train("dc") | FUSE),
        ("fusions.weighted", "step", 0.2, FUSE),
        ("fusions", "paper", None, FUSE),
        ("fusions", "feature-fusion", None, FUSE),
        ("feature_fusion", "dropout", 0.1, feature_fusion() | FUSE),
        ("fusions.feature-fusion", "training", {"head": 16}, feature_fusion() | FUSE),
        ("fusions.feature-fusion", "systems", ["conformer-strf", "mlp-denoised"], feature_fusion() | FUSE),
        (
            "fusions.feature-fusion",
            "systems",
            ["conformer-strf", "mlp-vad"],
            pooled("mlp-vad") | FUSE,
        ),
        ("fusions.feature-fusion", "inputs", "features", BY_FEATURE | feature_fusion() | FUSE),
        ("statistics", "resamples", 500, FUSE),
        ("statistics", "folds", 4, FUSE),
        ("", "submission", "weighted", FUSE),
        ("tables.table1", "vad", None, FUSE),
    ],
)
def test_a_config_section_reruns_what_rests_on_it(workflow, section, key, value, expected):
    place = workflow.config
    for name in section.split(".") if section else ():
        place = place.setdefault(name, {})
    place[key] = value
    if section == "systems.mlp-dc":  # all keys of a system are given
        place.update(stage="dc", feature="opensmile", encoder="mlp")
    assert workflow.planned() == expected


def test_another_seed_trains_that_seed_only(workflow):
    workflow.config["seeds"] = [0, 7]
    assert workflow.planned() == (
        train(*STAGES, seeds=(7,))
        | conformers(seeds=(7,))
        | decoders(*ON_RAW, *ON_DENOISED, seeds=(7,))
        | FUSE
    )


def test_two_values_swapped_are_seen(workflow):
    workflow.config["audio"] = {"vad": {"min_speech_ms": 100, "min_silence_ms": 64}}
    assert workflow.planned() == after_audio("vad")


def test_a_default_written_out_changes_nothing(workflow):
    workflow.config["audio"] = {"vad": {"threshold": 0.5}}
    assert workflow.planned() == set()


def test_a_label_retrains_and_extracts_nothing(workflow):
    def older(rows):
        next(row for row in rows if row["Split"] == "Train")["Age"] = "33.5"

    edit_table(workflow, older)
    assert workflow.planned() == TRAINING | FUSE


def test_a_speaker_renamed_only_fuses(workflow):
    def rename(rows):
        old = next(row for row in rows if row["Split"] == "Train")["Subject_ID"]
        for row in rows:
            row["Subject_ID"] = "someone" if row["Subject_ID"] == old else row["Subject_ID"]

    edit_table(workflow, rename)
    assert workflow.planned() == FUSE


def test_a_test_label_only_scores(workflow):
    edit_table(workflow, lambda rows: rows[0].update(Age="33.5"), "test_labels.csv")
    assert workflow.planned() == FUSE


def test_a_touched_table_changes_nothing(workflow):
    os.utime(workflow.corpus / "data_info.csv")
    assert workflow.planned() == set()


def test_a_new_clip_runs_its_shard(workflow):
    shutil.copy(workflow.corpus / "raw" / "00000.webm", workflow.corpus / "raw" / "90000.webm")
    shutil.copy(workflow.corpus / "wav" / "00000.wav", workflow.corpus / "wav" / "90000.wav")
    edit_table(workflow, lambda rows: rows.append(rows[0] | {"File_ID": "[90000]"}))
    assert workflow.planned() == after_audio(*STAGES, shards=[shard_of("90000")])


def test_a_removed_clip_runs_its_shard(workflow):
    gone = []

    def remove(rows):
        gone.append(rows.pop(next(i for i, row in enumerate(rows) if row["Split"] == "Train"))["File_ID"])

    edit_table(workflow, remove)
    assert workflow.planned() == after_audio(*STAGES, shards=[shard_of(gone[0].strip("[]"))])


def test_another_number_of_shards_makes_all_anew(workflow):
    workflow.config["corpus"]["shards"] = 1
    jobs = after_audio(*STAGES, shards=["0000"])
    assert workflow.planned() == jobs


def test_a_changed_recording_runs_its_shard_of_the_stages_made_from_it(workflow):
    (workflow.corpus / "raw" / "00003.webm").write_bytes(
        (workflow.corpus / "raw" / "00004.webm").read_bytes()
    )
    assert workflow.planned() == after_audio("raw", "dc", "denoised", "vad", shards=[shard_of("00003")])


def test_a_file_of_no_clip_changes_nothing(workflow):
    (workflow.corpus / "raw" / "notes.txt").write_text("not a clip")
    assert workflow.planned() == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("audio/silero.py", "STATE_SIZE = 128", "STATE_SIZE = 64 * 2", after_audio("vad")),
        (
            "audio/stage_denoised.py",
            "**asdict(measures)",
            "**dict(asdict(measures))",
            after_audio("denoised", "vad"),
        ),
        (
            "features/opensmile.py",
            "MIN_SAMPLES = 960",
            "MIN_SAMPLES = 961",
            opensmile(*STAGES) | train(*STAGES) | FUSE,
        ),
        (  # the front end of burst-hubert-tiny is log-mel too
            "features/logmel.py",
            "/ 27",
            "/ 27.0",
            logmel() | conformers() | embeddings("raw", *DENOISED) | ALL_DECODERS | FUSE,
        ),
        (
            "hubert/encoder.py",
            "RECEPTIVE_FIELD = 400",
            "RECEPTIVE_FIELD = 200 * 2",
            embeddings("raw", *DENOISED) | ALL_DECODERS | FUSE,
        ),
        (
            "networks/strf.py",
            "NORM_FLOOR = 1e-3",
            "NORM_FLOOR = 0.001 * 1",
            conformers() | FUSE,
        ),
        ("networks/mlp.py", "NEGATIVE_SLOPE = 0.01", "NEGATIVE_SLOPE = 0.02 / 2", train(*STAGES) | FUSE),
        (
            "networks/fusion_network.py",
            'kind: ClassVar[str] = "feature_fusion"',
            'kind: ClassVar[str] = str("feature_fusion")',
            feature_fusion() | FUSE,
        ),
        ("systems/utterance_embeddings.py", "batch_size=1,", "batch_size=+1,", pooled(*POOLED) | FUSE),
        ("features/vectors.py", "mean(axis=0)", "mean(0)", TRAINING | FUSE),
        ("training/vectors.py", "_BLOCK_BATCHES = 64", "_BLOCK_BATCHES = 32", TRAINING | FUSE),
        ("report/tables/systems_layout.py", '"uar": 3,', '"uar": 4,', FUSE),
        ("audio/silero.py", "# samples the model reads", "# what the model reads", set()),
    ],
)
def test_an_edited_module_reruns_the_rules_that_use_it(workflow, module, old, new, expected):
    edit_text(workflow.root / "src/exvo" / module, old, new)
    assert workflow.planned() == expected


def test_a_touched_script_reruns_its_rule(workflow):
    """The engine's own doing: it trusts the time of a script, so scripts are thin and seldom change."""
    time.sleep(0.01)
    os.utime(workflow.root / "workflow/scripts/trim_clips.py")
    assert workflow.planned() == after_audio("vad")


def test_speed_perturbation_adds_audio_of_train_and_its_features(workflow):
    entry = {
        "stage": "raw",
        "feature": "logmel",
        "encoder": "conformer",
        "training": {"speed_perturbation": True},
    }
    workflow.config["systems"] = {"conformer-logmel": entry}
    expected = {f"Playing shard {s} (raw) at speed {speed}" for s in SHARDS for speed in ("0.9", "1.1")}
    expected |= {
        f"Extracting logmel spectrograms of shard {s} (raw@{speed})"
        for s in SHARDS
        for speed in ("0.9", "1.1")
    }
    assert workflow.planned() == expected | {"Training conformer-logmel, seed 0"} | FUSE


def test_a_variant_of_a_feature_is_extracted_beside_it(workflow):
    workflow.config["features"] = {"variants": {"hubert-random": {"source": "random"}}}
    control = {"stage": "raw", "feature": "hubert-random", "encoder": "hubert", "tasks": ["age"]}
    workflow.config |= {"systems": {"control": control}, "tables": {"table3": {"control": "control"}}}
    expected = {f"Extracting hubert-random embeddings of shard {s} (raw)" for s in SHARDS}
    assert workflow.planned() == expected | {"Training control, seed 0"} | FUSE


def test_fine_tuning_adds_the_front_end_of_its_stage(workflow):
    entry = {"stage": "vad", "feature": "hubert", "encoder": "hubert", "training": {"fine_tune": {}}}
    workflow.config["systems"] = {"fine-tuned": entry}
    expected = {f"Extracting hubert front-end frames of shard {s} (vad)" for s in SHARDS}
    expected |= {"Training fine-tuned, seed 0"}
    assert workflow.planned("results/models/fine-tuned/0/val.parquet") == expected
    # It is in no fusion and no table.
    assert workflow.planned() == set()
    workflow.config["fusions"] = {"both": {"systems": ["mlp-vad", "fine-tuned"]}}
    assert workflow.planned() == expected | FUSE


def test_the_figure_of_the_filter_is_drawn_anew_with_the_filter(workflow):
    figure = "results/figures/highpass.png"
    workflow.run(figure)
    workflow.config["audio"] = {"vad": {"threshold": 0.2}}
    assert workflow.planned(figure) == set()
    workflow.config["audio"] = {"highpass": {"peak_dbfs": -2}}
    assert workflow.planned(figure) == {"Plotting the response of the high-pass filter"}


def test_fewer_clips_by_limit_runs_all_stages_again(workflow):
    workflow.config["corpus"]["limit"] = 8
    assert workflow.planned() == EVERYTHING


def test_a_broken_config_is_refused_with_the_key(workflow):
    workflow.config["audio"] = {"vad": {"treshold": 0.2}}
    assert "treshold" in workflow.run(flags=("--dry-run",), check=False)


def test_stages_that_the_corpus_cannot_have_are_left_out_with_a_notice(workflow):
    shutil.rmtree(workflow.corpus / "wav")
    printed = workflow.run(flags=("--dry-run",))
    assert "system mlp-baseline is left out" in printed
    assert "(baseline)" not in printed
