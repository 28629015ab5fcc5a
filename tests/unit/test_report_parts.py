"""Pieces of the report against hand-made truth: which clips are chosen, what is drawn and added up."""

import base64
import re

import numpy as np
import pytest

from exvo.audio.store import decode
from exvo.report.page.clips import LEVELS, RANGE_DB, choose_clips, read_sounds, spectrogram
from exvo.report.page.cost import cost_section, duration, read_costs
from exvo.report.page.drawing import svg_uri
from exvo.report.page.predictions import confusion
from exvo.report.page.provenance import provenance_section, without_paths
from exvo.report.page.training import read_curves
from exvo.report.tables.sheet import DASH

STAGES = ("raw", "denoised", "vad")


def row(clip_id, snr, *, clipping=0.0, kept=1.0, seconds=2.0, status="ok"):
    n = {f"{stage}_n_samples": int(16_000 * seconds) for stage in STAGES}
    statuses = {f"{stage}_status": status for stage in STAGES}
    measures = {"denoised_snr_before_db": snr, "raw_clipping_rate": clipping, "vad_kept": kept}
    return {"clip_id": clip_id, **n, **statuses, **measures}


def ids(chosen):
    return {why: row["clip_id"] for row, why in chosen}


def test_clips_are_chosen_by_what_was_measured_none_twice():
    rows = [
        row("noisy", 3, clipping=0.5),
        row("a", 10, clipping=0.2),
        row("b", 20, kept=0.2),
        row("c", 20, kept=0.9),
        row("clean", 50),
        row("long", 1, seconds=7),
        row("broken", 0, status="unreadable"),
    ]
    chosen, missing = choose_clips(rows, STAGES)
    assert missing == []
    assert ids(chosen) == {
        "the lowest SNR": "noisy",
        "a median SNR": "c",  # of the four that are left
        "the highest SNR": "clean",
        "the most clipped (raw)": "a",
        "the most trimmed": "b",
    }
    assert choose_clips(rows[::-1], STAGES) == (chosen, missing)


def test_kinds_of_clips_that_are_not_there_are_said():
    chosen, missing = choose_clips([row("a", 1), row("b", 2), row("c", 3), row("d", 4)], STAGES)
    assert len(chosen) == 3
    assert [text.split(" is ")[0] for text in missing] == ["A clipped clip", "A trimmed clip"]
    without_snr = [row("a", None, clipping=0.1)]
    chosen, missing = choose_clips(without_snr, STAGES)
    assert ids(chosen) == {"the most clipped (raw)": "a"} and len(missing) == 4
    assert choose_clips([row("a", 1, seconds=0)], STAGES)[1][0].startswith("No clip is shown: none has audio")


def test_sounds_are_the_stored_ones(made_run):
    wanted = set(made_run.corpus.labels.clip_id[[1, 40]])
    sounds = read_sounds(wanted, made_run.audio)
    assert {clip_id for _, clip_id in sounds} == wanted and len(sounds) == 2 * len(made_run.audio)
    for clip_id in wanted:
        whole, cut = decode(sounds["denoised", clip_id]), decode(sounds["vad", clip_id])
        start = len(whole) // 4
        np.testing.assert_array_equal(cut, whole[start : len(whole) - start])


def test_a_spectrogram_has_its_tone_in_the_right_row_and_keeps_to_its_range():
    n = 16_000
    tone = np.sin(2 * np.pi * 1000 * np.arange(n) / 16_000)
    power = spectrogram(tone)
    assert power.shape == (128, 100) and power.max() == pytest.approx(0) and power.min() >= -RANGE_DB
    rows = power[:, 10:90].argmax(axis=0) * 62.5  # Hz, two bins a row
    assert (np.abs(rows - 1000) <= 62.5).all()
    assert (spectrogram(np.zeros(500)) == -RANGE_DB).all()
    assert spectrogram(np.ones(1)).shape == (128, 1) and spectrogram(np.zeros(96_000)).shape[1] <= 220
    assert LEVELS < 256


def test_confusions_are_counted_by_true_row_and_predicted_column():
    counts = confusion(np.array([0, 0, 1, -1, 1]), np.array([0, 1, 1, 0, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.44, "0.4 s"),
        (12.4, "12 s"),
        (59.7, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (np.nan, DASH),
    ],
)
def test_durations_are_reported_in_fitting_units(seconds, expected):
    assert duration(seconds) == expected


def test_costs_add_up_and_unmeasured_jobs_do_not_spoil_them(tmp_path):
    for name, line in (("a", "10\t100.5\t8"), ("b", "5\t-\tNA")):
        (tmp_path / f"{name}.tsv").write_text(f"s\tmax_rss\tcpu_time\n{line}\n")
    files = {"step": [tmp_path / "a.tsv", tmp_path / "b.tsv"], "gone": [tmp_path / "c.tsv"]}
    costs = read_costs(files)
    assert list(costs) == ["step"] and costs["step"].seconds.tolist() == [10, 5]
    rows = cost_section(files).parts[-1].grids[0].rows
    assert rows == [
        ["step", "2", "15 s", "10 s", "8.0 s", "100"],
        ["all", "2", "15 s", DASH, "8.0 s", "100"],
    ]


def test_a_history_is_read_with_its_gaps(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,val_loss,val_selection\n1,3,\n2,2,nan\n3,1,0.5\n")
    (tmp_path / "metrics.json").write_text('{"best_epoch": 3}')
    curves = read_curves(tmp_path)
    assert curves.best_epoch == 3 and curves.history["val_loss"] == [3, 2, 1]
    assert np.isnan(curves.history["val_selection"][:2]).all()


def test_drawings_hold_no_time_and_are_the_same_twice():
    def paint(figure):
        axes = figure.subplots()
        axes.plot([1, 2], [3, 4], label="a <b>")
        axes.legend()

    first, second = svg_uri((3, 2), paint), svg_uri((3, 2), paint)
    assert first == second
    svg = base64.b64decode(first.split(",", 1)[1]).decode()
    assert svg.lstrip().startswith("<?xml") and not re.search(r"20\d\d-\d\d", svg)


def test_versions_seeds_and_systems_are_reported():
    config = {"statistics": {"seed": 7}, "systems": {"/a/b": ["/c/d", 1]}}
    system = {"stage": "raw", "feature": "opensmile", "encoder": "mlp", "tasks": ["age", "country"]}
    section = provenance_section(config, [3, 4], {"one": system})
    assert "3, 4" in section.lead and "folds: 7" in section.lead
    assert section.parts[0].grids[0].rows == [["one", "raw", "opensmile", "mlp", "age, country"]]
    versions = dict(section.parts[1].grids[0].rows)
    assert versions["numpy"] == np.__version__ and versions["Python"].startswith("3.11")
    assert without_paths(config)["systems"] == {"…/b": ["…/d", 1]}
