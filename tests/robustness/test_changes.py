"""True runs: after each change, the files that rest on it have other contents, and no other file is touched.

`tests/workflow/test_reruns.py` says which jobs are planned; here they run, and what they write is compared. Every
change is made on top of those before it. EXVO_CHANGES=all makes all of them (`make test-changes`).
"""

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from all_kinds import FEATURE_FUSION, POOLED, SYSTEMS, TARGETS, Snapshot, matching
from workflow_copy import Workflow

from exvo.corpus.shards import stable_hash

pytestmark = pytest.mark.xdist_group("all kinds")

OUTCOME = (
    *(f"fusion/{name}" for name in ("fusion.json", "test_preds.csv", "val_out_of_fold.parquet")),
    "tables/*", "report/*",
)  # fmt: skip
# In which tables a system stands.
TABLES = {"mlp": "1", "logmel": "23", "strf": "3", "frozen": "3", "fine-tuned": "3"}
ON_RAW = ("logmel", "strf", "fine-tuned")
PRETRAINED = ("clusters/*", "pretrain/*")
STRF_FIGURES = ("figures/strf/*",)
# Models of feature fusions: their weights show other vectors, their other files and the index of the vectors may not.
FEATURE_FUSIONS = ("fusion/feature-fusion*/*",)
FEATURE_FUSION_WEIGHTS = tuple(f"fusion/{name}/*/model.safetensors" for name in FEATURE_FUSION)
FEATURE_FUSION_PERHAPS = (*FEATURE_FUSIONS, "utterance_embeddings/*.parquet")


def models(*systems: str) -> tuple[str, ...]:
    return tuple(f"models/{system}/*" for system in systems)


def pooled(*systems: str, ending: str = "*") -> tuple[str, ...]:
    return tuple(f"utterance_embeddings/systems/{system}/*.{ending}" for system in systems)


def shown(*systems: str) -> tuple[str, ...]:
    """Where other predictions of systems are seen, whichever is submitted."""
    numbers = sorted({number for system in systems for number in TABLES[system]} | {"4"})
    # For readers, tables are rounded, and may round to what they were.
    return ("fusion/fusion.json", *(f"tables/table{number}.csv" for number in numbers), "report/*")


def parts(*folders: str, shard: str = "????") -> tuple[str, ...]:
    return tuple(f"{folder}/{shard}.*" for folder in folders)


@dataclass(frozen=True)
class Change:
    """A change and what must follow.

    Attributes
    ----------
    name : str
    make : callable
        Changes the workflow.
    made : tuple of str
        Patterns of all files that are made again.
    other : tuple of str
        Of those that then have other contents.
    perhaps : tuple of str
        Of those that may have: it takes more than a few clips to say.
    """

    name: str
    make: Callable[[Workflow], object]
    made: tuple[str, ...]
    other: tuple[str, ...]
    perhaps: tuple[str, ...] = ()


def setting(section: str, key: str, value: object) -> Callable[[Workflow], None]:
    def make(workflow: Workflow) -> None:
        place = workflow.config
        for name in section.split("."):
            place = place.setdefault(name, {})
        place[key] = value

    return make


def edit_table(name: str, change: Callable[[list[dict]], object]) -> Callable[[Workflow], None]:
    def make(workflow: Workflow) -> None:
        path = workflow.corpus / name
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        change(rows)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    return make


def older(rows: list[dict]) -> None:
    """Make all clips of Train a fifth older, and one much older.

    One alone would not move the median, which is the prior; all alike might change no sign of the loss's gradient.
    """
    ages = [row for row in rows if row["Split"] == "Train" and row["Age"]]
    for row in ages:
        row["Age"] = f"{1.2 * float(row['Age']):.2f}"
    ages[0]["Age"] = "71.5"


NEW = "90000"
SHARD = f"{stable_hash(NEW) % 2:04d}"


def new_test_clip(workflow: Workflow) -> None:
    for old, new in (("raw/00000.webm", f"raw/{NEW}.webm"), ("wav/00000.wav", f"wav/{NEW}.wav")):
        shutil.copy(workflow.corpus / old, workflow.corpus / new)

    def add(rows: list[dict]) -> None:
        rows.append(dict.fromkeys(rows[0], "") | {"File_ID": f"[{NEW}]", "Split": "Test"})

    edit_table("data_info.csv", add)(workflow)


