"""Read and check the label table of a corpus, ``data_info.csv``.

The table is read by column name, and every label may be missing. What cannot be right (a clip id that is no file
name, a speaker in two splits) is an error that names the rows; ``data_info.schema.yaml`` beside this module says
what each column may hold.

Snakemake reads the table whenever it reads the Snakefile, so this module works on whole columns and imports
nothing heavier than pyarrow.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from exvo.columns import float_values
from exvo.corpus.errors import CorpusError, reading
from exvo.corpus.labels import EMOTIONS, SPLITS, Country, Labels
from exvo.corpus.shards import stable_hash
from exvo.schemas import read_schema

TABLE = "data_info.csv"
TEST_TABLE = "test_labels.csv"
# The codes of the challenge (ExVo 2022), for tables that name countries without giving a code.
CHALLENGE_COUNTRIES = ("China", "South Africa", "United States", "Venezuela")
MAX_ROWS_NAMED = 3
MAX_COUNTRY_CODE = 9999
# What stands for a label that is not known.
UNKNOWN = ("", "nan", "NaN")


@dataclass(frozen=True)
class Corpus:
    """A corpus as its label table describes it, in the table's order.

    Attributes
    ----------
    root : Path
    file_ids : np.ndarray [shape=(n,), str]
        ``File_ID`` exactly as the table writes it: the submission repeats it.
    labels : Labels
        Of ``n`` clips.
    notices : tuple of str
        What a user should know of the table and need not change.
    limited : bool
        Whether it is only a part of the table's clips.
    """

    root: Path
    file_ids: np.ndarray
    labels: Labels
    notices: tuple[str, ...] = ()
    limited: bool = False


def read_corpus(root: str | Path, limit: int | None = None) -> Corpus:
    """Read ``data_info.csv`` of a corpus.

    Parameters
    ----------
    root : str or Path
        The corpus folder.
    limit : int [scalar > 0] or None
        Keep at most so many clips a split, speakers whole; None keeps all.

    Raises
    ------
    CorpusError
        With every problem found, the rows and what to do.
    """
    root = Path(root)
    table, problems = _read_columns(root / TABLE)
    numbers = _numbers(table)
    problems += _schema_problems(table, numbers)
    file_ids = _text(table, "File_ID")
    clip_ids, id_problems = _clip_ids(file_ids)
    splits, speakers = _text(table, "Split"), _text(table, "Subject_ID")
    problems += id_problems + _speaker_problems(splits, speakers)
    if problems:
        raise CorpusError(_problem_list(root / TABLE, problems))
    countries, country, notices, country_problems = _countries(table, known=None)
    if country_problems:
        raise CorpusError(_problem_list(root / TABLE, country_problems))
    unknown = [name for name in table.column_names if name not in schema()["properties"]]
    if unknown:
        notices.append(
            f"columns of {TABLE} that mean nothing here are left out: {', '.join(map(repr, unknown))}"
        )
    labels = Labels(
        clip_id=clip_ids,
        split=splits,
        speaker=speakers,
        age=numbers["Age"],
        country=country,
        emotion=np.stack([numbers[name] for name in EMOTIONS], axis=1),
        countries=countries,
    )
    corpus = Corpus(root, file_ids, labels, tuple(notices))
    return corpus if limit is None else limit_corpus(corpus, limit)


def read_test_labels(corpus: Corpus) -> Labels | None:
    """Read ``test_labels.csv``, in the order of the corpus's Test clips.

    Returns
    -------
    Labels or None
        None where the corpus has no such table. Test clips that it does not list have no label; rows of clips
        that are not Test clips of the corpus are left out.

    Raises
    ------
    CorpusError
        As `read_corpus` does, and where no row is of a Test clip, a country is not one of ``data_info.csv``, or a
        speaker of a Test clip is one of Train or Val: in the challenge, Test's speakers are named here only.
    """
    path = corpus.root / TEST_TABLE
    with reading(path):
        if not path.is_file():
            return None
    table, problems = _read_columns(path)
    numbers = _numbers(table)
    problems += _schema_problems(table, numbers)
    clip_ids, id_problems = _clip_ids(_text(table, "File_ID"))
    problems += id_problems + _known_speaker_problems(corpus.labels, clip_ids, _text(table, "Subject_ID"))
    if problems:
        raise CorpusError(_problem_list(path, problems))
    _, country, _, problems = _countries(table, known=corpus.labels.countries)
    if problems:
        raise CorpusError(_problem_list(path, problems))
    test = corpus.labels.take(corpus.labels.split == "Test")
    row_of = {clip_id: row for row, clip_id in enumerate(clip_ids)}
    rows = np.array([row_of.get(clip_id, -1) for clip_id in test.clip_id], dtype=np.int64)
    found = rows >= 0
    if len(test) and not found.any() and not corpus.limited:
        raise CorpusError(
            f"{path}: none of its {len(clip_ids)} clips is a Test clip of {TABLE} (line 2: {clip_ids[0]!r}; a Test "
            f"clip there: {test.clip_id[0]!r}). File_ID must be as in {TABLE}; without this file, Test is blind"
        )

    def place(values: np.ndarray, unknown: object) -> np.ndarray:
        placed = np.full((len(test), *values.shape[1:]), unknown, dtype=values.dtype)
        placed[found] = values[rows[found]]
        return placed

    emotion = np.stack([numbers[name] for name in EMOTIONS], axis=1)
    speakers = place(_text(table, "Subject_ID"), "")
    return Labels(
        clip_id=test.clip_id,
        split=test.split,
        speaker=np.where(speakers == "", test.speaker, speakers),
        age=place(numbers["Age"], np.nan),
        country=place(country, -1),
        emotion=place(emotion, np.nan),
        countries=test.countries,
    )


def limit_corpus(corpus: Corpus, limit: int) -> Corpus:
    """Keep at most ``limit`` clips of each split, every speaker with all clips or with none.

    Speakers are taken in the order of a hash of their names, so a larger limit mostly adds to a smaller one. A
    clip of an unknown speaker counts as a speaker of its own.

    Raises
    ------
    CorpusError
        Where every speaker of a split has more clips than the limit.
    """
    labels = corpus.labels
    keep = np.zeros(len(labels), dtype=bool)
    for split in SPLITS:
        groups: dict[str, list[int]] = {}
        for row in np.flatnonzero(labels.split == split):
            name = labels.speaker[row] or f"clip {labels.clip_id[row]}"
            groups.setdefault(name, []).append(row)
        n_kept = 0
        for name in sorted(groups, key=lambda name: (stable_hash(name), name)):
            if n_kept + len(groups[name]) <= limit:
                keep[groups[name]] = True
                n_kept += len(groups[name])
        if groups and not n_kept:
            smallest = min(map(len, groups.values()))
            raise CorpusError(
                f"corpus.limit is {limit}, but no speaker of {split} has so few clips: set it to at least {smallest}"
            )
    rows = np.flatnonzero(keep)
    return Corpus(corpus.root, corpus.file_ids[rows], labels.take(rows), corpus.notices, limited=True)


@cache
def schema() -> dict:
    """Return the JSON schema of a row of the table."""
    return read_schema(Path(__file__).with_name("data_info.schema.yaml"))


def _read_columns(path: Path) -> tuple[pa.Table, list[str]]:
    """Read a CSV file as columns of stripped text, and find cells that go on over the end of a line."""
    with reading(path):
        there = path.is_file()
    if not there:
        raise CorpusError(
            f"{path}: no such file. A corpus is a folder with {TABLE} and raw/: set corpus.root to it"
            " (`exvo demo DIR` makes one to try)"
        )
    with reading(path), path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            header = next(csv.reader(file), [])
        except csv.Error as error:
            raise CorpusError(f"{path}: line 1 cannot be read as comma-separated text: {error}") from error
    names = [name.strip() for name in header]
    if not names:
        raise CorpusError(
            f"{path}: the file is empty, or its first line is; that must name the columns, File_ID and Split at least"
        )
    if any("\ufffd" in name for name in names):
        raise CorpusError(f"{path}: line 1 is not UTF-8; save the table as UTF-8 with commas")
    if len(names) == 1:
        for delimiter, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if delimiter in names[0]:
                raise CorpusError(f"{path}: columns are separated by {word}; save it with commas")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CorpusError(f"{path}: the first line names a column twice: {', '.join(twice)}")
    missing = [name for name in schema()["required"] if name not in names]
    if missing:
        raise CorpusError(f"{path}: no column {' and '.join(missing)}; the columns are: {', '.join(names)}")
    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(column_names=names, skip_rows_after_names=1),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False, check_utf8=True
            ),
        )
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path}: cannot be read as comma-separated UTF-8 text: {error}") from error
    if not table.num_rows:
        raise CorpusError(f"{path}: no clips: the file has a line of column names and nothing below it")
    stripped = pa.table([pc.utf8_trim_whitespace(column) for column in table.columns], table.column_names)
    return stripped, _swallowed_rows(table)


def _text(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as text; empty where the column or a value is missing."""
    if name not in table.column_names:
        return np.full(table.num_rows, "", dtype=object)
    # By way of a list: pyarrow's own conversion to NumPy imports pandas, which costs more than all the rest.
    return np.array(table[name].to_pylist(), dtype=object)


