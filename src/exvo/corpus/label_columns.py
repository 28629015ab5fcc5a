"""Apply the schema of the label table to whole columns: numbers, allowed words, and cells that swallow rows."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exvo.corpus.labels import SPLITS
from exvo.corpus.text import is_one_of, is_unknown, unknown_as_nan
from exvo.corpus.text_table import TextTable, as_mask, as_text
from exvo.util.arrow import float_values
from exvo.util.yaml_schema import read_schema


@cache
def schema() -> dict:
    """Return the JSON schema of a row of the table."""
    return read_schema(Path(__file__).with_name("data_info.schema.yaml"))


def number_columns(table: TextTable) -> dict[str, np.ndarray]:
    """Return the columns that the schema has numbers in as float64; NaN where missing, not known or other text."""
    names = [name for name, rule in schema()["properties"].items() if "number" in rule.get("type", ())]
    return {name: _numbers(table, name) for name in names}


def number(text: str) -> float:
    """Return the number that a text is, NaN where it is none."""
    try:
        return np.nan if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        return np.nan


def schema_problems(table: TextTable, numbers: Mapping[str, np.ndarray]) -> list[str]:
    """Apply the schema column by column: numbers that are none or out of range, words that are not allowed."""
    problems = []
    for name, rule in schema()["properties"].items():
        if not table.has(name):
            continue
        if "enum" in rule:
            wrong = ~as_mask(is_one_of(table.columns[name], rule["enum"]))
            problems += table.cell_problem(name, wrong, f"{name} must be one of {', '.join(rule['enum'])}")
        elif "number" in rule["type"]:
            problems += _number_problems(table, name, numbers[name], rule)
    return problems


def swallowed_rows(table: TextTable) -> list[str]:
    """Find cells with line breaks that hold the rows below them, which a quotation mark too many makes of them.

    A note may have several lines, in a column that means nothing here, unless one of them reads like a row. A
    ``File_ID`` may, as the name of a file may, but not together with commas; other columns may not.
    """
    problems = []
    for name in table.columns.column_names:
        values = table.columns[name]
        if not any(_has_line_break(chunk) for chunk in values.chunks):
            continue
        broken = as_mask(pc.match_substring_regex(values, "[\\r\\n]"))
        if name == "File_ID":
            broken &= as_mask(pc.match_substring(values, ","))
        elif name not in schema()["properties"]:
            texts = as_text(values)
            for row in np.flatnonzero(broken):
                broken[row] = _holds_a_row(texts[row], name, table.columns.column_names)
        rule = f"{name} goes on over the end of a line: a quotation mark is missing or too many"
        problems += table.cell_problem(name, broken, rule)
    return problems


def _numbers(table: TextTable, name: str) -> np.ndarray:
    if not table.has(name):
        return np.full(len(table), np.nan)
    text = table.columns[name]
    try:
        # Only an empty cell has to be made a number: pyarrow reads nan and NaN as such.
        if pc.min(pc.binary_length(text)).as_py() == 0:
            text = pc.replace_substring_regex(text, "^$", "nan")
        return float_values(text.cast(pa.float64()))
    except pa.ArrowInvalid:  # there is a word among them, or a number that Python reads and pyarrow does not
        return np.array([number(value) for value in as_text(unknown_as_nan(text))])


def _number_problems(table: TextTable, name: str, values: np.ndarray, rule: Mapping) -> list[str]:
    finite = np.isfinite(values)
    strange = ~finite
    if strange.any():
        strange &= ~as_mask(is_unknown(table.columns[name]))
    wanted = f"{name} must be a number or empty"
    if strange.any() and "," in "".join(table.text(name)[strange]):
        wanted += ", with a point and no comma"
    low, high = rule.get("minimum", rule.get("exclusiveMinimum")), rule["maximum"]
    with np.errstate(invalid="ignore"):
        outside = (values > high) | (values < low)
        if "exclusiveMinimum" in rule:
            outside |= values == low
    return [
        *table.cell_problem(name, strange, wanted),
        *table.cell_problem(name, outside & finite, f"{name} must lie between {low} and {high}"),
    ]


def _has_line_break(texts: pa.Array) -> bool:
    """Return whether a line break is anywhere in the memory of some texts: far quicker than a search text by text."""
    data = texts.buffers()[2]
    return data is not None and any(mark in data.to_pybytes() for mark in (b"\n", b"\r"))


def _holds_a_row(cell: str, name: str, names: list[str]) -> bool:
    """Return whether lines of a cell have a split where rows have it, and as many cells as rows have.

    A cell that swallows rows holds the rest of its own row, whole rows, and the next row up to the same column: the
    quotation mark that ends it anywhere else gives the row another number of cells, which is refused before.
    """
    place, own = names.index("Split"), names.index(name)
    first, *rows = cell.splitlines()
    if own < place:
        cells = first.split(",")
        return len(cells) >= len(names) - own and cells[place - own].strip() in SPLITS
    return any(
        len(cells) > own and cells[place].strip() in SPLITS for cells in (row.split(",") for row in rows)
    )
