"""The complete report: its content, its safety, and the texts for missing parts."""

import base64
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
from exvo.report.page.outcome import result_section, systems_section
from exvo.report.page.parts import Notes, Section, Story, Table, Words, bare_path, without_folders
from exvo.report.page.strf import strf_section
from exvo.report.page.training import training_section
from exvo.report.page.write import read_tables, render
from exvo.report.tables.sheet import DASH, Grid, Sheet, write_sheet

ANCHORS = [
    "result",
    "systems",
    "emotions",
    "groups",
    "listen",
    "fusion",
    "training",
    "strf",
    "quality",
    "cost",
]
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


def test_names_from_the_data_are_shown_as_text(page, named_html):
    named = Page(named_html)
    assert named.says(f"Clip {CLIP}: named in the config")
    assert CLIP in named.of("audio")[0]["aria-label"]
    assert not [image for image in named.of("img") if "onerror" in image]
    assert page.says(COUNTRY)


def test_a_template_escapes_what_every_kind_of_part_holds():
    evil = "<script>alert(1)</script>"
    grids = [Grid([evil], [[evil, evil + " [" + evil]], evil, folded) for folded in (False, True)]
    parts = [
        Words(evil),
        Table(evil, grids, [evil, evil * 9]),
        Notes(evil, [evil]),
        Story(evil, evil, evil, []),
    ]
    assert "<script" not in render(evil, [Section("x", evil, evil, parts)])


def test_folders_of_the_user_are_not_shown(html):
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


def test_labels_of_axes_are_plain_text(page):
    svgs = [image["src"] for image in page.of("img") if image["src"].startswith("data:image/svg+xml")]
    # Text is drawn as paths, with the text itself in a comment.
    texts = [base64.b64decode(svg.split(",", 1)[1]).decode() for svg in svgs]
    assert any("<!-- seconds -->" in text for text in texts)
    assert not any("mathdefault" in text for text in texts)


def test_the_same_files_give_the_same_bytes(made_run, named_html, tmp_path):
    assert made_run.write(tmp_path / "again.html", clips=[CLIP]) == named_html


def test_the_scores_are_those_of_the_record(page, made_run):
    record = json.loads(made_run.files.fusion.read_text())
    assert page.says(f"{record['test']['fusion']['s_mtl']:.3f}")
    best = record["selection"]["candidates"][0]
    low, high = (best["intervals"]["s_mtl"][end] for end in ("low", "high"))
    assert page.says(
        f"{best['out_of_fold_val']['s_mtl']:.3f} ± {best['sd']['s_mtl']:.3f} [{low:.3f}, {high:.3f}]"
    )
    runner_up = record["selection"]["runner_up"]
    found = record["selection"]["differences"][runner_up]["s_mtl"]
    word = "includes" if found["low"] <= 0 <= found["high"] else "excludes"
    assert page.says(f"from {runner_up}, the next best candidate") and page.says(f"the interval {word} zero")


def test_missing_benchmarks_are_named_and_the_others_shown(page):
    assert page.says("Without benchmark files: quality.") and page.says("1 min 16 s")


