"""What a run leaves can be passed on: it does not say where it ran or whose it was, and holds nothing to execute."""

import base64
import re
import sys
from copy import deepcopy
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from snakemake.utils import update_config
from workflow_copy import REPOSITORY

from exvo.workflow.benchmark_steps import benchmark_steps
from exvo.workflow.config import complete
from exvo.workflow.plan import Plan

pytestmark = pytest.mark.xdist_group("all kinds")

DATA_URI = re.compile(rb"data:[a-z/+]+;base64,([A-Za-z0-9+/=]+)")
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def texts(path):
    """Yield all of a file in which a text may stand, unpacked where it is packed."""
    data = path.read_bytes()
    yield data
    for packed in DATA_URI.findall(data):
        yield base64.b64decode(packed)
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        for key, value in (table.schema.metadata or {}).items():
            yield key + value
        for column in table.flatten().flatten().columns:
            if pa.types.is_string(column.type):
                yield "\n".join(filter(None, column.to_pylist())).encode()
            elif pa.types.is_binary(column.type):
                yield from filter(None, column.to_pylist())


@pytest.fixture(params=["all_kinds", "in_three_shards"])
def run(request):
    return request.getfixturevalue(request.param)


def test_no_file_says_where_or_for_whom_it_was_made(run):
    # Logs are for those who ran it.
    files = [
        path
        for path in sorted((run.root / "results").rglob("*"))
        if path.is_file() and path.relative_to(run.root).parts[1] != "logs"
    ]
    places = {str(run.root), str(REPOSITORY), str(Path.home()), sys.prefix}
    found = [
        (path.relative_to(run.root).as_posix(), place)
        for path in files
        for text in texts(path)
        for place in places
        if place.encode() in text
    ]
    assert len(files) > 100 and found == []


def test_the_report_counts_the_cost_of_every_job_that_it_rests_on(all_kinds):
    config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    update_config(config, deepcopy(all_kinds.config))
    config["corpus"]["root"] = str(all_kinds.corpus)
    schema = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
    steps = benchmark_steps(Plan(complete(config, schema)))
    folder = all_kinds.root / "results/benchmarks"
    found = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.tsv")}
    # Encoders that no system reads, a figure that it does not show, and itself.
    other = {"figures/highpass", "report"}
    other |= {name for name in found if name.startswith(("clusters/", "pretrain/", "features/waveform/"))}
    assert sorted(found - other) == sorted(name for names in steps.values() for name in names)
    assert "Without benchmark files" not in (all_kinds.root / "results/report/report.html").read_text()


def test_no_file_is_one_that_reading_could_execute(run):
    for path in (run.root / "results").rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                assert not file.read(4).startswith(PICKLES), path


def test_the_pages_hold_no_script_and_ask_for_nothing(run):
    pages = sorted((run.root / "results").rglob("*.html"))
    assert len(pages) == 7
    for page in pages:
        # Within a data URI, these letters mean nothing.
        text = DATA_URI.sub(b"", page.read_bytes()).lower()
        assert not re.search(rb"<script|javascript:|\son[a-z]+\s*=|<iframe|<object|<link|@import", text), page
        assert not re.search(rb"""(src|href)\s*=\s*["']?\s*(https?:|//)""", text), page
