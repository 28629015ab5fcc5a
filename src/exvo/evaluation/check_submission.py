"""Check a submission against the format of the challenge; each problem says how to correct it.

The file may come from any program, so nothing about it is assumed.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exvo.corpus.labels import EMOTIONS, TASKS
from exvo.corpus.table import Corpus
from exvo.evaluation.metrics import labelled
from exvo.evaluation.submission import HEADER

MAX_NAMED = 3
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass
class Findings:
    """The findings of a check.

    Attributes
    ----------
    problems : list of str
        Violations of the format that a scorer would fail on, with the place and the correction.
    notes : list of str
        Observations that need no change.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_rows(self, rows: Sequence[tuple[int, str]], rule: str) -> None:
        """Add one problem for all rows that violate a rule; it names the first few.

        Parameters
        ----------
        rows : sequence of (line, text)
        """
        if rows:
            named = ", ".join(f"line {line} ({text})" for line, text in rows[:MAX_NAMED])
            more = f" and {len(rows) - MAX_NAMED:,} more" if len(rows) > MAX_NAMED else ""
            self.problems.append(f"{named}{more}: {rule}")


def check_submission(path: Path | str, corpus: Corpus) -> Findings:
    """Check a submission against a corpus. Lines are counted as an editor does, the header being line 1.

    Parameters
    ----------
    path : Path or str
    corpus : Corpus

    Returns
    -------
    Findings
        `read_submission` can read a file without problems.
    """
    findings = Findings()
    text = _read_text(Path(path), findings)
    rows = _read_rows(text, findings) if text is not None else None
    if rows is not None:
        _check_ids(rows, corpus, findings)
        _check_country(rows, corpus, findings)
        _check_numbers(rows, corpus, findings)
    return findings


def _read_text(path: Path, findings: Findings) -> str | None:
    try:
        content = path.read_bytes()
    except OSError as error:
        findings.problems.append(f"{path}: cannot be read ({error.strerror}); check the path")
        return None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        findings.problems.append("the file is UTF-16; save it as UTF-8")
        return None
    if content.startswith(b"\xef\xbb\xbf"):
        findings.problems.append(
            "line 1: the file starts with a byte order mark, which becomes part of the first column's name; "
            "save it as UTF-8 without BOM"
        )
        content = content[3:]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        findings.problems.append(f"line {line}: not UTF-8; save the file as UTF-8")
        return None
    if not text.strip():
        findings.problems.append(f"the file is empty; its first line must be {','.join(HEADER)}")
        return None
    if "\r" in text:
        findings.notes.append("lines end in \\r\\n; the challenge's own files end them in \\n")
    return text


