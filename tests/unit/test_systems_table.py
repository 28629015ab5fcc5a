"""Tables of systems with means and deviations worked out by hand."""

import csv

import numpy as np
import pytest

from exvo.metrics import Scores, s_mtl
from exvo.report import paper
from exvo.report.systems_table import TABLES, table_rows, write_table

TABLE_1 = TABLES["table1"]

NAN = float("nan")
DASH = "\N{EN DASH}"


def make_scores(ccc=0.5, uar=0.5, mae=4.0, s_mtl=99.0, n=(30, 20, 10)):
    """Scores whose own S_MTL is wrong: the table must compute it again."""
    return Scores(ccc, (ccc,) * 10, uar, mae, s_mtl, *n, ("emotion", "age", "country"))


def write(tmp_path, scores, notes=()):
    csv_path, md_path = tmp_path / "table1.csv", tmp_path / "table1.md"
    write_table(TABLE_1, table_rows(TABLE_1, scores), csv_path, md_path, notes)
    with csv_path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), md_path.read_text(encoding="utf-8")


def test_mean_and_deviation_over_seeds_by_hand():
    (row,) = table_rows(
        TABLE_1, {"raw": [make_scores(0.4, 0.5, 4), make_scores(0.5, 0.5, 5), make_scores(0.6, 0.5, 3)]}
    )
    assert row.mean["ccc"] == pytest.approx(0.5)
    assert row.deviation["ccc"] == pytest.approx(0.1)
    assert row.mean["mae"] == pytest.approx(4)
    assert row.deviation["mae"] == pytest.approx(1)
    assert row.deviation["uar"] == 0
    # 3 / (2.5 + 2 + 4), 3 / (2 + 2 + 5), 3 / (5/3 + 2 + 3)
    seeds = [3 / 8.5, 3 / 9, 0.45]
    assert row.mean["s_mtl"] == pytest.approx(np.mean(seeds))
    assert row.deviation["s_mtl"] == pytest.approx(np.std(seeds, ddof=1))
    assert row.n == {"n_country": 20, "n_age": 10, "n_emotion": 30}


def test_the_paper_stands_beside_in_columns_of_its_own(tmp_path):
    rows, text = write(tmp_path, {"vad": [make_scores()] * 2, "raw": [make_scores()] * 2})
    assert [row["stage"] for row in rows] == ["raw", "vad"]
    assert [rows[0][f"paper_as_printed_{i}"] for i in (1, 2, 3)] == ["0.443", "0.51", "4.3"]
    assert rows[0]["paper_s_mtl"] == "0.352"
    assert rows[0]["s_mtl_mean"] == "0.3750"
    assert (
        "| raw | 0.500 ± 0.000 | 4.00 ± 0.00 | 0.500 ± 0.000 | 0.375 ± 0.000 | 2 | 20 / 10 / 30 "
        "| 0.443, 0.510, 4.30 | 0.352 |"
    ) in text
    assert "paper, as printed" in text
    assert "cannot be settled" in text
    assert "baseline |" not in text


def test_one_seed_has_no_deviation(tmp_path):
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
    assert f"| raw | {DASH} | 4.00 ± 0.00 | 0.500 ± 0.000 | {DASH} | 2 | 0 / 10 / 30 |" in text
    assert (rows[1]["ccc_mean"], rows[1]["s_mtl_mean"]) == ("0.1000", "")
    assert "- UAR is missing (country: no validation clip has a label and a prediction): raw." in text
    assert "- S_MTL is missing (a term of at least one seed is missing or not positive): raw, dc." in text
    assert "nan" not in text
    assert "nan" not in (tmp_path / "table1.csv").read_text()


def test_a_stage_the_paper_does_not_have_comes_last_without_its_figures(tmp_path):
    rows, text = write(tmp_path, {"mine": [make_scores()], "baseline": [make_scores()]})
    assert [row["stage"] for row in rows] == ["baseline", "mine"]
    assert rows[1]["paper_s_mtl"] == rows[1]["paper_as_printed_1"] == ""
    assert text.splitlines()[5].endswith(f"| {DASH} | {DASH} |")


def test_notes_stand_under_the_table(tmp_path):
    note = "baseline was left out: the corpus has no wav folder."
    _, text = write(tmp_path, {"raw": [make_scores()]}, [note])
    assert text.rstrip().endswith(f"- {note}")


def test_no_stages_at_all_still_makes_both_files(tmp_path):
    rows, text = write(tmp_path, {}, ["nothing was run"])
    assert rows == []
    assert (tmp_path / "table1.csv").read_text().startswith("stage,n_seeds,uar_mean,uar_sd,mae_mean")
    assert "nothing was run" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table1.csv", "table1.md"]


def test_seeds_on_different_clips_are_refused():
    with pytest.raises(ValueError, match="different clips"):
        table_rows(TABLE_1, {"raw": [make_scores(), make_scores(n=(29, 20, 10))]})
    with pytest.raises(ValueError, match="no seeds"):
        table_rows(TABLE_1, {"raw": []})


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
    write_table(spec, table_rows(spec, scores), tmp_path / "t.csv", tmp_path / "t.md")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
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
        "| Conformer (STRF) | 0.500 | 4.00 | 0.500 | 0.375 | 1 | 20 / 10 / 30 | 0.504 | 4.03 | 0.507 | 0.375 |"
        in text
    )
    assert (
        f"| mine | 0.500 | 4.00 | 0.500 | 0.375 | 1 | 20 / 10 / 30 | {DASH} | {DASH} | {DASH} | {DASH} |"
        in text
    )


def test_table_2_shows_a_dash_where_a_system_has_no_such_task(tmp_path):
    spec = TABLES["table2"]
    scores = {"age only": [make_scores(NAN, NAN, 4.5, n=(0, 0, 10))]}
    write_table(spec, table_rows(spec, scores), tmp_path / "t.csv", tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text()
    assert (
        f"| age only | {DASH} | 4.50 | {DASH} | {DASH} | 1 | 0 / 10 / 0 | {DASH} | 4.02 | {DASH} | {DASH} |"
        in text
    )
