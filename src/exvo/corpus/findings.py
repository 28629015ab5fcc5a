"""Find likely mistakes in a corpus: files and ids that do not match, and names with two spellings.

Both `exvo check` and a run of the workflow report these findings.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from exvo.corpus.labels import Labels
from exvo.corpus.shards import Recordings
from exvo.corpus.table import TABLE, TEST_TABLE, Corpus
from exvo.corpus.text import alike, look_alikes, shown

MAX_NAMED = 5


def file_findings(folder: str, corpus: Corpus, recordings: Recordings) -> list[str]:
    """Return the mismatches between the files of a folder and the label table.

    Parameters
    ----------
    folder : str
        ``raw`` or ``wav``.
    corpus : Corpus
    recordings : Recordings
        Result of `exvo.corpus.shards.scan_files` for the folder.
    """
    ids, files = set(corpus.labels.clip_id), recordings.by_id
    absent = [clip_id for clip_id in corpus.labels.clip_id if clip_id not in files]
    unlisted = sorted(clip_id for clip_id in files if clip_id not in ids)
    duplicated = sorted(ids & recordings.several)
    found = []
    if absent:
        named = _named(_with_questions(absent, look_alikes(absent, unlisted)))
        found.append(
            f"{folder}/ has no recording of {named}{_instead(absent, recordings)}: they are predicted without audio"
        )
    if unlisted and not corpus.limited:
        found.append(f"{folder}/ has files without a row in {TABLE}: {_named(unlisted)}: they are ignored")
    if duplicated:
        taken = files[duplicated[0]].name
        found.append(
            f"{folder}/ has more than one file for {_named(duplicated)}: the first by name is read ({shown(taken)})"
        )
    return found


def ignored_files(recordings: Recordings) -> str:
    """Return the counts of ignored files by their endings; empty where there are none."""
    kinds = Counter("._*" if n[:2] == "._" else f".{n.rpartition('.')[2]}" for n in recordings.ignored)
    most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return _named([f"{kind} ({n})" for kind, n in most])


def name_findings(corpus: Corpus, test_labels: Labels | None) -> list[str]:
    """Return the speakers and countries that probably have two spellings."""
    speakers = set(corpus.labels.speaker)
    where = TABLE
    if test_labels is not None:
        speakers |= set(test_labels.speaker)
        where += f" and {TEST_TABLE}"
    names = {
        f"speakers (Subject_ID of {where})": speakers,
        f"countries of {TABLE}": {country.name for country in corpus.labels.countries},
    }
    found = []
    for what, spellings in names.items():
        pairs = _spellings(spellings)
        if pairs:
            found.append(
                f"{what} may have several spellings, and each spelling counts separately: {_named(pairs)};"
                " use one spelling if they are the same"
            )
    return found


def _spellings(names: Collection[str]) -> list[str]:
    by_key: dict[str, list[str]] = {}
    for name in sorted(names):
        by_key.setdefault(alike(name), []).append(name)
    return [" and ".join(map(repr, alike_names)) for alike_names in by_key.values() if len(alike_names) > 1]


def _with_questions(absent: Sequence[str], meant: Mapping[str, str]) -> list[str]:
    """Return absent ids, first those that resemble the name of a file, each with that name."""
    asked = [f"{clip_id} (meant {meant[clip_id]!r}?)" for clip_id in absent if clip_id in meant]
    return asked + [clip_id for clip_id in absent if clip_id not in meant]


def _instead(absent: Sequence[str], recordings: Recordings) -> str:
    """Return a note on an ignored file that belongs to a clip without a recording."""
    file_of = {clip_id: name for name, clip_id in recordings.ignored.items()}
    other = next((file_of[clip_id] for clip_id in absent if clip_id in file_of), None)
    return f" (there is {shown(other)}, which is not a recording by its ending)" if other else ""


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(shown, names[:MAX_NAMED])) + more