def touch_recordings(workflow: Workflow) -> None:
    for path in (workflow.corpus / "raw").iterdir():
        os.utime(path)


def edit_comment(workflow: Workflow) -> None:
    path = workflow.root / "src/exvo/audio/convert.py"
    path.write_text(path.read_text() + "# The end.\n")


MADE_BY_VAD = ("audio/vad/*", "features/opensmile/*", "models/mlp/*")
VAD = (*MADE_BY_VAD, *pooled("mlp"), "utterance_embeddings/features/opensmile/*", *FEATURE_FUSIONS)
OTHER_VAD = (
    *MADE_BY_VAD,
    *pooled("mlp", ending="npy"),
    "utterance_embeddings/features/opensmile/*.npy",
    *FEATURE_FUSION_WEIGHTS,
)
DENOISED = (
    "audio/denoised/*", "features/hubert/*", "models/frozen/*", *pooled("frozen"),
    "utterance_embeddings/features/hubert/*", *VAD,
)  # fmt: skip
# What the denoiser changes of them: clips keep their lengths, and so the index of their frames.
OTHER_DENOISED = (
    "audio/denoised/*", "features/hubert/*.npy", "models/frozen/*", *pooled("frozen", ending="npy"),
    "utterance_embeddings/features/hubert/*.npy", *OTHER_VAD,
)  # fmt: skip
RAW = (
    "utterance_embeddings/*",
    "audio/raw*/*", "audio/dc/*", "features/logmel/*", "features/hubert_frontend/*", *models(*ON_RAW), *PRETRAINED,
    *STRF_FIGURES, *DENOISED,
)  # fmt: skip
CHANGES = [
    Change(
        "a label of Test",
        edit_table("test_labels.csv", lambda rows: rows[0].update(Age="71.5")),
        OUTCOME,
        ("fusion/fusion.json", "tables/table4.*", "report/*"),
        perhaps=("tables/groups.*", "tables/emotions.*"),
    ),
    Change(
        "silence kept by VAD",
        setting("audio.vad", "pad_ms", 30),
        (*VAD, "quality/clips.parquet", "quality/summary.md", *OUTCOME),
        (*OTHER_VAD, "quality/clips.parquet", *shown("mlp")),
        perhaps=("quality/summary.md", *OUTCOME, *FEATURE_FUSION_PERHAPS),
    ),
    Change(
        "a setting of one training",
        setting("systems.strf.training", "d_attention", 8),
        (*models("strf"), *pooled("strf"), "fusion/feature-fusion/*", *STRF_FIGURES, *OUTCOME),
        (*models("strf"), *pooled("strf", ending="npy"), FEATURE_FUSION_WEIGHTS[0], *shown("strf")),
        perhaps=(*STRF_FIGURES, *OUTCOME, "fusion/feature-fusion/*"),
    ),
    Change(
        "a setting of the denoiser",
        setting("audio.denoise", "alpha", 0.9),
        (*DENOISED, "quality/clips.parquet", "quality/summary.md", *OUTCOME),
        (*OTHER_DENOISED, "quality/clips.parquet", *shown("mlp", "frozen")),
        perhaps=("quality/summary.md", *OUTCOME, *FEATURE_FUSION_PERHAPS),
    ),
    Change(
        "a setting of the high-pass filter",
        setting("audio.highpass", "stop_hz", 15),
        ("audio/dc/*", *DENOISED, "figures/highpass.png", "quality/clips.parquet", "quality/summary.md", *OUTCOME),
        ("audio/dc/*", *OTHER_DENOISED, "figures/highpass.png", "quality/clips.parquet", *shown("mlp", "frozen")),
        perhaps=("quality/summary.md", *OUTCOME, *FEATURE_FUSION_PERHAPS),
    ),
    Change(
        "a new clip of Test",
        new_test_clip,
        (
            *parts("audio/*", "features/*", shard=SHARD), "features/logmel/*/statistics.json", "quality/*",
            *models(*SYSTEMS), "utterance_embeddings/*", *FEATURE_FUSIONS, *STRF_FIGURES, *PRETRAINED, *OUTCOME,
        ),
        # Nothing that is fitted on Train or measured on Val has seen it, nor is it played at another speed.
        (
            *parts("audio/raw", "audio/dc", "audio/denoised", "audio/vad", shard=SHARD),
            *parts("features/*/raw", "features/*/denoised", "features/*/vad", shard=SHARD), "quality/*",
            "models/*/test.parquet", "utterance_embeddings/*", "fusion/feature-fusion*/test.parquet",
            "fusion/test_preds.csv", "fusion/fusion.json", "report/*",
        ),
        perhaps=("tables/*",),
    ),
    Change(
        "labels of Train",
        edit_table("data_info.csv", older),
        (*models(*SYSTEMS), *pooled(*POOLED), *FEATURE_FUSIONS, *STRF_FIGURES, *OUTCOME),
        (*models(*SYSTEMS), *pooled(*POOLED, ending="npy"), *FEATURE_FUSION_WEIGHTS, *shown(*SYSTEMS)),
        perhaps=(*STRF_FIGURES, *OUTCOME, *FEATURE_FUSIONS),
    ),
    Change(
        "the share of clips that may be broken",
        setting("corpus", "max_bad_fraction", 0.2),
        ("quality/check_raw.json", *models(*SYSTEMS), *pooled(*POOLED), *FEATURE_FUSIONS, *STRF_FIGURES, *OUTCOME),
        # The check counts the same clips; the report shows the config.
        ("report/*",),
    ),
    Change(
        "the number of resamples",
        setting("statistics", "resamples", 120),
        OUTCOME,
        ("fusion/fusion.json", "report/*"),
        perhaps=("tables/*",),
    ),
    Change(
        "the layers of the HuBERT that are read",
        setting("features.hubert", "layers", [2, 4]),
        (
            "features/hubert/*", "utterance_embeddings/features/hubert/*", *models("frozen", "fine-tuned"),
            *pooled("frozen", "fine-tuned"), *FEATURE_FUSIONS, *OUTCOME,
        ),
        (
            "features/hubert/*.npy", "utterance_embeddings/features/hubert/*.npy", *models("frozen", "fine-tuned"),
            *pooled("frozen", "fine-tuned", ending="npy"), *FEATURE_FUSION_WEIGHTS, *shown("frozen", "fine-tuned"),
        ),
        perhaps=(*OUTCOME, *FEATURE_FUSIONS),
    ),
    Change(
        "the clusters of a pre-training",
        setting("pretrain.clusters.mfcc", "k", 6),
        # The report shows the config.
        (*PRETRAINED, "report/*"),
        ("clusters/*/clusters.*", "clusters/*.npy", "pretrain/*.safetensors", "pretrain/*.csv", "report/*"),
        perhaps=("pretrain/*.json",),
    ),
    Change("which clips the report plays", setting("report", "clips", ["00001"]), ("report/*",), ("report/*",)),
    Change("a comment in the code", edit_comment, (), ()),
    Change(
        "recordings that are touched",
        touch_recordings,
        (*RAW, "quality/*", *OUTCOME),
        (),
    ),
]  # fmt: skip
# Few, and of few jobs, for every day.
EVERY_DAY = ("a label of Test", "silence kept by VAD", "a setting of one training")
MADE = [c for c in CHANGES if os.environ.get("EXVO_CHANGES") == "all" or c.name in EVERY_DAY]


@pytest.fixture(scope="module")
def workflow(all_kinds, tmp_path_factory):
    return all_kinds.copy(tmp_path_factory.mktemp("changes") / "workflow")


@pytest.mark.parametrize("change", MADE, ids=lambda change: change.name)
def test_a_change_reaches_the_files_that_rest_on_it_and_no_others(workflow, change):
    before = Snapshot(workflow)
    change.make(workflow)
    workflow.run(*TARGETS)
    after = Snapshot(workflow)
    paths = after.content
    assert set(before.content) <= set(paths)
    made = {path for path in paths if after.times[path] != before.times.get(path)}
    assert made == matching(paths, change.made)
    found = {path for path in paths if after.content[path] != before.content.get(path)}
    perhaps, other = matching(paths, change.perhaps), matching(paths, change.other)
    assert found - perhaps == other - perhaps and found >= other
    assert workflow.planned(*TARGETS) == set()
