"""Apply the schema of the label table to its columns: numbers, allowed words, and cells that contain rows."""

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
    """Return the numeric columns of the schema as float64; NaN where missing, unknown or other text."""
    names = [name for name, rule in schema()["properties"].items() if "number" in rule.get("type", ())]
    return {name: _numbers(table, name) for name in names}


def number(text: str) -> float:
    """Return the number in a text, NaN where it has none."""
    try:
        return np.nan if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        return np.nan


def schema_problems(table: TextTable, numbers: Mapping[str, np.ndarray]) -> list[str]:
    """Apply the schema column by column: invalid numbers, numbers out of range, and words that are not allowed."""
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
    """Find cells with line breaks that contain following rows because of a surplus quotation mark.

    A cell of an unknown column may have several lines, unless one of them has the form of a row. A ``File_ID`` may have
    line breaks, as a file name may, but not together with commas. Cells of other columns may not have line breaks.
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
        rule = f"{name} continues over the end of a line: a quotation mark is missing or surplus"
        problems += table.cell_problem(name, broken, rule)
    return problems


def _numbers(table: TextTable, name: str) -> np.ndarray:
    if not table.has(name):
        return np.full(len(table), np.nan)
    text = table.columns[name]
    try:
        # Only empty cells need replacement: pyarrow reads nan and NaN.
        if pc.min(pc.binary_length(text)).as_py() == 0:
            text = pc.replace_substring_regex(text, "^$", "nan")
        return float_values(text.cast(pa.float64()))
    except pa.ArrowInvalid:  # a word, or a number that only Python reads
        return np.array([number(value) for value in as_text(unknown_as_nan(text))])


def _number_problems(table: TextTable, name: str, values: np.ndarray, rule: Mapping) -> list[str]:
    finite = np.isfinite(values)
    invalid = ~finite
    if invalid.any():
        invalid &= ~as_mask(is_unknown(table.columns[name]))
    rule_text = f"{name} must be a number or empty"
    if invalid.any() and "," in "".join(table.text(name)[invalid]):
        rule_text += ", with a decimal point instead of a comma"
    low, high = rule.get("minimum", rule.get("exclusiveMinimum")), rule["maximum"]
    with np.errstate(invalid="ignore"):
        outside = (values > high) | (values < low)
        if "exclusiveMinimum" in rule:
            outside |= values == low
    return [
        *table.cell_problem(name, invalid, rule_text),
        *table.cell_problem(name, outside & finite, f"{name} must lie between {low} and {high}"),
    ]


def _has_line_break(texts: pa.Array) -> bool:
    """Return whether any text has a line break. Searching the buffer is much faster than searching each text."""
    data = texts.buffers()[2]
    return data is not None and any(mark in data.to_pybytes() for mark in (b"\n", b"\r"))


def _holds_a_row(cell: str, name: str, names: list[str]) -> bool:
    """Return whether lines of a cell have a split in the column ``Split`` and as many cells as a row.

    Such a cell contains the rest of its own row, complete rows, and the next row up to the same column. If the closing
    quotation mark is elsewhere, the row has another number of cells and was refused before.
    """
    place, own = names.index("Split"), names.index(name)
    first, *rows = cell.splitlines()
    if own < place:
        cells = first.split(",")
        return len(cells) >= len(names) - own and cells[place - own].strip() in SPLITS
    return any(
        len(cells) > own and cells[place].strip() in SPLITS for cells in (row.split(",") for row in rows)
    )
