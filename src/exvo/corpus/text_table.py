"""Read a CSV file as columns of text, and find the line of the file in which a row begins.

pyarrow reads the file. It refuses rows with missing or surplus cells at the right, which spreadsheets often write; such
files are read again row by row with Python's reader. Lines are counted only for a message.
"""

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from exvo.corpus.errors import CorpusError, reading
from exvo.corpus.text import known_name, trimmed
from exvo.util.arrow import column

MAX_ROWS_NAMED = 3
_DELIMITERS = ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"))
_HOW = "save it as CSV with commas, in UTF-8 (Excel: 'CSV UTF-8')"


@dataclass(frozen=True)
class TextTable:
    """A label table as text.

    Attributes
    ----------
    path : Path
    columns : pyarrow.Table
        Trimmed text; ``""`` for an empty cell. Known columns have the names of the schema.
    without_name : tuple of str
        Placeholder names of the columns that have content and no name.
    records : np.ndarray [shape=(n,), int64]
        Index of each row among the rows of the file, from 0 and without blank lines. Empty rows are omitted.
    """

    path: Path
    columns: pa.Table
    without_name: tuple[str, ...]
    records: np.ndarray

    def __len__(self) -> int:
        return self.columns.num_rows

    def has(self, name: str) -> bool:
        """Return whether the table has a column."""
        return name in self.columns.column_names

    def text(self, name: str) -> np.ndarray:
        """Return a column as text [shape=(n,), object]; empty where the column is missing."""
        return as_text(self.columns[name]) if self.has(name) else np.full(len(self), "", dtype=object)

    def words(self, name: str) -> tuple[list[str], np.ndarray]:
        """Return the distinct texts of a column, and the index of each row into them [shape=(n,), int32]."""
        if not self.has(name):
            return [""], np.zeros(len(self), dtype=np.int32)
        encoded = self.columns[name].combine_chunks().dictionary_encode()
        return encoded.dictionary.to_pylist(), np.from_dlpack(encoded.indices)

    def names(self, name: str) -> np.ndarray:
        """Return a column of names [shape=(n,), object], normalised by `exvo.corpus.text.known_name`."""
        words, index = self.words(name)
        return np.array([known_name(word) for word in words], dtype=object)[index]

    def row_problem(
        self, values: np.ndarray, wrong: np.ndarray, rule: str, meant: Mapping[str, str] | None = None
    ) -> list[str]:
        """Describe the rows that break a rule in one line, or in none if there are no such rows.

        Parameters
        ----------
        values : np.ndarray [shape=(n,), object]
            Value to show for each row.
        wrong : np.ndarray [shape=(n,), bool]
            Which rows break the rule.
        rule : str
        meant : mapping of str to str or None
            Probable intended value of each wrong value.
        """
        rows = np.flatnonzero(wrong)
        if not len(rows):
            return []
        shown = [
            f"line {line}: {value!r}" + (f", meant {meant[value]!r}?" if meant else "")
            for line, value in zip(self._lines(rows[:MAX_ROWS_NAMED]), values[rows], strict=False)
        ]
        more = f" and {len(rows) - MAX_ROWS_NAMED} more" if len(rows) > MAX_ROWS_NAMED else ""
        return [f"{rule} ({', '.join(shown)}{more})"]

    def cell_problem(self, name: str, wrong: np.ndarray, rule: str) -> list[str]:
        """Describe the cells of a column that break a rule, as `row_problem`."""
        return self.row_problem(self.text(name), wrong, rule) if wrong.any() else []

    def line(self, row: int) -> int:
        """Return the line of the file in which a row begins, counted from 1."""
        return self._lines(np.array([row]))[0]

    def _lines(self, rows: np.ndarray) -> list[int]:
        records = self.records[rows]
        lines = [line for line, _ in islice(_records(self.path), int(records.max()) + 1)]
        return [lines[record] for record in records]


def as_text(values: pa.ChunkedArray) -> np.ndarray:
    """Return a column of text as an array [shape=(n,), object]."""
    # Through a list, because pyarrow's own conversion to NumPy imports pandas, which takes longer than all the rest.
    return np.array(values.to_pylist(), dtype=object)


def as_mask(values: pa.ChunkedArray) -> np.ndarray:
    """Return a boolean column as an array [shape=(n,), bool]."""
    return np.from_dlpack(values.combine_chunks().cast(pa.uint8())).view(bool).copy()


def read_text_table(path: Path, known: Collection[str], required: Iterable[str]) -> TextTable:
    """Read a CSV file.

    Parameters
    ----------
    path : Path
    known : collection of str
        Names of known columns. They match regardless of case, and with spaces for ``_``.
    required : iterable of str
        Names of required columns.

    Raises
    ------
    CorpusError
        Where the file cannot be read as a table.
    """
    names = _column_names(path, known, list(required))
    table = _read_rows(path, names, known)
    table = pa.table([trimmed(values) for values in table.columns], names)
    records = np.arange(table.num_rows)
    filled = _filled_rows(table, names)
    if filled is not None:
        records = np.flatnonzero(filled)
        # A mask from a buffer, because pyarrow imports pandas to convert an array.
        bits = pa.py_buffer(np.packbits(filled, bitorder="little"))
        table = table.filter(pa.Array.from_buffers(pa.bool_(), len(filled), [None, bits]))
    if not len(records):
        raise CorpusError(
            f"{path}: no clips: the file has a line of column names and no rows; add a row per clip"
        )
    nameless = [name for name in names if name.startswith("column ")]
    empty = {name for name in nameless if not pc.max(pc.binary_length(table[name])).as_py()}
    kept = [name for name in names if name not in empty]
    return TextTable(path, table.select(kept), tuple(n for n in nameless if n not in empty), records)