def test_without_benchmarks_strfs_and_histories_the_page_says_so(tmp_path):
    texts = [
        section.parts[0].text
        for section in (
            cost_section({"fusion": [tmp_path / "none.tsv"]}),
            strf_section({}, 0),
            training_section({}),
        )
    ]
    assert texts == [
        "There are no benchmark files under results/benchmarks.",
        "No system of this run has an STRF front end.",
        "No system has a training history.",
    ]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A blind run whose Val has no label at all."""
    root = tmp_path_factory.mktemp("bare")
    run = MadeRun(root / "run", blind=True, unlabelled=("country", "age", "emotion"), fusions=("weighted",))
    return Page(run.write(root / "r.html", clips=[CLIP]))


def test_a_blind_test_and_tasks_without_labels_are_named(bare):
    assert bare.says("Test is blind: the corpus has no test_labels.csv")
    for words in (
        "Age: no validation clip has a label",
        "Country: no validation clip has a label",
        "Emotion: no emotion has a CCC",
        "S_MTL is undefined (a term is missing or not positive): weighted, mlp-raw, conformer-strf.",
        "Its S_MTL on validation is undefined",
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
    assert "is a single system and has no weights" in words.text
    best = next(c["name"] for c in record["selection"]["candidates"] if c["rule"] in ("weighted", "stacked"))
    assert drawn.title == f"Weights of the systems in {best}, which is not submitted"
    # The best by candidates, not the first by name.
    record["selection"]["candidates"].reverse()
    other = fusion_section(record).parts[1].title
    assert other != drawn.title and other.endswith("which is not submitted")
    for candidate in record["selection"]["candidates"]:
        candidate["rule"] = candidate["rule"] and "average"
    assert [part.kind for part in fusion_section(record).parts[:2]] == ["words", "table"]


def test_a_feature_fusion_has_no_weights_and_those_of_the_best_fusion_are_drawn(made_run):
    record = json.loads(made_run.files.fusion.read_text())
    model = {"inputs": "embeddings", "training": {}, "n_seeds": 2}
    tasks = {name: {**task, "chosen_by": "training on Train"} for name, task in record["tasks"].items()}
    for task in tasks.values():
        for key in ("weights", "shares", "rule", "train_prior"):
            task.pop(key, None)
    systems = {"mlp-raw": {}, "conformer-strf": {}}
    record["kind"] = "fusion"
    section = fusion_section(
        record | {"rule": "feature_fusion", "feature_fusion": model, "tasks": tasks, "systems": systems}
    )
    words, drawn, table = section.parts[:3]
    assert "reads the utterance embeddings of mlp-raw, conformer-strf" in words.text
    assert drawn.title.endswith("which is not submitted")
    assert [row[1] for row in table.grids[0].rows] == ["feature fusion"] * 3


def test_every_score_has_its_interval_counts_and_sd(made_run):
    record = json.loads(made_run.files.fusion.read_text())
    overview, *_ = result_section(record).parts
    full = re.compile(rf"\d\.\d+ \[(?:{DASH}|[-\d.]+), [-\d.]+\] ± \d\.\d+")
    on_test, on_val = overview.table.grids
    for grid in (on_test, on_val):
        assert [row[0] for row in grid.rows] == [
            "S_MTL",
            "CCC (emotion)",
            "UAR (country)",
            "MAE (age, years)",
        ]
        assert all(full.fullmatch(row[1]) and "[" in row[2] and ", p " in row[3] for row in grid.rows)
        assert grid.header[1:] == ["submission", "organisers' network (raw)", "difference"]
        assert grid.caption.startswith("24 / 24 / 24 clips, 8 / 8 / 8 speakers")
    table = next(part for part in systems_section(record, [], []).parts if part.kind == "table")
    assert table.title == "Candidates on validation" and table.grids[1].folded
    candidates = table.grids[0].rows
    assert len(candidates) == 4
    for row in candidates:
        assert all(full.fullmatch(cell) for cell in row[2:6]), row
        assert row[7:] == ["24 / 24 / 24", "8 / 8 / 8"]
    (table,) = [part for part in fusion_section(record).parts if part.kind == "table"]
    header = list(table.grids[0].header)
    for row in table.grids[0].rows:
        assert full.fullmatch(row[header.index("out-of-fold")]), row
        assert "[" in row[header.index("in-sample")]
    prior = {row[0]: row[header.index("Train prior alone")] for row in table.grids[0].rows}
    assert prior["country"] == "0.500" and prior["emotion"] == "0.000" and float(prior["age"]) > 1


def test_the_first_sentence_is_the_result(made_run, page):
    record = json.loads(made_run.files.fusion.read_text())
    submitted, test = record["selection"]["submitted"], record["test"]
    assert test["comparisons"][0]["name"] == record["reference"] == "organisers' network (raw)"
    found = test["comparisons"][0]["differences"]["s_mtl"]
    low, high = (DASH if found[end] is None else f"{found[end]:+.3f}" for end in ("low", "high"))
    lead = result_section(record).lead
    assert lead.startswith(f"{submitted}, a ") and f"S_MTL {test['fusion']['s_mtl']:.3f}" in lead
    assert f"on Test, a difference of {found['value']:+.3f} [{low}, {high}], p {found['p']:.3f}, from" in lead
    assert page.says(f"Result {lead}")
    # A record of a blind Test speaks of validation, and one without Table 1 of no difference.
    blind = result_section(record | {"test": {"blind": "why"}, "reference": None}).lead
    assert blind.endswith("on validation.") and "difference" not in blind


def test_comparisons_and_few_speakers_are_on_the_page(made_run, page):
    percent = json.loads(made_run.files.fusion.read_text())["test"]["comparisons"][0]["s_mtl_percent"]
    low, high = (DASH if percent[end] is None else f"{percent[end]:+.1f}" for end in ("low", "high"))
    assert page.says(f"{percent['value']:+.1f} [{low}, {high}]")
    # Four speakers of each of the two countries.
    for split in ("validation", "Test"):
        assert page.says(f"Countries of {split} with fewer than 5 speakers")


def test_no_explanation_is_on_the_page_twice(made_run, html):
    notes = re.findall(r"<li>(.*?)</li>", html)
    assert len(notes) > 10 and len(notes) == len(set(notes))


def test_details_are_folded_away_without_a_script(page, html):
    assert len(page.of("details")) == len(page.of("summary")) >= 8
    assert not any("open" in attributes for attributes in page.of("details"))
    assert "<details><summary>Difference from" in html and "<summary>How to read the tables" in html


def test_tables_come_back_as_they_were_written(tmp_path):
    evil = "a <b> & 'c' \"d\" ü"
    grids = [Grid(["stage", evil], [["raw", "0.1 [0.0, 0.2]"], [evil, ""]], evil, True), Grid(["x"], [["y"]])]
    for name, notes in (("one", ["both", evil]), ("two", ["both", "two only"])):
        write_sheet(tmp_path, name, Sheet(evil, grids, notes, ["x"], [{"x": "1"}]))
    tables, shared = read_tables([tmp_path / "one.json", tmp_path / "two.json"])
    assert shared == ["both"] and [table.notes for table in tables.values()] == [[evil], ["two only"]]
    assert tables["one"].title == evil and tables["one"].grids == grids


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
    assert texts == ["Clipping: no clip has a clipped sample (raw 0 of 72).", "Clips with a problem: none."]


def test_tasks_that_are_not_predicted_are_not_drawn(made_run):
    from exvo.evaluation.predictions import read_predictions
    from exvo.report.page.predictions import groups_section

    labels = made_run.corpus.labels.take(made_run.corpus.labels.split == "Val")
    made = read_predictions(made_run.files.val)
    emotion_only = replace(made, age=np.full_like(made.age, np.nan), country=made.country * np.nan)
    parts = groups_section(labels, emotion_only, "weighted", []).parts
    assert [p.text for p in parts] == [
        "Age: the submission does not predict it.",
        "Country: the submission does not predict it.",
    ]