def _read_rows(text: str, findings: Findings) -> list[tuple[int, dict[str, str]]] | None:
    """Return (line, cells by column name) of every row, or None where the header cannot be used."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader)
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        findings.problems.append(f"line {reader.line_num}: not CSV ({error})")
        return None
    if len(header) == 1:
        for sign, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (" ", "spaces")):
            if sign in header[0]:
                findings.problems.append(f"line 1: columns are separated by {name}; separate them by commas")
                return None
    missing = [name for name in HEADER if name not in header]
    extra = [name for name in header if name not in HEADER]
    twice = [name for name, n in Counter(header).items() if n > 1]
    if missing:
        findings.problems.append(f"line 1: these columns are missing: {', '.join(missing)}; add them")
    if extra:
        findings.problems.append(
            f"line 1: these columns are not part of the format: {', '.join(map(repr, extra))}"
        )
    if twice:
        findings.problems.append(f"line 1: these columns are repeated: {', '.join(twice)}; keep one of each")
    if not missing and not extra and not twice and tuple(header) != HEADER:
        findings.problems.append(f"line 1: the columns are in another order; write {','.join(HEADER)}")
    if missing or twice:
        return None
    ragged = [(line, f"{len(cells)} cells") for line, cells in lines if cells and len(cells) != len(header)]
    findings.add_rows(ragged, f"a row must have as many cells as the header, {len(header)}")
    findings.add_rows([(line, "empty") for line, cells in lines if not cells], "remove the empty lines")
    return [
        (line, dict(zip(header, cells, strict=True))) for line, cells in lines if len(cells) == len(header)
    ]


def _check_ids(rows: list[tuple[int, dict[str, str]]], corpus: Corpus, findings: Findings) -> None:
    split_of = dict(zip(corpus.file_ids.tolist(), corpus.labels.split.tolist(), strict=True))
    id_of_clip = dict(zip(corpus.labels.clip_id.tolist(), corpus.file_ids.tolist(), strict=True))
    test_ids = [file_id for file_id, split in split_of.items() if split == "Test"]
    given = Counter(cells["File_ID"] for _, cells in rows)

    if len(rows) != len(test_ids):
        findings.problems.append(
            f"{len(rows):,} rows, but the corpus has {len(test_ids):,} Test clips; write one row per clip"
        )
    misspelt: list[tuple[int, str]] = []
    unknown: list[tuple[int, str]] = []
    elsewhere: list[tuple[int, str]] = []
    repeated: list[tuple[int, str]] = []
    seen: set[str] = set()
    for line, cells in rows:
        file_id = cells["File_ID"]
        bare = file_id.strip().removeprefix("[").removesuffix("]").strip()
        # A spreadsheet that reads [00012] as a number writes 12 or 12.0.
        padded = re.sub(r"\.0$", "", bare).zfill(5)
        meant = id_of_clip.get(bare) or id_of_clip.get(padded)
        if file_id in seen:
            repeated.append((line, repr(file_id)))
        elif file_id in split_of:
            if split_of[file_id] != "Test":
                elsewhere.append((line, f"{file_id} is {split_of[file_id]}"))
        elif meant:
            misspelt.append((line, f"{file_id!r}, meant {meant!r}?"))
        else:
            unknown.append((line, repr(file_id)))
        seen.add(file_id)
    findings.add_rows(misspelt, "File_ID must be written exactly as in data_info.csv")
    findings.add_rows(unknown, "File_ID is not in data_info.csv; remove the rows")
    findings.add_rows(elsewhere, "only Test clips belong in a submission; remove the rows")
    findings.add_rows(repeated, "a File_ID is repeated; keep one row per clip")
    missing = [file_id for file_id in test_ids if file_id not in given]
    if missing:
        named = ", ".join(missing[:MAX_NAMED]) + (", ..." if len(missing) > MAX_NAMED else "")
        findings.problems.append(f"{len(missing):,} Test clips have no row: {named}; add them")
    if not findings.problems and [cells["File_ID"] for _, cells in rows] != test_ids:
        findings.notes.append("the rows are not in the order of data_info.csv; clips are matched by File_ID")


def _check_country(rows: list[tuple[int, dict[str, str]]], corpus: Corpus, findings: Findings) -> None:
    rows = _present(rows, "Country", bool(corpus.labels.countries), findings)
    code_of_name = {country.name: country.code for country in corpus.labels.countries}
    codes = set(code_of_name.values())
    named = ", ".join(f"{country.code} {country.name}" for country in corpus.labels.countries) or "none"
    names: list[tuple[int, str]] = []
    not_integer: list[tuple[int, str]] = []
    unknown: list[tuple[int, str]] = []
    for line, cells in rows:
        value = cells["Country"]
        if value in code_of_name and not value.isdigit():
            names.append((line, f"{value!r}, its code is {code_of_name[value]}"))
        elif not re.fullmatch(r"\d+", value, re.ASCII):
            not_integer.append((line, repr(value)))
        elif int(value) not in codes:
            unknown.append((line, value))
    findings.add_rows(names, "Country must be the integer code, not the name")
    findings.add_rows(not_integer, "Country must be an integer code such as 2 (not 2.0)")
    findings.add_rows(unknown, f"Country is not a code of this corpus ({named})")


def _check_numbers(rows: list[tuple[int, dict[str, str]]], corpus: Corpus, findings: Findings) -> None:
    has = {task: bool(labelled(corpus.labels, task).any()) for task in TASKS}
    for name in ("Age", *EMOTIONS):
        present = _present(rows, name, has["age" if name == "Age" else "emotion"], findings)
        not_number: list[tuple[int, str]] = []
        not_finite: list[tuple[int, str]] = []
        outside: list[tuple[int, str]] = []
        for line, cells in present:
            value = cells[name]
            if value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity", "null", "none", "na", "n/a"):
                not_finite.append((line, value))
            elif not _NUMBER.fullmatch(value):
                not_number.append((line, repr(value)))
            elif not (0 < float(value) < 150 if name == "Age" else 0 <= float(value) <= 1):
                outside.append((line, value))
        comma = " (decimal point, not comma)" if any("," in value for _, value in not_number) else ""
        findings.add_rows(not_number, f"{name} must be a number{comma}")
        findings.add_rows(not_finite, f"{name} must be a finite number; predict something for every clip")
        findings.add_rows(
            outside,
            "Age must be in years, above 0" if name == "Age" else f"{name} must lie in [0, 1]; clip it",
        )


def _present(
    rows: list[tuple[int, dict[str, str]]], name: str, wanted: bool, findings: Findings
) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with a value in a column, and report the others."""
    empty = [(line, cells["File_ID"]) for line, cells in rows if not cells[name].strip()]
    if not wanted and rows and len(empty) == len(rows):
        findings.notes.append(f"{name} is empty in every row: the corpus has no labels of it")
    elif empty and len(empty) == len(rows):
        findings.problems.append(
            f"{name} is empty in every row; predict it, or name its system in the fusion"
        )
    else:
        findings.add_rows(empty, f"{name} is empty; predict something for every clip")
    return [(line, cells) for line, cells in rows if cells[name].strip()]