def _numbers(table: pa.Table) -> dict[str, np.ndarray]:
    """Return the columns that the schema has numbers in as float64, NaN where empty or missing; so is other text."""
    names = [name for name, rule in schema()["properties"].items() if "number" in rule.get("type", ())]
    return {name: _column_of_numbers(table, name) for name in names}


def _column_of_numbers(table: pa.Table, name: str) -> np.ndarray:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    text = table[name]
    try:
        # Only an empty cell has to be made a number: pyarrow reads nan and NaN as such.
        if pc.min(pc.binary_length(text)).as_py() == 0:
            text = pc.replace_substring_regex(text, "^$", "nan")
        return float_values(text.cast(pa.float64()))
    except pa.ArrowInvalid:  # there is a word among them, or a number that Python reads and pyarrow does not
        return np.array([_number(value) for value in _text(table, name)])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _schema_problems(table: pa.Table, numbers: Mapping[str, np.ndarray]) -> list[str]:
    """Apply the schema column by column: numbers that are none or out of range, words that are not allowed."""
    problems = []
    for name, rule in schema()["properties"].items():
        if name not in table.column_names:
            continue
        if "enum" in rule:
            wrong = ~_mask(_is_one_of(table[name], rule["enum"]))
            problems += _cell_problem(table, name, wrong, f"{name} must be one of {', '.join(rule['enum'])}")
        elif "number" in rule["type"]:
            values = numbers[name]
            finite = np.isfinite(values)
            strange = ~finite
            if strange.any():
                strange &= ~_mask(_is_one_of(table[name], UNKNOWN))
            problems += _cell_problem(table, name, strange, f"{name} must be a number or empty")
            low, high = rule.get("minimum", rule.get("exclusiveMinimum")), rule["maximum"]
            with np.errstate(invalid="ignore"):
                outside = (values > high) | (values < low)
                if "exclusiveMinimum" in rule:
                    outside |= values == low
            problems += _cell_problem(
                table, name, outside & finite, f"{name} must lie between {low} and {high}"
            )
    return problems


