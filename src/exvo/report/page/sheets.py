"""The tables of a run, read back from the HTML that `exvo.report.tables.sheet` wrote: the cells that readers see."""

from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

from exvo.report.page.parts import Notes, Section, Table, without_folders
from exvo.report.tables.sheet import Grid

_KEPT = ("h1", "caption", "th", "td", "li")


def tables_section(paths: Sequence[str | Path]) -> Section:
    """Return all tables; a line that stands under several of them is said once, before them.

    Parameters
    ----------
    paths : sequence of str or Path
        HTML files, in the order wanted.
    """
    tables = [read_table(path) for path in paths]
    often = Counter(note for table in tables for note in dict.fromkeys(table.notes))
    shared = [note for note, n in often.items() if n > 1]
    own = [Table(t.title, t.grids, [note for note in t.notes if note not in shared]) for t in tables]
    lead = (
        "A cell is the mean, its confidence interval in brackets and the deviation over seeds after ±. The paper's "
        "columns are its figures for other data, the Hume Vocal Bursts."
    )
    return Section("tables", "Tables", lead, [Notes(shared), *own])


def read_table(path: str | Path) -> Table:
    """Return the grids and notes of a table that `exvo.report.tables.sheet.html` wrote.

    Raises
    ------
    ValueError
        Where the file is no such table.
    """
    reader = _Reader()
    reader.feed(Path(path).read_text(encoding="utf-8"))
    reader.close()
    if not reader.title or not reader.grids:
        raise ValueError(f"{path}: not a table of this workflow; remove it and run the workflow again")
    return Table(reader.title, reader.grids, reader.notes)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.grids: list[Grid] = []
        self.notes: list[str] = []
        self._caption, self._rows, self._text = "", [], None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _KEPT:
            self._text = []
        elif tag == "table":
            self._caption, self._rows = "", []
        elif tag == "tr":
            self._rows.append([])

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            header, *rows = self._rows
            self.grids.append(Grid(header, rows, self._caption))
        if tag not in _KEPT:
            return
        text, self._text = without_folders("".join(self._text or ())), None
        if tag == "h1":
            self.title = text
        elif tag == "caption":
            self._caption = text
        elif tag == "li":
            self.notes.append(text)
        else:
            self._rows[-1].append(text)
