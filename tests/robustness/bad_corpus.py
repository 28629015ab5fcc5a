"""A corpus with a bad clip of every kind among its own, and a label table as some programs write it."""

import csv
from pathlib import Path

from bad_clips import BadClip, all_bad_clips
from workflow_copy import Workflow

from exvo.corpus.labels import SPLITS


def read_table(workflow: Workflow, name: str = "data_info.csv") -> list[dict[str, str]]:
    with (workflow.corpus / name).open(newline="") as file:
        return list(csv.DictReader(file))


def write_table(
    workflow: Workflow,
    rows: list[dict[str, str]],
    name: str = "data_info.csv",
    *,
    encoding: str = "utf-8",
    line_end: str = "\n",
) -> None:
    with (workflow.corpus / name).open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator=line_end)
        writer.writeheader()
        writer.writerows(rows)


def add_bad_clips(workflow: Workflow) -> dict[str, BadClip]:
    """Add bad clips to all splits and allow them; return them by id."""
    # Beside the corpus: links within it are followed.
    outside: Path = workflow.root / "outside"
    outside.mkdir()
    bad = all_bad_clips(outside)
    rows = read_table(workflow)
    age = {"Country": "0", "Country_string": "China", "Age": "30"}
    for number, clip in enumerate(bad):
        clip.make(workflow.corpus / "raw")
        split = SPLITS[number % 3]
        labels = age if split != "Test" else {}
        rows.append(dict.fromkeys(rows[0], "") | {"File_ID": f"[{clip.clip_id}]", "Split": split} | labels)
    # As Excel saves it: a mark of the byte order, and lines that end in two characters.
    write_table(workflow, rows, encoding="utf-8-sig", line_end="\r\n")
    workflow.config["corpus"]["max_bad_fraction"] = 0.9
    workflow.config["audio"] = {"convert": {"max_seconds": 10}}
    return {clip.clip_id: clip for clip in bad}
