"""Runs that are killed, find the disk full or read-only, or meet another run: a rerun ends as an undisturbed run.

EXVO_KILLS says how often a run is killed; `make test-faults` kills 52 times, each rule twice, and each training once
while it trains. EXVO_SEED draws other moments.
"""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from itertools import cycle, islice

import pytest
from all_kinds import all_rules
from kills import PHASES, TRAINING, TRAINS, WRITES, kill_at, wait_for_job
from small_disk import small_disk
from small_run import SUBMISSION, results, small_workflow

from exvo.util.atomic import atomic_path

pytestmark = pytest.mark.xdist_group("robustness")

N_KILLS = int(os.environ.get("EXVO_KILLS", "3"))
SEED = int(os.environ.get("EXVO_SEED", "1"))
# A kill that is meant for a training is tried so often: one that goes on from a checkpoint may be over too soon.
MAX_TRIES = 4
SYSTEMS = ("mlp-vad", "conformer-strf", "burst-hubert-tiny")
FINE_TUNED = {
    "stage": "raw",
    "feature": "hubert",
    "encoder": "hubert",
    "training": {"fine_tune": {}, "projection": 8, "max_batch_frames": 200},
}
FEATURE_FUSION = {
    "feature-fusion": {"systems": list(SYSTEMS), "rule": "feature_fusion", "training": {"max_epochs": 4}},
    "feature-fusion-of-features": {
        "systems": list(SYSTEMS),
        "rule": "feature_fusion",
        "inputs": "features",
        "training": {"max_epochs": 4},
    },
}
SMALL = {"d_model": 16, "n_heads": 2, "ffn": 16, "n_layers": 1, "positional_groups": 2}
PRETRAIN = {
    "clusters": {
        "mfcc": {"of": "mfcc", "k": 8},
        "hidden": {"of": "hidden", "model": "first", "layer": 1, "k": 6},
    },
    "models": {
        "first": {"targets": ["mfcc"], "encoder": SMALL, "training": {"max_steps": 40, "report_every": 5}},
        "second": {
            "targets": ["hidden"],
            "encoder": SMALL | {"frontend": "conv", "conv_channels": 8},
            "training": {"max_steps": 10, "report_every": 2},
        },
    },
}
REPORT = "results/report/report.html"
FIGURES = [f"results/figures/strf/conformer-strf_0_{kind}.png" for kind in ("kernels", "paths")]
# A file of every rule (of train_system, one of each encoder) in the order in which a run comes to them; the last rule
# of a run writes the submission.
RULES = {
    "convert_clips": "results/audio/raw/0001.parquet",
    "check_clips": "results/quality/check_raw.json",
    "filter_clips": "results/audio/dc/0000.parquet",
    "denoise_clips": "results/audio/denoised/0000.parquet",
    "trim_clips": "results/audio/vad/0001.parquet",
    "perturb_clips": "results/audio/raw@0.9/0000.parquet",
    "extract_opensmile": "results/features/opensmile/vad/0000.parquet",
    "extract_logmel": "results/features/logmel/raw/0001.npy",
    "summarise_logmel": "results/features/logmel/raw/statistics.json",
    "extract_hubert": "results/features/hubert/raw/0000.npy",
    "extract_hubert_frontend": "results/features/hubert_frontend/raw/0001.npy",
    "fit_clusters": "results/clusters/mfcc/clusters.safetensors",
    "label_frames": "results/clusters/mfcc/0000.npy",
    "pretrain_hubert": "results/pretrain/first/model.safetensors",
    # Its files are removed once the encoder that reads them is there.
    "unpack_waveforms": "results/pretrain/second/model.safetensors",
    "train_system (mlp)": "results/models/mlp-vad/0/val.parquet",
    "train_system (conformer)": "results/models/conformer-strf/0/val.parquet",
    "train_system (hubert)": "results/models/fine-tuned/0/val.parquet",
    "pool_clips": "results/utterance_embeddings/systems/mlp-vad/0.npy",
    "summarise_clips": "results/utterance_embeddings/features/logmel/raw.npy",
    "train_feature_fusion": "results/fusion/feature-fusion/0/val.parquet",
    "summarise_quality": "results/quality/clips.parquet",
    "plot_highpass": "results/figures/highpass.png",
    "plot_strf": FIGURES[0],
    "write_report": REPORT,
    "fuse_systems": SUBMISSION,
}
ALL_RULES = len(RULES) <= N_KILLS
# A rule of each part of a run, for the few kills of every day.
FEW = ("convert_clips", "extract_opensmile", "train_system (mlp)")
TARGETS = sorted({SUBMISSION, *FIGURES, *RULES.values()}) if ALL_RULES else [SUBMISSION]


def rule_of(name):
    """Return the rule of a key of ``RULES``."""
    return name.partition(" ")[0]


def planned_kills():
    """Return of every kill: rule, victim, the share of the job's time that passes first, and whether of its training.

    Every rule meets another victim in each round; trainings are killed while they train in each second round, and in
    the few kills of every day.
    """
    draw = random.Random(SEED)
    rules = list(RULES if ALL_RULES else FEW)
    victims = cycle(["job", "snakemake", "both"])
    kills, n_rounds = [], 0
    while len(kills) < N_KILLS:
        n_rounds += 1
        aimed = not ALL_RULES or n_rounds % 2 == 0
        kills += [
            (rule, next(victims), draw.uniform(0, 1), aimed and rule_of(rule) in TRAINING)
            for rule in islice(rules, N_KILLS - len(kills))
        ]
        if len(rules) % 3 == 0:
            next(victims)
    return kills


