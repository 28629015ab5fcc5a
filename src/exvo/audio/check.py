"""Report what a corpus contains and what is wrong with it, before a run."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from exvo.audio.convert import convert_clip
from exvo.audio.decode import ConvertConfig
from exvo.audio.program import ffmpeg_binary
from exvo.audio.store import OK, SAMPLE_RATE, WITHOUT_AUDIO, Clip
from exvo.corpus.findings import file_findings, ignored_files, name_findings
from exvo.corpus.labels import EMOTIONS, SPLITS, Labels
from exvo.corpus.shards import ClipFile, scan_files, stable_hash
from exvo.corpus.table import Corpus, read_corpus, read_test_labels
from exvo.util.cores import n_cores


def check_corpus(
    root: Path, *, n_sample: int = 200, n_threads: int | None = None
) -> tuple[list[str], list[str]]:
    """Read the table, list the files and decode a sample of them.

    Parameters
    ----------
    root : Path
    n_sample : int
        Number of recordings to decode. A hash of their ids selects them, so every call selects the same ones.
    n_threads : int or None
        Number of recordings decoded at a time; None uses one thread per core of this process.

    Returns
    -------
    report : list of str
        Lines to print.
    problems : list of str
        What to repair; empty where nothing is wrong.

    Raises
    ------
    CorpusError
        Where the table cannot be used.
    """
    corpus = read_corpus(root)
    test_labels = read_test_labels(corpus)
    report = list(_label_lines(corpus, test_labels))
    problems: list[str] = []
    recordings = {name: scan_files(root / name) for name in ("raw", "wav")}
    for name, found in recordings.items():
        files = found.by_id
        if not files:
            report.append(f"{name}/  missing, or without recordings")
            continue
        problems += file_findings(name, corpus, found)
        present = [clip_id for clip_id in corpus.labels.clip_id if clip_id in files]
        sample = sorted(present, key=stable_hash)[:n_sample]
        clips = _decode(root / name, sample, files, n_threads or n_cores())
        report += _recording_lines(name, len(present), clips)
        if found.ignored:
            report.append(f"  ignored, not named as recordings: {ignored_files(found)}")
        problems += [f"{clip.status}: {clip.reason}" for clip in clips if clip.status != OK]
    if not any(found.by_id for found in recordings.values()):
        problems.append(f"{root}: no recordings in raw/ or wav/, so a run would have no input")
    notices = [*corpus.notices, *name_findings(corpus, test_labels)]
    return report + [f"notice: {notice}" for notice in notices], problems


def _label_lines(corpus: Corpus, test_labels: Labels | None) -> Iterator[str]:
    labels = corpus.labels
    yield f"{corpus.root}: {len(labels)} clips, {len(set(labels.speaker) - {''})} named speakers"
    names = ", ".join(f"{country.code} {country.name}" for country in labels.countries)
    yield f"countries: {names or 'none labelled'}"
    yield f"{'split':<8}{'clips':>8}{'speakers':>10}{'emotion':>9}{'age':>8}{'country':>9}"
    for split in SPLITS:
        part = labels.take(labels.split == split)
        yield _count_line(split, part)
    if test_labels is not None:
        yield _count_line("Test*", test_labels) + "   * with test_labels.csv, for scoring only"
    unlabelled = [
        name for name, column in zip(EMOTIONS, labels.emotion.T, strict=True) if np.isnan(column).all()
    ]
    if unlabelled:
        yield f"no label in Train and Val: {', '.join(unlabelled)}"


def _count_line(name: str, labels: Labels) -> str:
    emotion = int((~np.isnan(labels.emotion)).any(axis=1).sum())
    age, country = int((~np.isnan(labels.age)).sum()), int((labels.country >= 0).sum())
    speakers = len(set(labels.speaker) - {""})
    return f"{name:<8}{len(labels):>8}{speakers:>10}{emotion:>9}{age:>8}{country:>9}"


def _decode(
    folder: Path, clip_ids: Sequence[str], files: Mapping[str, ClipFile], n_threads: int
) -> list[Clip]:
    config = ConvertConfig()
    names = {clip_id: files[clip_id].name for clip_id in clip_ids}
    convert = partial(
        convert_clip, folder=folder, files=names, config=config, binary=ffmpeg_binary(config.ffmpeg)
    )
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(convert, clip_ids))


def _recording_lines(folder: str, n_files: int, clips: Sequence[Clip]) -> Iterator[str]:
    lengths = np.array([len(clip.audio) for clip in clips if clip.audio is not None]) / SAMPLE_RATE
    yield f"{folder}/  {n_files} recordings of clips in the table; {len(clips)} of them decoded:"
    if len(lengths):
        hours = lengths.mean() * n_files / 3600
        yield (
            f"  about {hours:.1f} h in all; seconds a clip: mean {lengths.mean():.2f},"
            f" from {lengths.min():.2f} to {lengths.max():.2f}"
        )
    for name, key in (
        ("codecs", "codec"),
        ("sample rates", "recorded_sample_rate"),
        ("channels", "source_channels"),
    ):
        counts = Counter(clip.measures.get(key, "unknown") for clip in clips)
        yield f"  {name}: " + ", ".join(f"{value} ({n})" for value, n in counts.most_common())
    n_failed = sum(clip.status in WITHOUT_AUDIO for clip in clips)
    n_odd = sum(clip.status != OK for clip in clips) - n_failed
    clipped = np.mean([clip.measures.get("clipping_rate", 0.0) > 0.001 for clip in clips]) if clips else 0.0
    yield f"  not decoded: {n_failed}; flagged: {n_odd}; with more than 0.1 % of samples at full scale: {clipped:.0%}"
