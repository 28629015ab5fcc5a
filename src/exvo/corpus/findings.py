"""Say what in a corpus is probably not meant so: files and ids that do not meet, and names in two spellings.

`exvo check` and a run of the workflow ask this once, so both say the same.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from exvo.corpus.labels import Labels
from exvo.corpus.shards import Recordings
from exvo.corpus.table import TABLE, TEST_TABLE, Corpus
from exvo.corpus.text import alike, look_alikes, shown

MAX_NAMED = 5


def file_findings(folder: str, corpus: Corpus, recordings: Recordings) -> list[str]:
    """Return what of the files of a folder does not fit the label table.

    Parameters
    ----------
    folder : str
        ``raw`` or ``wav``.
    corpus : Corpus
    recordings : Recordings
        What `exvo.corpus.shards.scan_files` found there.
    """
    ids, files = set(corpus.labels.clip_id), recordings.by_id
    absent = [clip_id for clip_id in corpus.labels.clip_id if clip_id not in files]
    strange = sorted(clip_id for clip_id in files if clip_id not in ids)
    double = sorted(ids & recordings.several)
    found = []
    if absent:
        named = _named(_with_questions(absent, look_alikes(absent, strange)))
        found.append(
            f"{folder}/ has no recording of {named}{_instead(absent, recordings)}: they will be predicted without audio"
        )
    if strange and not corpus.limited:
        found.append(f"{folder}/ has files without a row in {TABLE}: {_named(strange)}: they are left out")
    if double:
        taken = files[double[0]].name
        found.append(
            f"{folder}/ has more than one file for {_named(double)}: the first by name is read ({shown(taken)})"
        )
    return found


def ignored_files(recordings: Recordings) -> str:
    """Return how many files beside the recordings are none, by what says so; nothing where there are none."""
    kinds = Counter("._*" if n[:2] == "._" else f".{n.rpartition('.')[2]}" for n in recordings.ignored)
    most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return _named([f"{kind} ({n})" for kind, n in most])


def name_findings(corpus: Corpus, test_labels: Labels | None) -> list[str]:
    """Return which speakers and countries stand in two spellings, as far as can be told."""
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
                f"{what} that may be one stand in several spellings, and each counts as one of its own:"
                f" {_named(pairs)}; write it one way if it is one"
            )
    return found


def _spellings(names: Collection[str]) -> list[str]:
    by_key: dict[str, list[str]] = {}
    for name in sorted(names):
        by_key.setdefault(alike(name), []).append(name)
    return [" and ".join(map(repr, alike_names)) for alike_names in by_key.values() if len(alike_names) > 1]


def _with_questions(absent: Sequence[str], meant: Mapping[str, str]) -> list[str]:
    """Return absent ids, first those that look like the name of a file, each with the question."""
    asked = [f"{clip_id} (meant {meant[clip_id]!r}?)" for clip_id in absent if clip_id in meant]
    return asked + [clip_id for clip_id in absent if clip_id not in meant]


def _instead(absent: Sequence[str], recordings: Recordings) -> str:
    """Name a file that a clip without a recording has instead."""
    file_of = {clip_id: name for name, clip_id in recordings.ignored.items()}
    other = next((file_of[clip_id] for clip_id in absent if clip_id in file_of), None)
    return f" (there is {shown(other)}, which is no recording by its ending)" if other else ""


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(shown, names[:MAX_NAMED])) + more