def _is_one_of(text: pa.ChunkedArray, words: Iterable[str]) -> pa.ChunkedArray:
    """Return which texts are one of some words."""
    # A pattern, for pyarrow imports pandas as soon as it has to make an array or a scalar of a word.
    return pc.match_substring_regex(text, f"^({'|'.join(map(re.escape, words))})$")


def _mask(column: pa.ChunkedArray) -> np.ndarray:
    return np.from_dlpack(column.combine_chunks().cast(pa.uint8())).view(bool)


def _swallowed_rows(table: pa.Table) -> list[str]:
    """Find cells with line breaks, which a quotation mark too many makes of the rows that follow it.

    A ``File_ID`` may have them, as the name of a file may, but not together with commas.
    """
    problems = []
    for name in table.column_names:
        if not any(_has_line_break(chunk) for chunk in table[name].chunks):
            continue
        breaks = pc.match_substring_regex(table[name], "[\\r\\n]")
        if name == "File_ID":
            breaks = pc.and_(breaks, pc.match_substring(table[name], ","))
        rule = f"{name} goes on over the end of a line: a quotation mark is missing or too many"
        problems += _cell_problem(table, name, _mask(breaks), rule)
    return problems


def _has_line_break(texts: pa.Array) -> bool:
    """Return whether a line break is anywhere in the memory of some texts: far quicker than a search text by text."""
    data = texts.buffers()[2]
    return data is not None and any(mark in data.to_pybytes() for mark in (b"\n", b"\r"))


