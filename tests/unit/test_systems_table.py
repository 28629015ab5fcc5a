"""Tables of systems with means and SDs computed by hand."""

import csv

import numpy as np
import pytest

from exvo.evaluation.bootstrap import BootstrapConfig, Draws
from exvo.evaluation.metrics import Scores, s_mtl
from exvo.report.tables import paper
from exvo.report.tables.sheet import write_sheet
from exvo.report.tables.systems_layout import systems_sheet
from exvo.report.tables.systems_table import TABLES, blind_rows, reference_row, table_rows

TABLE_1 = TABLES["table1"]

NAN = float("nan")
DASH = "\N{EN DASH}"


def make_scores(ccc=0.5, uar=0.5, mae=4.0, s_mtl=99.0, n=(30, 20, 10)):
    """Scores whose own S_MTL is wrong: the table must compute it again."""
    return Scores(ccc, (ccc,) * 10, uar, mae, s_mtl, *n, ("emotion", "age", "country"))


class Source:
    """Stands for a SpeakerBootstrap: only its config is read."""

    config = BootstrapConfig(resamples=99)


SOURCE = Source()


def make_draws(**middle):
    """Draws of 8 speakers, 99 resamples spread evenly over +-0.05 around the middle of each metric."""
    spread = np.concatenate([[0.0], np.linspace(-0.049, 0.049, 99)])
    values = {metric: middle.get(metric, NAN) + spread for metric in ("uar", "mae", "ccc", "s_mtl")}
    return Draws(values, dict.fromkeys(values, 8), SOURCE)


def no_draws(scores):
    """Draws of one speaker: there is no interval."""
    nothing = {metric: np.full(100, NAN) for metric in ("uar", "mae", "ccc", "s_mtl")}
    return {name: Draws(nothing, dict.fromkeys(nothing, 1), SOURCE) for name in scores}


def write(tmp_path, scores, notes=(), spec=TABLE_1, draws=None, reference=None):
    rows = table_rows(spec, scores, draws or no_draws(scores), reference)
    write_sheet(tmp_path, "t", systems_sheet(spec, rows, notes, reference))
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), (tmp_path / "t.md").read_text(encoding="utf-8")


def test_mean_and_sd_over_seeds_by_hand():
    scores = {"raw": [make_scores(0.4, 0.5, 4), make_scores(0.5, 0.5, 5), make_scores(0.6, 0.5, 3)]}
    (row,) = table_rows(TABLE_1, scores, no_draws(scores))
    assert row.mean["ccc"] == pytest.approx(0.5)
    assert row.sd["ccc"] == pytest.approx(0.1)
    assert row.mean["mae"] == pytest.approx(4)
    assert row.sd["mae"] == pytest.approx(1)
    assert row.sd["uar"] == 0
    # 3 / (2.5 + 2 + 4), 3 / (2 + 2 + 5), 3 / (5/3 + 2 + 3)
    seeds = [3 / 8.5, 3 / 9, 0.45]
    assert row.mean["s_mtl"] == pytest.approx(np.mean(seeds))
    assert row.sd["s_mtl"] == pytest.approx(np.std(seeds, ddof=1))
    assert row.n == {"n_country": 20, "n_age": 10, "n_emotion": 30}


def test_the_paper_stands_beside_in_columns_of_its_own(tmp_path):
    rows, text = write(tmp_path, {"vad": [make_scores()] * 2, "raw": [make_scores()] * 2})
    assert [row["stage"] for row in rows] == ["raw", "vad"]
    assert [rows[0][f"paper_as_printed_{i}"] for i in (1, 2, 3)] == ["0.443", "0.51", "4.3"]
    assert rows[0]["paper_s_mtl"] == "0.352"
    assert rows[0]["s_mtl_mean"] == "0.3750"
    assert (
        "| raw | 0.500 ± 0.000 | 4.00 ± 0.00 | 0.500 ± 0.000 | 0.375 ± 0.000 | 2 | 20 / 10 / 30 "
        "| 1 / 1 / 1 "
        "| 0.443, 0.510, 4.30 | 0.352 |"
    ) in text
    assert "paper, as printed" in text
    assert "does not show which of the first two" in text
    assert "baseline |" not in text


def test_one_seed_has_no_sd(tmp_path):
    rows, text = write(tmp_path, {"dc": [make_scores()]})
    assert (rows[0]["uar_mean"], rows[0]["uar_sd"], rows[0]["n_seeds"]) == ("0.5000", "", "1")
    assert "| dc | 0.500 | 4.00 | 0.500 | 0.375 | 1 |" in text


