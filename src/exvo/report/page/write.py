"""Write the report: one self-contained HTML page made from the files of a run."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import pyarrow.parquet as pq

from exvo.corpus.labels import Labels
from exvo.evaluation.predictions import read_predictions
from exvo.report.page.clips import clips_section
from exvo.report.page.cost import cost_section
from exvo.report.page.fusion import fusion_section
from exvo.report.page.outcome import result_section, systems_section
from exvo.report.page.parts import Section, Table, without_folders
from exvo.report.page.predictions import emotions_section, groups_section
from exvo.report.page.provenance import provenance_section
from exvo.report.page.quality import quality_section
from exvo.report.page.strf import strf_section
from exvo.report.page.training import training_section
from exvo.report.tables.sheet import Grid
from exvo.util.atomic import write_text

TEMPLATE = Path(__file__).with_name("page.html.j2")
# Test first, then the tables on validation.
SYSTEMS_TABLES = ("table4", "table1", "table2", "table3")


@dataclass(frozen=True)
class ReportFiles:
    """The files behind the report.

    Attributes
    ----------
    fusion, val, quality : str or Path
        ``fusion.json``, the submission's out-of-fold predictions of Val, and the quality table.
    tables : sequence of str or Path
        JSON of every table; ``emotions.csv`` is in the same folder.
    audio : mapping of str to sequence of str or Path
        Shards by stage, in the order of the stages.
    models : mapping of str to mapping of int to str or Path
        Folder of the results by system and seed.
    strf : mapping of str to (str or Path, str or Path)
        Figures of kernels and paths, by system.
    benchmarks : mapping of str to sequence of str or Path
        By step; files may be missing.
    """

    fusion: str | Path
    val: str | Path
    quality: str | Path
    tables: Sequence[str | Path]
    audio: Mapping[str, Sequence[str | Path]]
    models: Mapping[str, Mapping[int, str | Path]]
    strf: Mapping[str, tuple[str | Path, str | Path]]
    benchmarks: Mapping[str, Sequence[str | Path]]


def write_report(
    files: ReportFiles,
    labels: Labels,
    config: Mapping[str, Any],
    systems: Mapping[str, Mapping[str, Any]],
    path: str | Path,
) -> None:
    """Write the report.

    Parameters
    ----------
    files : ReportFiles
    labels : Labels
        Of the complete corpus.
    config : mapping
        The complete config.
    systems : mapping of str to mapping
        The systems of the run, with their settings.
    path : str or Path
        HTML to write.
    """
    record = json.loads(Path(files.fusion).read_text(encoding="utf-8"))
    rows = pq.read_table(files.quality).to_pylist()
    tables, shared = read_tables(files.tables)
    emotions = Path(files.tables[0]).with_name("emotions.csv")
    submitted, candidates = record["selection"]["submitted"], record["selection"]["candidates"]
    best_single = next(c["name"] for c in candidates if c["kind"] == "system")
    val_labels = labels.take(labels.split == "Val")
    sections = [
        result_section(record),
        systems_section(record, [tables[name] for name in SYSTEMS_TABLES if name in tables], shared),
        emotions_section(emotions, submitted, best_single, [tables["emotions"]]),
        groups_section(val_labels, read_predictions(files.val), submitted, [tables["groups"]]),
        clips_section(rows, files.audio, config["report"]["clips"]),
        fusion_section(record),
        training_section(files.models),
        strf_section(files.strf, config["seeds"][0]),
        quality_section(rows, list(files.audio), labels),
        cost_section(files.benchmarks),
        provenance_section(config, config["seeds"], systems),
    ]
    corpus = Path(config["corpus"]["root"]).name
    write_text(path, render(f"Vocal bursts: {corpus}", sections))


def read_tables(paths: Sequence[str | Path]) -> tuple[dict[str, Table], list[str]]:
    """Read tables written by `exvo.report.tables.sheet.write_sheet`.

    Parameters
    ----------
    paths : sequence of str or Path
        JSON files.

    Returns
    -------
    tables : dict of str to Table
        By file name without its ending. Notes of several tables are left out.
    shared : list of str
        The notes of several tables, each once.
    """
    tables = {}
    for path in map(Path, paths):
        record = json.loads(without_folders(path.read_text(encoding="utf-8")))
        tables[path.stem] = Table(
            record["title"], [Grid(**grid) for grid in record["grids"]], record["notes"]
        )
    n_tables = Counter(note for table in tables.values() for note in dict.fromkeys(table.notes))
    shared = [note for note, n in n_tables.items() if n > 1]
    own = {
        name: replace(table, notes=[note for note in table.notes if note not in shared])
        for name, table in tables.items()
    }
    return own, shared


def render(title: str, sections: Sequence[Section]) -> str:
    """Render sections as one HTML document; all of their text is escaped.

    The content security policy of the page forbids scripts and external resources.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, sections=sections) + "\n"