def _clip_ids(file_ids: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the text inside the brackets of every ``File_ID``, and what is wrong with it."""
    clip_ids = np.array(
        [text[1:-1] if text.startswith("[") and text.endswith("]") else text for text in file_ids],
        dtype=object,
    )
    bad = np.array([not _is_plain_name(clip_id) for clip_id in clip_ids])
    problems = _row_problem(
        file_ids,
        bad,
        "File_ID must be a plain file name without its ending, such as [00012] (no '/', no '..')",
    )
    if len(set(clip_ids)) < len(clip_ids):
        first_row: dict[str, int] = {}
        twice = np.array([first_row.setdefault(clip_id, row) != row for row, clip_id in enumerate(clip_ids)])
        problems += _row_problem(file_ids, twice, "a File_ID stands more than once; keep one row a clip")
    return clip_ids, problems


def _is_plain_name(clip_id: str) -> bool:
    return (
        clip_id not in ("", ".", "..") and "/" not in clip_id and "\0" not in clip_id and len(clip_id) <= 200
    )


def _speaker_problems(splits: np.ndarray, speakers: np.ndarray) -> list[str]:
    """Find speakers in two splits: a model could then recognise voices instead of what they express."""
    seen = {(name, split) for name, split in zip(speakers, splits, strict=True) if name}
    if len({name for name, _ in seen}) == len(seen):
        return []
    first: dict[str, str] = {}
    crossing = np.array(
        [
            bool(name) and first.setdefault(name, split) != split
            for name, split in zip(speakers, splits, strict=True)
        ]
    )
    return _row_problem(
        speakers,
        crossing,
        "a speaker (Subject_ID) stands in more than one split; put all clips of a speaker in one",
    )


def _known_speaker_problems(labels: Labels, clip_ids: np.ndarray, speakers: np.ndarray) -> list[str]:
    """Find speakers of Test clips, as the table of Test labels names them, that Train or Val has too."""
    in_test = labels.split == "Test"
    test, others = set(labels.clip_id[in_test]), set(labels.speaker[~in_test]) - {""}
    crossing = [clip_id in test and name in others for clip_id, name in zip(clip_ids, speakers, strict=True)]
    return _row_problem(
        speakers,
        np.array(crossing),
        f"a speaker (Subject_ID) of Test is one of Train or Val in {TABLE}; put all clips of a speaker in one split",
    )


def _countries(
    table: pa.Table, known: tuple[Country, ...] | None
) -> tuple[tuple[Country, ...], np.ndarray, list[str], list[str]]:
    """Return the countries in code order, each row's index among them (-1 unknown), notices and problems.

    ``Country`` holds codes or names, ``Country_string`` names. Codes come from the table where it has them; names
    without codes get those of the challenge where all are the challenge's, else their place in the alphabet.
    """
    text, names = _text(table, "Country"), _text(table, "Country_string")
    code_of_text = {value: _code(value) for value in set(text)}
    codes = np.array([code_of_text[value] for value in text], dtype=np.int64)
    names = np.where((names == "") & (codes < 0), text, names)
    names = np.where(names == "nan", "", names)
    if known is not None:
        by_code = {country.code: index for index, country in enumerate(known)}
        by_name = {country.name: index for index, country in enumerate(known)}
        index = np.array([by_code.get(c, by_name.get(n, -1)) for c, n in zip(codes, names, strict=True)])
        strange = (index < 0) & ((codes >= 0) | (names != ""))
        return known, index, [], _row_problem(text, strange, f"Country must be one of those in {TABLE}")
    if not (codes >= 0).any():
        found = sorted(set(names) - {""})
        order = CHALLENGE_COUNTRIES if set(found) <= set(CHALLENGE_COUNTRIES) else found
        code_of = {name: order.index(name) for name in found}
        codes = np.array([code_of.get(name, -1) for name in names])
    elif (codes < 0).any():
        code_of = {n: c for c, n in zip(codes, names, strict=True) if c >= 0 and n}
        codes = np.array(
            [c if c >= 0 else code_of.get(n, -1) for c, n in zip(codes, names, strict=True)], dtype=np.int64
        )
    nameless = _row_problem(
        np.where(text == "", names, text),
        (codes < 0) & ((names != "") | ((text != "") & (text != "nan"))),
        "Country must be a whole number from 0, or the name of a country that has one in another row",
    )
    name_of: dict[int, str] = {}
    notices = []
    for code, name in dict.fromkeys(zip(codes.tolist(), names, strict=True)):
        if code >= 0 and name_of.setdefault(code, name or str(code)) != (name or str(code)) and name:
            notices.append(
                f"Country {code} is called both {name_of[code]!r} and {name!r}; the first name is used"
            )
    countries = tuple(Country(int(code), name_of[code]) for code in sorted(name_of))
    index_of = {country.code: index for index, country in enumerate(countries)}
    return (
        countries,
        np.array([index_of.get(c, -1) for c in codes.tolist()], dtype=np.int64),
        sorted(set(notices)),
        nameless,
    )


def _code(text: str) -> int:
    """Return an integer country code, also from ``2.0``, which pandas writes where some codes are missing."""
    number = _number(text) if text else np.nan
    return int(number) if 0 <= number <= MAX_COUNTRY_CODE and number == int(number) else -1


def _cell_problem(table: pa.Table, name: str, wrong: np.ndarray, rule: str) -> list[str]:
    """Describe the cells of a column that break a rule as `_row_problem` does; the column is text only then."""
    return _row_problem(_text(table, name), wrong, rule) if wrong.any() else []


def _row_problem(values: np.ndarray, wrong: np.ndarray, rule: str) -> list[str]:
    """Describe the rows that break a rule in one line, or in none."""
    rows = np.flatnonzero(wrong)
    if not len(rows):
        return []
    shown = ", ".join(f"line {row + 2}: {values[row]!r}" for row in rows[:MAX_ROWS_NAMED])
    more = f" and {len(rows) - MAX_ROWS_NAMED} more" if len(rows) > MAX_ROWS_NAMED else ""
    return [f"{rule} ({shown}{more})"]


def _problem_list(path: Path, problems: Iterable[str]) -> str:
    problems = list(problems)
    return f"{path} has {len(problems)} problem{'s' * (len(problems) > 1)}:\n" + "\n".join(
        f"- {p}" for p in problems
    )