def test_missing_is_empty_in_csv_and_a_dash_in_markdown_with_its_reason(tmp_path):
    scores = {
        "raw": [make_scores(uar=NAN, n=(30, 0, 10))] * 2,
        "dc": [make_scores(ccc=-0.1), make_scores(ccc=0.3)],
    }
    rows, text = write(tmp_path, scores)
    assert (rows[0]["uar_mean"], rows[0]["uar_sd"], rows[0]["s_mtl_mean"]) == ("", "", "")
    assert f"| raw | {DASH} | 4.00 ± 0.00 | 0.500 ± 0.000 | {DASH} | 2 | 0 / 10 / 30 | 0 / 1 / 1 |" in text
    assert (rows[1]["ccc_mean"], rows[1]["s_mtl_mean"]) == ("0.1000", "")
    assert "- UAR is missing (country: no validation clip has a label and a prediction): raw." in text
    assert "- S_MTL is missing (a term of at least one seed is missing or not positive): raw, dc." in text
    assert "nan" not in text
    assert "nan" not in (tmp_path / "t.csv").read_text()


def test_a_stage_the_paper_does_not_have_comes_last_without_its_figures(tmp_path):
    rows, text = write(tmp_path, {"mine": [make_scores()], "baseline": [make_scores()]})
    assert [row["stage"] for row in rows] == ["baseline", "mine"]
    assert rows[1]["paper_s_mtl"] == rows[1]["paper_as_printed_1"] == ""
    assert text.splitlines()[5].endswith(f"| {DASH} | {DASH} |")


def test_notes_stand_under_the_table(tmp_path):
    note = "baseline was left out: the corpus has no wav folder."
    _, text = write(tmp_path, {"raw": [make_scores()]}, [note])
    assert text.rstrip().endswith(f"- {note}")


def test_no_stages_at_all_still_makes_all_files(tmp_path):
    rows, text = write(tmp_path, {}, ["nothing was run"])
    assert rows == []
    assert (
        (tmp_path / "t.csv").read_text().startswith("stage,n_seeds,uar_mean,uar_sd,uar_low,uar_high,uar_diff")
    )
    assert "nothing was run" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.html", "t.json", "t.md"]


def test_seeds_on_different_clips_are_refused():
    with pytest.raises(ValueError, match="different clips"):
        table_rows(TABLE_1, {"raw": [make_scores(), make_scores(n=(29, 20, 10))]}, {})
    with pytest.raises(ValueError, match="no seeds"):
        table_rows(TABLE_1, {"raw": []}, {})


def test_the_figures_of_the_paper_give_its_s_mtl():
    # Printed to 3 places from parts rounded to 2 and 3 places, hence the tolerance.
    for row in paper.TABLE1.values():
        first, second, third = row.values
        assert s_mtl(first, second, third) == pytest.approx(row.s_mtl, abs=2e-3)
    for table in (paper.TABLE3, paper.TABLE4):
        for figures in table.values():
            assert s_mtl(figures.ccc, figures.uar, figures.mae) == pytest.approx(figures.s_mtl, abs=2e-3)


def test_table_3_has_the_figures_of_the_paper_by_name(tmp_path):
    spec = TABLES["table3"]
    scores = {"mine": [make_scores()], "Conformer (STRF)": [make_scores(0.5, 0.5, 4)]}
    rows, _ = write(tmp_path, scores, spec=spec)
    assert [row["system"] for row in rows] == ["Conformer (STRF)", "mine"]
    assert [rows[0][f"paper_{name}"] for name in ("uar", "mae", "ccc", "s_mtl")] == [
        "0.504",
        "4.03",
        "0.507",
        "0.375",
    ]
    assert rows[1]["paper_uar"] == ""
    text = (tmp_path / "t.md").read_text()
    assert (
        "| Conformer (STRF) | 0.500 | 4.00 | 0.500 | 0.375 | 1 | 20 / 10 / 30 | 1 / 1 / 1 "
        "| 0.504 | 4.03 | 0.507 | 0.375 |" in text
    )
    assert (
        f"| mine | 0.500 | 4.00 | 0.500 | 0.375 | 1 | 20 / 10 / 30 | 1 / 1 / 1 | {DASH} | {DASH} | {DASH} | {DASH} |"
        in text
    )


def test_table_2_shows_a_dash_where_a_system_has_no_such_task(tmp_path):
    spec = TABLES["table2"]
    scores = {"age only": [make_scores(NAN, NAN, 4.5, n=(0, 0, 10))]}
    write(tmp_path, scores, spec=spec)
    text = (tmp_path / "t.md").read_text()
    assert (
        f"| age only | {DASH} | 4.50 | {DASH} | {DASH} | 1 | 0 / 10 / 0 | 0 / 1 / 0 | {DASH} | 4.02 | {DASH} | {DASH} |"
        in text
    )


