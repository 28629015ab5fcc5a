"""Read and check the label table of a corpus, ``data_info.csv``, and the table of Test labels.

The table is read by column name, and every label may be missing. Invalid content (a clip id that is not a file name, a
speaker in two splits) is an error that names the rows. ``data_info.schema.yaml`` defines the values of each column.

Snakemake reads the table whenever it reads the Snakefile. This module therefore processes columns instead of rows, and
its largest import is pyarrow.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exvo.corpus.countries import country_column, index_among
from exvo.corpus.errors import CorpusError, reading
from exvo.corpus.label_columns import number_columns, schema, schema_problems, swallowed_rows
from exvo.corpus.labels import EMOTIONS, SPLITS, Labels
from exvo.corpus.shards import stable_hash
from exvo.corpus.text import KEEP, clip_id_of, look_alikes
from exvo.corpus.text_table import TextTable, read_text_table

TABLE = "data_info.csv"
TEST_TABLE = "test_labels.csv"
# The word that R writes for an unknown value, which can also be a name or a country code.
_ALSO_A_NAME = "NA"


@dataclass(frozen=True)
class Corpus:
    """A corpus as in its label table, in the order of the table.

    Attributes
    ----------
    root : Path
    file_ids : np.ndarray [shape=(n,), str]
        ``File_ID`` exactly as in the table, because the submission repeats it.
    labels : Labels
        Labels of ``n`` clips.
    notices : tuple of str
        Information about the table that needs no correction.
    limited : bool
        Whether the corpus has only part of the clips of the table.
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
        Largest number of clips per split, with all or none of the clips of each speaker; None keeps all.

    Raises
    ------
    CorpusError
        Where the table is invalid. The message lists every problem, the rows and what to do.
    """
    root = Path(root)
    table, numbers, problems = _read_table(root / TABLE)
    clip_ids, id_problems = _clip_ids(table)
    splits, speakers = table.text("Split"), table.names("Subject_ID")
    problems += id_problems + _speaker_problems(table, splits, speakers)
    if problems:
        raise CorpusError(_problem_list(root / TABLE, problems))
    countries, country, notices, problems = country_column(table)
    if problems:
        raise CorpusError(_problem_list(root / TABLE, problems))
    notices += _name_notices(table) + _column_notices(table)
    labels = Labels(
        clip_id=clip_ids,
        split=splits,
        speaker=speakers,
        age=numbers["Age"],
        country=country,
        emotion=np.stack([numbers[name] for name in EMOTIONS], axis=1),
        countries=countries,
    )
    corpus = Corpus(root, table.text("File_ID"), labels, tuple(notices))
    return corpus if limit is None else limit_corpus(corpus, limit)


def read_test_labels(corpus: Corpus) -> Labels | None:
    """Read ``test_labels.csv``, in the order of the corpus's Test clips.

    Returns
    -------
    Labels or None
        None where the corpus has no such table. Test clips without a row have no label; rows of other clips are
        ignored.

    Raises
    ------
    CorpusError
        As for `read_corpus`. Also where no row is a Test clip, a country is not in ``data_info.csv``, or a speaker of
        a Test clip is in Train or Val. In the challenge, only this table names the speakers of Test.
    """
    path = corpus.root / TEST_TABLE
    with reading(path):
        if not path.is_file():
            return None
    table, numbers, problems = _read_table(path)
    speakers = table.names("Subject_ID")
    clip_ids, id_problems = _clip_ids(table)
    problems += id_problems + _misspelt_ids(table, corpus, clip_ids)
    problems += _known_speaker_problems(table, corpus.labels, clip_ids, speakers)
    if problems:
        raise CorpusError(_problem_list(path, problems))
    country, problems = index_among(table, corpus.labels.countries, TABLE)
    if problems:
        raise CorpusError(_problem_list(path, problems))
    test = corpus.labels.take(corpus.labels.split == "Test")
    row_of = {clip_id: row for row, clip_id in enumerate(clip_ids)}
    rows = np.array([row_of.get(clip_id, -1) for clip_id in test.clip_id], dtype=np.int64)
    found = rows >= 0
    if len(test) and not found.any() and not corpus.limited:
        raise CorpusError(
            f"{path}: none of its {len(clip_ids)} clips is a Test clip of {TABLE} (line {table.line(0)}:"
            f" {clip_ids[0]!r}; a Test clip there: {test.clip_id[0]!r}). Write File_ID as in {TABLE}, or remove this"
            " file to leave Test without labels"
        )

    def place(values: np.ndarray, unknown: object) -> np.ndarray:
        placed = np.full((len(test), *values.shape[1:]), unknown, dtype=values.dtype)
        placed[found] = values[rows[found]]
        return placed

    emotion = np.stack([numbers[name] for name in EMOTIONS], axis=1)
    speakers = place(speakers, "")
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
    """Keep at most ``limit`` clips of each split, with all or none of the clips of each speaker.

    Speakers are selected in the order of a hash of their names, so a larger limit mostly adds speakers. A clip of an
    unknown speaker counts as a separate speaker.

    Raises
    ------
    CorpusError
        Where every speaker of a split has more clips than ``limit``.
    """
    labels = corpus.labels
    keep = np.zeros(len(labels), dtype=bool)
    for split in SPLITS:
        groups: dict[str, list[int]] = {}
        for row in np.flatnonzero(labels.split == split).tolist():
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
                f"corpus.limit is {limit}, but every speaker of {split} has more clips: set it to at least {smallest}"
            )
    rows = np.flatnonzero(keep)
    return Corpus(corpus.root, corpus.file_ids[rows], labels.take(rows), corpus.notices, limited=True)


def _read_table(path: Path) -> tuple[TextTable, dict[str, np.ndarray], list[str]]:
    """Read a label table and its numbers, and list the violations of the schema."""
    with reading(path):
        exists = path.is_file()
    if not exists:
        raise CorpusError(
            f"{path}: no such file. A corpus is a folder with {TABLE} and raw/: set corpus.root to it"
            " (`exvo demo DIR` writes an example)"
        )
    table = read_text_table(path, schema()["properties"], schema()["required"])
    numbers = number_columns(table)
    return table, numbers, [*swallowed_rows(table), *schema_problems(table, numbers)]


def _name_notices(table: TextTable) -> list[str]:
    """Name the columns of names with the word for an unknown value that may be meant as a name."""
    notices = []
    for name in ("Subject_ID", "Country", "Country_string"):
        words, index = table.words(name)
        if _ALSO_A_NAME in words:
            n_rows = np.count_nonzero(index == words.index(_ALSO_A_NAME))
            rows = "1 row" if n_rows == 1 else f"{n_rows} rows"
            notices.append(
                f"{name} of {table.path.name} is {_ALSO_A_NAME} in {rows}, which is read as unknown; write"
                f" {KEEP}{_ALSO_A_NAME} for the name {_ALSO_A_NAME}"
            )
    return notices


def _column_notices(table: TextTable) -> list[str]:
    """Name the columns that are not in the schema."""
    unknown = [
        name if name in table.without_name else repr(name)
        for name in table.columns.column_names
        if name not in schema()["properties"]
    ]
    if not unknown:
        return []
    return [f"unknown columns of {table.path.name} are ignored: {', '.join(unknown)}"]


def _clip_ids(table: TextTable) -> tuple[np.ndarray, list[str]]:
    """Return the composed text inside the brackets of every ``File_ID``, and the problems."""
    file_ids = table.text("File_ID")
    clip_ids = np.array(list(map(clip_id_of, file_ids)), dtype=object)
    bad = np.array([not _is_plain_name(clip_id) for clip_id in clip_ids])
    problems = table.row_problem(
        file_ids,
        bad,
        "File_ID must be a plain file name without its ending, such as [00012] (no '/', no '..')",
    )
    if len(set(clip_ids)) < len(clip_ids):
        first_row: dict[str, int] = {}
        twice = np.array([first_row.setdefault(clip_id, row) != row for row, clip_id in enumerate(clip_ids)])
        problems += table.row_problem(
            file_ids, twice, "a File_ID occurs more than once; keep one row per clip"
        )
    return clip_ids, problems


def _is_plain_name(clip_id: str) -> bool:
    return (
        clip_id not in ("", ".", "..") and "/" not in clip_id and "\0" not in clip_id and len(clip_id) <= 200
    )


def _speaker_problems(table: TextTable, splits: np.ndarray, speakers: np.ndarray) -> list[str]:
    """Find speakers in two splits, because a model could then recognise speakers instead of expressions."""
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
    return table.row_problem(
        speakers,
        crossing,
        "a speaker (Subject_ID) is in more than one split; put all clips of a speaker in one split",
    )


def _known_speaker_problems(
    table: TextTable, labels: Labels, clip_ids: np.ndarray, speakers: np.ndarray
) -> list[str]:
    """Find speakers of Test clips, as named in the table of Test labels, that are also in Train or Val."""
    in_test = labels.split == "Test"
    test, others = set(labels.clip_id[in_test]), set(labels.speaker[~in_test]) - {""}
    crossing = [clip_id in test and name in others for clip_id, name in zip(clip_ids, speakers, strict=True)]
    return table.row_problem(
        speakers,
        np.array(crossing),
        f"a speaker (Subject_ID) of Test is also in Train or Val in {TABLE}; put all clips of a speaker in one split",
    )


def _misspelt_ids(table: TextTable, corpus: Corpus, clip_ids: np.ndarray) -> list[str]:
    """Find unknown ids that may be misspelt ids of Test clips without a row, such as 12 for 00012."""
    labels = corpus.labels
    without_row = set(labels.clip_id[labels.split == "Test"]) - set(clip_ids)
    of_no_clip = set(clip_ids) - set(labels.clip_id)
    if corpus.limited or not without_row or not of_no_clip:
        return []
    meant = look_alikes(of_no_clip, without_row)
    wrong = np.array([clip_id in meant for clip_id in clip_ids])
    return table.row_problem(clip_ids, wrong, f"File_ID must be as in {TABLE}", meant)


def _problem_list(path: Path, problems: Iterable[str]) -> str:
    problems = list(problems)
    return f"{path} has {len(problems)} problem{'s' * (len(problems) > 1)}:\n" + "\n".join(
        f"- {p}" for p in problems
    )
