"""The last step: fuse the systems, write the submission, score what can be scored, and write the tables.

Weights are chosen on Val. The Test labels are read here and nowhere else, once everything is chosen.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from exvo.audio.store import WITHOUT_AUDIO
from exvo.corpus.table import Corpus, read_test_labels
from exvo.files import write_text
from exvo.metrics import score
from exvo.predictions import align, read_predictions
from exvo.report.systems_table import TABLES, table_rows, write_table
from exvo.scoring.fusion import Fusion, FusionConfig, Run, fuse
from exvo.scoring.submission import write_submission
from exvo.systems import SOURCE_FOLDER


@dataclass(frozen=True)
class OutcomePaths:
    """Where the outcome goes: two files and the folder of the tables."""

    submission: Path
    fusion: Path
    tables: Path


def write_outcome(
    corpus: Corpus,
    runs: Mapping[str, Sequence[tuple[str | Path, str | Path]]],
    fusion: FusionConfig,
    tables: Mapping[str, Mapping[str, str]],
    quality: str | Path,
    notices: Sequence[str],
    paths: OutcomePaths,
) -> None:
    """Fuse, submit, score and tabulate.

    Parameters
    ----------
    corpus : Corpus
    runs : mapping of str to sequence of (str or Path, str or Path)
        Files of predictions of Val and Test, a pair a seed, by system.
    fusion : FusionConfig
        The fusion that becomes the submission.
    tables : mapping of str to mapping of str to str
        By table (``table1``...), the system of each of its rows.
    quality : str or Path
        The quality table, which says which clips have no audio.
    notices : sequence of str
        What was left out and why; stands under the table and in fusion.json.
    paths : OutcomePaths
    """
    labels = corpus.labels
    val = labels.take(labels.split == "Val")
    test_ids = labels.clip_id[labels.split == "Test"]
    read = {
        name: [Run(read_predictions(val_path), read_predictions(test_path)) for val_path, test_path in seeds]
        for name, seeds in runs.items()
    }
    fused = fuse(fusion, read, val, test_ids)
    write_submission(paths.submission, fused.test, corpus)
    record = fused.description | {
        "test": _test_scores(corpus, fused, {name: read[name] for name in fusion.systems}),
        "test_clips_without_audio": _without_audio(quality, set(test_ids)),
        "notices": list(notices),
    }
    write_text(paths.fusion, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    val_scores = {
        name: [score(val, align(run.val, val.clip_id)) for run in seeds] for name, seeds in read.items()
    }
    for name, systems in tables.items():
        spec = TABLES[name]
        rows = table_rows(spec, {row: val_scores[system] for row, system in systems.items()})
        notes = [f"Rows: {', '.join(f'{row} is {system}' for row, system in systems.items())}."]
        notes += [f"{notice}." for notice in notices]
        write_table(spec, rows, paths.tables / f"{name}.csv", paths.tables / f"{name}.md", notes)


def _test_scores(corpus: Corpus, fused: Fusion, runs: Mapping[str, Sequence[Run]]) -> dict[str, object]:
    """Return the Test scores of the fusion and of every seed, or say that Test is blind."""
    labels = read_test_labels(corpus)
    if labels is None:
        return {"blind": "the corpus has no test_labels.csv, so Test is not scored"}
    return {
        "fusion": score(labels, fused.test).to_json(),
        "systems": {
            name: [score(labels, align(run.test, labels.clip_id)).to_json() for run in seeds]
            for name, seeds in runs.items()
        },
    }


def _without_audio(quality: str | Path, test_ids: set[str]) -> list[dict[str, str]]:
    """List the Test clips without audio, with the stage that lacks it: its systems predict them as the Train prior."""
    table = pq.read_table(quality)
    stages = [stage for stage in SOURCE_FOLDER if f"{stage}_status" in table.column_names]
    return [
        {
            "clip_id": row["clip_id"],
            "stage": stage,
            "status": row[f"{stage}_status"],
            "reason": row[f"{stage}_reason"],
        }
        for row in table.to_pylist()
        for stage in stages
        if row["clip_id"] in test_ids and row[f"{stage}_status"] in WITHOUT_AUDIO
    ]