def _column_names(path: Path, known: Collection[str], required: list[str]) -> list[str]:
    """Return the column names in the first line, known ones as in the schema; refuse an invalid first line."""
    with reading(path), path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            header = next(csv.reader(file), [])
        except csv.Error as error:
            raise CorpusError(f"{path}: line 1 cannot be read as comma-separated text: {error}") from error
    written = [name.strip() for name in header]
    if not any(written):
        raise CorpusError(
            f"{path}: the file or its first line is empty; the first line must name the columns, at least"
            f" {' and '.join(required)}"
        )
    if any("\ufffd" in name or "\0" in name for name in written):
        raise CorpusError(f"{path}: line 1 is not UTF-8; {_HOW}")
    if re.fullmatch("sep=.?", written[0], re.IGNORECASE):
        raise CorpusError(
            f"{path}: line 1 sets the separator for Excel ({written[0]}); remove it, because the first line must name"
            " the columns"
        )
    if len(written) == 1:
        for delimiter, word in _DELIMITERS:
            if delimiter in written[0]:
                raise CorpusError(f"{path}: columns are separated by {word}; save it with commas")
    names = _known_names(written, known)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CorpusError(
            f"{path}: the first line names a column twice: {', '.join(twice)}; keep one of each"
        )
    missing = [name for name in required if name not in names]
    if missing:
        shown = ", ".join(filter(None, written))
        raise CorpusError(f"{path}: no column {' and '.join(missing)}; the columns are: {shown}")
    return names


def _known_names(written: list[str], known: Collection[str]) -> list[str]:
    """Return the names in their known spelling (``File_ID`` for ``file id``), and names for columns without one."""
    meant = {_plain(name): name for name in known if name not in written}
    return [
        meant.get(_plain(name), name) if name else f"column {place} (which has no name)"
        for place, name in enumerate(written, start=1)
    ]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.casefold())


def _read_rows(path: Path, names: list[str], known: Collection[str]) -> pa.Table:
    try:
        with reading(path):
            return pa_csv.read_csv(
                path,
                read_options=pa_csv.ReadOptions(column_names=names, skip_rows_after_names=1),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    column_types={name: pa.string() for name in names},
                    strings_can_be_null=False,
                    check_utf8=True,
                ),
            )
    except pa.ArrowInvalid as error:
        wrong = _not_utf8(path)
        if wrong:
            raise CorpusError(f"{path}: {wrong}; {_HOW}") from error
    return _read_ragged_rows(path, names, known)


def _not_utf8(path: Path) -> str | None:
    """Return the first line of a file that is not UTF-8, for a message."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            return f"line {number} is not UTF-8 ({line[max(error.start - 8, 0) : error.end + 4]!r})"
    return None


def _read_ragged_rows(path: Path, names: list[str], known: Collection[str]) -> pa.Table:
    """Read rows with more or fewer cells than there are names, where this cannot lose data.

    Spreadsheets add or omit empty cells at the right. A row may lack cells of unknown columns. A row that lacks a label
    is refused: a comma further left may be missing, and all its labels would be shifted by one column.
    """
    needed = max(place for place, name in enumerate(names) if name in known) + 1
    rows, wrong = [], []
    for line, cells in _records(path):
        if len(cells) < needed or any(cell.strip() for cell in cells[len(names) :]):
            wrong.append(f"line {line}: {len(cells)}")
        rows.append((cells + [""] * len(names))[: len(names)])
    if wrong:
        more = f" and {len(wrong) - MAX_ROWS_NAMED} more" if len(wrong) > MAX_ROWS_NAMED else ""
        raise CorpusError(
            f"{path}: the first line names {len(names)} columns, but some rows have another number of cells"
            f" ({', '.join(wrong[:MAX_ROWS_NAMED])}{more}); look for a missing or surplus comma or quotation mark."
            " Where Excel omits empty cells at the end of rows, add a last column that is filled in every row"
        )
    return pa.table([column(list(cells), pa.string()) for cells in zip(*rows, strict=True)], names)


def _filled_rows(table: pa.Table, names: list[str]) -> np.ndarray | None:
    """Return which rows are not empty, or None if all are. Spreadsheets save thousands of empty rows at the end."""
    empty = np.ones(table.num_rows, dtype=bool)
    for name in names:
        lengths = pc.binary_length(table[name])
        if pc.min(lengths).as_py():
            return None
        empty &= ~as_mask(pc.cast(lengths, pa.bool_()))
        if not empty.any():
            return None
    return ~empty


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows after the first line, without blank lines, each with its line number."""
    with reading(path), path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        begins = 1
        try:
            for number, cells in enumerate(reader):
                if number and (len(cells) > 1 or "".join(cells).strip()):
                    yield begins, cells
                begins = reader.line_num + 1
        except csv.Error as error:
            raise CorpusError(
                f"{path}: line {begins} cannot be read as comma-separated text: {error}"
            ) from error