def start(workflow, *flags):
    """Start Snakemake in a process group of its own and return it."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "test.yaml", *flags]
    with (workflow.root / "printed.txt").open("w") as printed:
        return subprocess.Popen(
            command, cwd=workflow.root, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
        )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    systems = SYSTEMS if ALL_RULES else SYSTEMS[:1]
    workflow = small_workflow(tmp_path_factory.mktemp("undisturbed") / "workflow", *systems)
    # An epoch of so few clips takes milliseconds.
    workflow.config["encoders"]["mlp"] = {"max_epochs": 300, "patience": 300}
    if ALL_RULES:
        entry = workflow.config["systems"]["conformer-strf"]
        entry["training"] = {**entry["training"], "speed_perturbation": True}
        workflow.config["encoders"]["conformer"] |= {"max_epochs": 5, "patience": 5}
        workflow.config["encoders"]["hubert"] = {"max_epochs": 4, "patience": 4}
        workflow.config["systems"]["fine-tuned"] = FINE_TUNED
        workflow.config["fusions"] = FEATURE_FUSION
        workflow.config["pretrain"] = PRETRAIN
    workflow.run(*TARGETS)
    return workflow


@pytest.fixture
def fresh(undisturbed, tmp_path):
    """The same workflow without results."""
    workflow = undisturbed.copy(tmp_path / "workflow")
    shutil.rmtree(workflow.root / "results")
    shutil.rmtree(workflow.root / ".snakemake")
    return workflow


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(undisturbed, fresh, capsys):
    phases = {rule: Counter() for rule, *_ in planned_kills()}
    n_unlocked = 0

    def kill_once(rule, victim, share, training):
        nonlocal n_unlocked
        run = start(fresh, "--forcerun", rule_of(rule), "--", RULES[rule])
        job = wait_for_job(run, rule_of(rule), fresh.root)
        assert job is not None, (fresh.root / "printed.txt").read_text()
        phase = kill_at(run, job, victim, share, undisturbed.root, training=training)
        if phase is not None:
            phases[rule][phase] += 1
        run.wait(timeout=3600)
        if victim != "job":
            # Snakemake cannot know that the run which locked the folder is dead, and says what to do.
            if not n_unlocked:
                assert "--unlock" in fresh.run(RULES[rule], check=False)
            fresh.run(flags=("--unlock",))
            n_unlocked += 1
        return phase

    for rule, victim, share, training in planned_kills():
        for n_tries in range(MAX_TRIES if training else 1):
            if kill_once(rule, victim, share / 2**n_tries, training) in (TRAINS, WRITES):
                break
    # Snakemake removes what it is about to make again. Where that is killed and all that was made from it is there
    # from before, it makes it again only if asked for it: so all targets are named.
    targets = sorted({*TARGETS, *(RULES[rule] for rule in phases)})
    fresh.run(*targets)
    expected, found = results(undisturbed), results(fresh)
    assert sorted(found) == sorted(expected)
    differences = [path for path in expected if found[path] != expected[path]]
    assert differences == []
    assert fresh.planned(*targets) == set()
    total = sum(phases.values(), Counter())
    with capsys.disabled():
        print(f"\nseed {SEED}: {total.total()} kills, {n_unlocked} of them of Snakemake;", end=" ")
        print(f"{len(found)} files, 0 differences")
        for phase in PHASES:
            where = ", ".join(f"{rule} {count[phase]}" for rule, count in phases.items() if count[phase])
            print(f"- {total[phase]} {phase}: {where or 'none'}")
    assert total.total() > 0.8 * N_KILLS
    for rule in TRAINING:
        assert rule not in phases or phases[rule][TRAINS] + phases[rule][WRITES] > 0


def test_every_rule_is_killed():
    assert all_rules() == {*map(rule_of, RULES)}


def test_a_second_run_at_the_same_time_says_so_and_does_no_harm(undisturbed, fresh):
    first = start(fresh, "--", SUBMISSION)
    assert wait_for_job(first, "convert_clips", fresh.root) is not None
    printed = fresh.run(SUBMISSION, check=False)
    assert "cannot be locked" in printed and "no other Snakemake process" in printed
    assert first.wait(timeout=3600) == 0, (fresh.root / "printed.txt").read_text()
    expected, found = results(undisturbed), results(fresh)
    assert SUBMISSION.removeprefix("results/") in found
    assert [path for path in found if found[path] != expected[path]] == []


def test_a_full_disk_is_reported_and_leaves_no_half_file(undisturbed, fresh):
    (fresh.root / "results").mkdir()
    with small_disk(fresh.root / "results", "100k") as disk:
        target = "results/audio/dc/0000.parquet"
        printed = fresh.run(target, check=False)
        assert "No space left on device" in printed
        assert not [path for path in (fresh.root / "results/audio").rglob("*") if path.is_file()]
        disk.remount("size=50m")
        fresh.run(target)
        for path in (target, "results/audio/raw/0000.parquet"):
            assert (fresh.root / path).read_bytes() == (undisturbed.root / path).read_bytes()
        (fresh.root / target).unlink()
        disk.remount("ro")
        assert "Read-only file system" in fresh.run(target, check=False)
        disk.remount("rw")
        fresh.run(target)
        assert (fresh.root / target).read_bytes() == (undisturbed.root / target).read_bytes()


WRITER = """
import sys, time
from exvo.util.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b'half')
    print('half', flush=True)
    time.sleep(60)
"""


def test_a_writer_killed_half_way_leaves_the_old_file_and_the_next_one_tidies_up(tmp_path):
    target = tmp_path / "a[1].parquet"
    target.write_bytes(b"old")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, target], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"half\n"
    writer.kill()
    writer.wait()
    assert target.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new" and list(tmp_path.iterdir()) == [target]
