"""A table of results, written as CSV, Markdown, HTML and JSON from the same cells.

The HTML is one self-contained file. All text from data or config is escaped. The report reads the JSON.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from exvo.evaluation.intervals import Difference, Interval
from exvo.util.atomic import write_text
from exvo.util.markdown import plain

DASH = "\N{EN DASH}"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1a1a1a}"
    "div{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}"
    "caption{text-align:left;font-weight:600;padding:.3rem 0}"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid #ccc;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}thead th{border-bottom:2px solid #555}li{margin:.2rem 0}"
    "@media print{body{margin:0;max-width:none}}"
)


@dataclass(frozen=True)
class Grid:
    """Rows of text under a header; the first column names the row.

    ``folded`` grids hold details: the report shows only their caption until the reader opens them.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table of results.

    Attributes
    ----------
    title : str
    grids : sequence of Grid
        For readers.
    notes : sequence of str
        Lines under the grids.
    columns : sequence of str
        Of the CSV, which has more digits and more columns than the grids.
    records : sequence of dict of str to str
        Rows of the CSV; a missing number is empty.
    """

    title: str
    grids: Sequence[Grid]
    notes: Sequence[str]
    columns: Sequence[str]
    records: Sequence[dict[str, str]] = field(repr=False)


def write_sheet(folder: Path | str, name: str, sheet: Sheet) -> None:
    """Write ``<folder>/<name>.csv``, ``.md``, ``.html`` and ``.json``.

    Parameters
    ----------
    folder : Path or str
    name : str
    sheet : Sheet
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, sheet.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sheet.records)
    record = {"title": sheet.title, "grids": [asdict(grid) for grid in sheet.grids], "notes": sheet.notes}
    texts = {
        "csv": table.getvalue(),
        "md": markdown(sheet),
        "html": html(sheet),
        "json": json.dumps(record, indent=1, ensure_ascii=False) + "\n",
    }
    for ending, text in texts.items():
        write_text(Path(folder) / f"{name}.{ending}", text)


def markdown(sheet: Sheet) -> str:
    """Return a sheet as Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(plain, cells)) + " |"

    lines = [f"{plain(sheet.title)}.", ""]
    for grid in sheet.grids:
        lines += [f"{plain(grid.caption)}:", ""] if grid.caption else []
        lines += [line(grid.header), "|---" * len(grid.header) + "|", *map(line, grid.rows), ""]
    return "\n".join([*lines, *(f"- {plain(note)}" for note in sheet.notes)]) + "\n"


def html(sheet: Sheet) -> str:
    """Return a sheet as a complete HTML document."""
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(sheet.title)}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(sheet.title)}</h1>",
        *(grid_html(grid) for grid in sheet.grids),
        "<ul>",
        *(f"<li>{escape(note)}</li>" for note in sheet.notes),
        "</ul></body></html>",
    ]
    return "\n".join(parts) + "\n"


def grid_html(grid: Grid) -> str:
    """Return a grid as an HTML table."""
    caption = f"<caption>{escape(grid.caption)}</caption>" if grid.caption else ""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in grid.header)
    rows = [
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        for first, *cells in grid.rows
    ]
    body = "</tr>\n".join([*rows, ""])
    return f"<div><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"


def number(value: float, places: int, missing: str) -> str:
    """Return a number with a fixed number of decimals, or the text for a missing one."""
    return f"{value:.{places}f}" if np.isfinite(value) else missing


def estimate(value: float, places: int, interval: Interval | None, sd: float = float("nan")) -> str:
    """Return ``0.352 [0.330, 0.371] ± 0.012``, without the parts that are missing; a dash without a value.

    Parameters
    ----------
    value : float
    places : int
        Decimals.
    interval : Interval or None
    sd : float
        Over seeds; NaN for none.
    """
    if not np.isfinite(value):
        return DASH
    text = number(value, places, DASH)
    if interval is not None and not np.isnan(interval.high):
        text += f" [{number(interval.low, places, DASH)}, {number(interval.high, places, DASH)}]"
    return text + (f" ± {sd:.{places}f}" if np.isfinite(sd) else "")


def signed(found: Difference | None, places: int) -> str:
    """Return ``+0.012 [-0.003, +0.027], p 0.110``; a dash without a difference."""
    if found is None or not np.isfinite(found.value):
        return DASH
    text = f"{found.value:+.{places}f}"
    if np.isnan(found.p):
        return text
    low, high = (f"{limit:+.{places}f}" if np.isfinite(limit) else DASH for limit in (found.low, found.high))
    return f"{text} [{low}, {high}], p {'< 0.001' if found.p < 0.001 else f'{found.p:.3f}'}"
