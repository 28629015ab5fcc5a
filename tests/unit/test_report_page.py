"""The report as a whole: what is on the page, what is not, and that missing parts are said in words."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_run import CLIP, COUNTRY, FOLDER, STAGES, MadeRun

from exvo.corpus.table import CorpusError
from exvo.report.page.cost import cost_section
from exvo.report.page.fusion import fusion_section
from exvo.report.page.outcome import outcome_section
from exvo.report.page.parts import Section, Story, Table, Words, bare_path, without_folders
from exvo.report.page.sheets import read_table, tables_section
from exvo.report.page.strf import strf_section
from exvo.report.page.training import training_section
from exvo.report.page.write import render
from exvo.report.tables.sheet import DASH, Grid, Sheet, write_sheet

ANCHORS = ["outcome", "tables", "listen", "answers", "fusion", "strf", "training", "quality", "cost"]
ANCHORS += ["provenance"]


class Page(HTMLParser):
    """The elements of a page: tags with their attributes, and the text without tags."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    def says(self, words):
        return words in " ".join(self.text.split())


@pytest.fixture(scope="module")
def html(made_run, tmp_path_factory):
    return made_run.write(tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_is_whole_and_has_every_section_in_order(page):
    assert page.open == []
    assert [s["id"] for s in page.of("section")] == ANCHORS
    assert [link["href"] for link in page.of("a")] == [f"#{anchor}" for anchor in ANCHORS]


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_nothing(page, html):
    sources = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert "url(" not in html and "@import" not in html
    assert "default-src 'none'" in page.of("meta")[2]["content"]


@pytest.fixture(scope="module")
def named_html(made_run, tmp_path_factory):
    return made_run.write(tmp_path_factory.mktemp("named") / "report.html", clips=[CLIP])


def test_names_from_the_data_are_text_and_nothing_else(page, named_html):
    named = Page(named_html)
    assert named.says(f"Clip {CLIP}: named in the config")
    assert CLIP in named.of("audio")[0]["aria-label"]
    assert not [image for image in named.of("img") if "onerror" in image]
    assert page.says(COUNTRY)


def test_a_template_escapes_what_every_kind_of_part_holds():
    evil = "<script>alert(1)</script>"
    grid = Grid([evil], [[evil, evil + " [" + evil]], evil)
    parts = [Words(evil), Table(evil, [grid], [evil]), Story(evil, evil, evil, [])]
    assert "<script" not in render(evil, [Section("x", evil, evil, parts)])


def test_folders_of_who_ran_it_are_not_told(html):
    assert FOLDER not in html and "/home/" not in html
    assert "ffmpeg: …/ffmpeg" in html and "root: …/bursts" in html
    assert "…/x.webm: no &lt;script&gt;" in html


def test_every_stage_of_every_chosen_clip_can_be_heard(page):
    audio = page.of("audio")
    assert len(audio) == 5 * len(STAGES)
    assert all(player["src"].startswith("data:audio/flac;base64,ZkxhQ") for player in audio)  # fLaC


def test_every_picture_says_what_it_shows(page):
    pictures = page.of("img")
    assert len(pictures) == 5 * len(STAGES) + 13
    assert all(len(picture["alt"]) > 20 for picture in pictures)
    assert all(picture["src"].startswith(("data:image/svg+xml", "data:image/png")) for picture in pictures)


def test_the_same_files_give_the_same_bytes(made_run, named_html, tmp_path):
    assert made_run.write(tmp_path / "again.html", clips=[CLIP]) == named_html


def test_the_scores_are_those_of_the_record(page, made_run):
    record = json.loads(made_run.files.fusion.read_text())
    assert page.says(f"{record['test']['fusion']['s_mtl']:.3f}")
    best = record["selection"]["candidates"][0]
    low, high = (best["intervals"]["s_mtl"][end] for end in ("low", "high"))
    assert page.says(f"{best['out_of_fold_val']['s_mtl']:.3f} [{low:.3f}, {high:.3f}]")
    runner_up = record["selection"]["runner_up"]
    found = record["selection"]["differences"][runner_up]["s_mtl"]
    word = "includes" if found["low"] <= 0 <= found["high"] else "excludes"
    assert page.says(f"Against {runner_up}, the next best candidate") and page.says(
        f"the interval {word} zero"
    )


def test_missing_benchmarks_are_said_and_the_others_shown(page):
    assert page.says("Without benchmark files: quality.") and page.says("1 min 16 s")


def test_without_benchmarks_strfs_and_histories_words_stand_there(tmp_path):
    said = [
        section.parts[0].text
        for section in (
            cost_section({"fusion": [tmp_path / "none.tsv"]}),
            strf_section({}, 0),
            training_section({}),
        )
    ]
    assert said == [
        "There are no benchmark files under results/benchmarks.",
        "No system of this run has an STRF front end.",
        "No system has a history of its training: there is nothing to draw.",
    ]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A blind run whose Val has no label at all."""
    root = tmp_path_factory.mktemp("bare")
    run = MadeRun(root / "run", blind=True, unlabelled=("country", "age", "emotion"), fusions=("weighted",))
    return Page(run.write(root / "r.html", clips=[CLIP]))


def test_a_blind_test_and_tasks_without_labels_are_said(bare):
    assert bare.says("Test is blind: the corpus has no test_labels.csv")
    for words in (
        "Age: no validation clip has a label",
        "Country: no validation clip has a label",
        "Emotion: no emotion has a CCC",
        "Without S_MTL, a term being missing or not positive: weighted, mlp-raw, conformer-strf.",
    ):
        assert bare.says(words), words
    assert [s["id"] for s in bare.of("section")] == ANCHORS


def single_system(record):
    """The record as it would be, had the best single system been submitted."""
    chosen = next(c for c in record["selection"]["candidates"] if c["kind"] == "system")
    record["selection"]["submitted"] = chosen["name"]
    return record | {"kind": "system", "systems": {chosen["name"]: {}}, "rule": "average"}


def test_of_a_single_system_the_weights_of_the_best_fusion_are_drawn(made_run):
    record = single_system(json.loads(made_run.files.fusion.read_text()))
    words, drawn, _table = fusion_section(record).parts[:3]
    assert "is a single system" in words.text
    best = next(c["name"] for c in record["selection"]["candidates"] if c["rule"] in ("weighted", "stacked"))
    assert drawn.title == f"Parts of the systems in {best}, which is not submitted"
    # The best by candidates, not the first by name.
    record["selection"]["candidates"].reverse()
    other = fusion_section(record).parts[1].title
    assert other != drawn.title and other.endswith("which is not submitted")
    for candidate in record["selection"]["candidates"]:
        candidate["rule"] = candidate["rule"] and "average"
    assert [part.kind for part in fusion_section(record).parts[:2]] == ["words", "table"]


def test_a_joint_model_has_no_weights_and_those_of_the_best_fusion_are_drawn(made_run):
    record = json.loads(made_run.files.fusion.read_text())
    joint = {"inputs": "features", "training": {}, "n_seeds": 2}
    tasks = {name: {**task, "chosen_by": "training on Train"} for name, task in record["tasks"].items()}
    for task in tasks.values():
        for key in ("weights", "shares", "rule", "train_prior"):
            task.pop(key, None)
    systems = {"mlp-raw": {}, "conformer-strf": {}}
    record["kind"] = "fusion"
    section = fusion_section(
        record | {"rule": "feature_fusion", "feature_fusion": joint, "tasks": tasks, "systems": systems}
    )
    words, drawn, table = section.parts[:3]
    assert "trained on Train with 2 seeds on representations by mlp-raw, conformer-strf" in words.text
    assert drawn.title.endswith("which is not submitted")
    assert [row[1] for row in table.grids[0].rows] == ["feature_fusion"] * 3


def test_every_score_of_outcome_and_fusion_has_its_interval_counts_and_deviation(made_run):
    record = json.loads(made_run.files.fusion.read_text())
    tables = {part.title: part for part in outcome_section(record).parts if part.kind == "table"}
    whole = re.compile(rf"\d\.\d+ \[(?:{DASH}|[-\d.]+), [-\d.]+\] ± \d\.\d+")
    for row in tables["Scores of the submission"].grids[0].rows:
        assert all(whole.fullmatch(cell) for cell in row[1:5]), row
        assert row[5:] == ["24 / 24 / 24", "8 / 8 / 8"]
    candidates = tables["Candidates"].grids[0].rows
    assert len(candidates) == 4
    for row in candidates:
        assert all(whole.fullmatch(cell) for cell in row[2:6]), row
        assert row[7:] == ["24 / 24 / 24", "8 / 8 / 8"]
    (table,) = [part for part in fusion_section(record).parts if part.kind == "table"]
    header = list(table.grids[0].header)
    for row in table.grids[0].rows:
        assert whole.fullmatch(row[header.index("out-of-fold")]), row
        assert "[" in row[header.index("on what it learned from")]
    prior = {row[0]: row[header.index("Train prior alone")] for row in table.grids[0].rows}
    assert prior["country"] == "0.500" and prior["emotion"] == "0.000" and float(prior["age"]) > 1


def test_the_margin_over_the_reference_is_the_outcomes(made_run, page):
    record = json.loads(made_run.files.fusion.read_text())
    found = record["test"]["margins"][0]
    assert found["over"] == "organisers' network (raw)"
    percent = found["s_mtl_percent"]
    low, high = (DASH if percent[end] is None else f"{percent[end]:+.1f}" for end in ("low", "high"))
    assert page.says(f"{percent['value']:+.1f} [{low}, {high}]") and page.says(f"{percent['value']:+.0f} %")
    assert page.says("Margin of the submission")
    # Four speakers of each of the two countries.
    assert page.says("Countries with fewer than 5 speakers")


def test_tables_come_back_as_they_were_written(tmp_path):
    evil = "a <b> & 'c' \"d\" ü"
    grids = [Grid(["stage", evil], [["raw", "0.1 [0.0, 0.2]"], [evil, ""]], evil), Grid(["x"], [["y"]])]
    for name, notes in (("one", ["both", evil]), ("two", ["both", "two only"])):
        write_sheet(tmp_path, name, Sheet(evil, grids, notes, ["x"], [{"x": "1"}]))
    table = read_table(tmp_path / "one.html")
    assert table.title == evil and list(table.notes) == ["both", evil]
    assert [(list(g.header), [list(r) for r in g.rows], g.caption) for g in table.grids] == [
        (list(g.header), [list(r) for r in g.rows], g.caption) for g in grids
    ]
    shared, *own = tables_section([tmp_path / "one.html", tmp_path / "two.html"]).parts
    assert shared.lines == ["both"] and [list(t.notes) for t in own] == [[evil], ["two only"]]


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path):
    (tmp_path / "t.html").write_text("<p>nothing")
    with pytest.raises(ValueError, match=r"t\.html"):
        read_table(tmp_path / "t.html")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/bob/x.webm: broken", "…/x.webm: broken"),
        ("see '/a/b c' and ~/d/e", "see '…/b c' and …/e"),
        (r"C:\Users\bob\x.wav", "…/x.wav"),
        ("results/fusion/a.csv, 92 / 92 / 92, n/a", "results/fusion/a.csv, 92 / 92 / 92, n/a"),
    ],
)
def test_absolute_paths_lose_their_folders(text, expected):
    assert without_folders(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/my bursts", "…/my bursts"),
        ("~bob/x", "…/x"),
        (r"D:\x\y", "…/y"),
        ("corpora/demo", "corpora/demo"),
    ],
)
def test_config_values_that_are_paths_lose_their_folders(text, expected):
    assert bare_path(text) == expected


def test_a_clip_that_the_corpus_does_not_have_is_refused(made_run, tmp_path):
    from exvo.workflow.plan import Plan

    config = made_run.config | {"corpus": {"root": str(made_run.root / "corpus"), "shards": 2, "limit": None}}
    (made_run.root / "corpus/raw").mkdir(exist_ok=True)
    (made_run.root / "corpus/raw" / f"{CLIP}.webm").touch()
    Plan(config | {"report": {"clips": [CLIP]}})
    with pytest.raises(CorpusError, match=r"report\.clips names nobody"):
        Plan(config | {"report": {"clips": ["nobody"]}})


def test_an_error_in_a_file_is_not_hidden(made_run, tmp_path):
    rows = pq.read_table(made_run.files.quality).drop_columns(["raw_status"])
    pq.write_table(rows, tmp_path / "q.parquet")
    with pytest.raises(KeyError, match="raw_status"):
        made_run.write(tmp_path / "r.html", quality=tmp_path / "q.parquet")
    assert not (tmp_path / "r.html").exists()


def test_many_odd_clips_are_named_in_part_and_counted_in_full(made_run):
    from exvo.report.page.quality import MAX_CLIPS_NAMED, quality_section

    rows = pq.read_table(made_run.files.quality).to_pylist()
    for row in rows:
        row |= {"status": "truncated", "reason": "cut"}
    table = quality_section(rows, STAGES, made_run.corpus.labels).parts[-1]
    assert len(table.grids[0].rows) == MAX_CLIPS_NAMED
    assert table.title.endswith("72 of 72") and table.notes[0].startswith(f"And {72 - MAX_CLIPS_NAMED} more")


def test_a_corpus_without_broken_or_clipped_clips_says_so(made_run):
    from exvo.report.page.quality import quality_section

    rows = pq.read_table(made_run.files.quality).to_pylist()
    rows = [row | {"status": "ok", "raw_clipping_rate": 0.0} for row in rows]
    texts = [
        p.text for p in quality_section(rows, STAGES, made_run.corpus.labels).parts if isinstance(p, Words)
    ]
    assert texts == ["Clipping: no clip has a clipped sample (raw 0 of 72).", "Broken or odd clips: none."]


def test_labels_of_nobody_draw_nothing(made_run):
    from exvo.evaluation.predictions import read_predictions
    from exvo.report.page.predictions import answers_section

    labels = made_run.corpus.labels.take(made_run.corpus.labels.split == "Val")
    answers = read_predictions(made_run.files.val)
    silent = replace(answers, age=np.full_like(answers.age, np.nan), country=answers.country * np.nan)
    emotions = made_run.files.tables[0].with_name("emotions.csv")
    submitted = re.search(r"^(\w+),Awe", emotions.read_text(), re.MULTILINE)[1]
    parts = answers_section(labels, silent, submitted, emotions).parts
    assert [p.text for p in parts[:2]] == [
        "Age: the submission does not predict it.",
        "Country: the submission does not predict it.",
    ]