def test_a_score_stands_with_its_interval_and_its_sd(tmp_path):
    scores = {"raw": [make_scores(0.4, 0.5, 4.0), make_scores(0.5, 0.5, 4.0)]}
    draws = {"raw": make_draws(uar=0.5, mae=4.0, ccc=0.45, s_mtl=0.36)}
    rows, text = write(tmp_path, scores, draws=draws)
    interval = draws["raw"].interval("ccc")
    assert interval.low < 0.41 and interval.high > 0.49
    assert f"0.450 [{interval.low:.3f}, {interval.high:.3f}] ± 0.071" in text
    assert "20 / 10 / 30 | 8 / 8 / 8 |" in text
    assert float(rows[0]["ccc_low"]) == pytest.approx(interval.low, abs=1e-4)
    assert (rows[0]["ccc_sd"], rows[0]["speakers_emotion"]) == ("0.0707", "8")


def test_rows_are_compared_with_the_row_of_reference(tmp_path):
    scores = {"raw": [make_scores(0.4)], "dc": [make_scores(0.5)], "vad": [make_scores(NAN, n=(0, 20, 10))]}
    draws = {"raw": make_draws(ccc=0.4), "dc": make_draws(ccc=0.5), "vad": make_draws()}
    rows, text = write(tmp_path, scores, draws=draws, reference="raw")
    by_name = {row["stage"]: row for row in rows}
    assert by_name["raw"]["ccc_diff"] == "" and by_name["vad"]["ccc_diff"] == ""
    # The draws of the two move together, so the difference is 0.1 in every resample.
    assert (
        by_name["dc"]["ccc_diff"]
        == by_name["dc"]["ccc_diff_low"]
        == by_name["dc"]["ccc_diff_high"]
        == "0.1000"
    )
    assert 0 < float(by_name["dc"]["ccc_p"]) < 0.1
    assert "Difference from raw, on the same speakers:" in text
    assert f"| dc | {DASH} | {DASH} | +0.100 [+0.100, +0.100], p 0.0" in text


def test_the_reference_is_fixed_by_the_table():
    assert reference_row(TABLES["table2"], {"age only": 0, "multitask": 0}) == "multitask"
    assert reference_row(TABLES["table2"], {"age only": 0}) is None
    assert reference_row(TABLES["table3"], {"mine": 0, "Conformer (log-mel)": 0}) == "Conformer (log-mel)"
    assert reference_row(TABLES["table3"], {}) is None


def test_resamples_without_a_value_are_reported(tmp_path):
    draws = make_draws(uar=0.5, mae=4.0, ccc=0.02, s_mtl=0.1)
    draws.values["s_mtl"][5:12] = -np.inf
    _, text = write(tmp_path, {"raw": [make_scores(0.02)]}, draws={"raw": draws})
    assert "Resamples in which S_MTL is undefined" in text and ": raw 7." in text
    assert f"[{DASH}, 0." in text


def test_blind_is_said_in_words_and_not_in_numbers(tmp_path):
    spec = TABLES["table4"]
    write_sheet(tmp_path, "t", systems_sheet(spec, blind_rows(spec, ["HuBERT", "mine"]), ["Blind: why."]))
    text = (tmp_path / "t.md").read_text()
    blind = " | ".join(["blind"] * 4)
    assert (
        f"| HuBERT | {blind} | {DASH} | {DASH} | {DASH} | 0.659 |" in text and f"| mine | {blind} |" in text
    )
    assert "Blind: why." in text and "is missing" not in text
    with (tmp_path / "t.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["ccc_mean"] == "blind" and row["ccc_low"] == row["ccc_diff"] == ""


def test_html_needs_nothing_else_and_escapes_what_comes_from_data(tmp_path):
    wicked = '<script>alert("x")</script> & | more'
    write(tmp_path, {wicked: [make_scores()]}, [f"note {wicked}"])
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.count("<script") == 0
    assert page.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; | more") >= 2
    assert "http" not in page and "src=" not in page and "@import" not in page
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "<script" not in text and "</script" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| &lt;script")]
    assert row.count("|") == 11


def test_what_stands_for_a_row_of_the_paper_keeps_its_name_and_gets_the_papers_figures(tmp_path):
    scores = {
        "Conformer (log-mel)": [make_scores()],
        "HuBERT: tiny": [make_scores()],
        "HuBERTs": [make_scores()],
    }
    rows, text = write(tmp_path, scores, spec=TABLES["table3"])
    assert [row["system"] for row in rows] == ["HuBERT: tiny", "Conformer (log-mel)", "HuBERTs"]
    assert [row["paper_uar"] for row in rows] == ["0.641", "0.496", ""]
    assert "| HuBERT: tiny |" in text
