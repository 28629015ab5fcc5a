"""Write the report: gather what a run left on disk, and lay it out on one page that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pyarrow.parquet as pq

from exvo.corpus.labels import Labels
from exvo.evaluation.predictions import read_predictions
from exvo.report.page.clips import clips_section
from exvo.report.page.cost import cost_section
from exvo.report.page.fusion import fusion_section
from exvo.report.page.outcome import outcome_section
from exvo.report.page.parts import Section
from exvo.report.page.predictions import answers_section
from exvo.report.page.provenance import provenance_section
from exvo.report.page.quality import quality_section
from exvo.report.page.sheets import tables_section
from exvo.report.page.strf import strf_section
from exvo.report.page.training import training_section
from exvo.util.atomic import write_text

TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class ReportFiles:
    """What the report is made from.

    Attributes
    ----------
    fusion, val, quality : str or Path
        ``fusion.json``, the submission's out-of-fold predictions of Val, and the quality table.
    tables : sequence of str or Path
        HTML, in the order wanted; ``emotions.csv`` stands beside them.
    audio : mapping of str to sequence of str or Path
        Shards by stage, in the order of the stages.
    models : mapping of str to mapping of int to str or Path
        Folder of the results by system and seed.
    strf : mapping of str to (str or Path, str or Path)
        Figures of kernels and paths, by system.
    benchmarks : mapping of str to sequence of str or Path
        By step; they need not be there.
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
    files: ReportFiles, labels: Labels, config: Mapping, systems: Mapping[str, Mapping], path: str | Path
) -> None:
    """Write the report.

    Parameters
    ----------
    files : ReportFiles
    labels : Labels
        Of the whole corpus.
    config : mapping
        The whole config.
    systems : mapping of str to mapping
        The systems of the run, whole.
    path : str or Path
        HTML to write.
    """
    record = json.loads(Path(files.fusion).read_text(encoding="utf-8"))
    rows = pq.read_table(files.quality).to_pylist()
    emotions = next(Path(table).with_name("emotions.csv") for table in files.tables)
    submitted = record["selection"]["submitted"]
    sections = [
        outcome_section(record),
        tables_section(files.tables),
        clips_section(rows, files.audio, config["report"]["clips"]),
        answers_section(labels.take(labels.split == "Val"), read_predictions(files.val), submitted, emotions),
        fusion_section(record),
        strf_section(files.strf, config["seeds"][0]),
        training_section(files.models),
        quality_section(rows, list(files.audio), labels),
        cost_section(files.benchmarks),
        provenance_section(config, config["seeds"], systems),
    ]
    corpus = Path(config["corpus"]["root"]).name
    write_text(path, render(f"Vocal bursts: {corpus}", sections))


def render(title: str, sections: Sequence[Section]) -> str:
    """Lay sections out as one HTML document; all of their text is escaped.

    The page allows itself no script and nothing from elsewhere, so a browser would refuse both.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, sections=sections) + "\n"
