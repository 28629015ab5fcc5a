"""Divide a corpus into shards, and compute a digest of the files of a shard for the jobs that read them.

The shard of a clip depends on its id and the number of shards alone, so adding or removing clips moves no other clip.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from exvo.corpus.errors import CorpusError, reading
from exvo.corpus.text import composed, shown
from exvo.util.code_digest import digest

# Endings of files that are not recordings but often lie in the same folder.
_ENDINGS = """
    textgrid collection pitchtier intensitytier durationtier pointprocess pitch formant intensity praat
    eaf pfsx etf psfx antx trs tdf exb cha lab lbl phn wrd phones words ctm stm rttm uem mlf trn
    srt vtt ass lrc json jsonl xml txt csv tsv md rst html htm pdf rtf doc docx odt xls xlsx ods yaml yml toml ini cfg
    png jpg jpeg gif svg npy npz pkl mat h5 hdf5 parquet arff f0 mfc htk py r m sh
    pkf sfk sfap0 reapeaks asd aup aup3 md5 sha1 sha256 sfv log bak db ds_store
"""
NO_RECORDING = frozenset(_ENDINGS.split())


class ClipFile(NamedTuple):  # a tuple, because there are tens of thousands
    """A file of a corpus folder: its name, size in bytes and modification time in nanoseconds."""

    name: str
    size: int
    mtime_ns: int


def stable_hash(text: str) -> int:
    """Return a 64-bit hash of a text, the same on every machine and in every process."""
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def shard_clips(clip_ids: Iterable[str], n_shards: int) -> dict[str, list[str]]:
    """Assign clips to shards.

    Parameters
    ----------
    clip_ids : iterable of str
    n_shards : int [scalar > 0]

    Returns
    -------
    dict of str to list of str
        Shard name (zero-padded number) to its sorted clip ids. Shards without a clip are omitted.
    """
    if n_shards < 1:
        raise ValueError(f"corpus.shards must be at least 1, not {n_shards}")
    shards: dict[int, list[str]] = {}
    for clip_id in clip_ids:
        shards.setdefault(stable_hash(clip_id) % n_shards, []).append(clip_id)
    return {f"{index:04d}": sorted(shards[index]) for index in sorted(shards)}


@dataclass
class Recordings:
    """The files of a corpus folder.

    Attributes
    ----------
    by_id : dict of str to ClipFile
        Clip id (the name without its last ending, accents composed) to its file, the first by name of several. Files
        of unknown clips are included; they do not affect any shard.
    several : set of str
        Ids with more than one file.
    ignored : dict of str to str
        Name of each file that is not a recording, to the id in it. Such files have an ending of `NO_RECORDING`, or are
        metadata of macOS (``._*``).
    """

    by_id: dict[str, ClipFile] = field(default_factory=dict)
    several: set[str] = field(default_factory=set)
    ignored: dict[str, str] = field(default_factory=dict)


def scan_files(folder: Path) -> Recordings:
    """List the files of a corpus folder by clip id, in one pass.

    Parameters
    ----------
    folder : Path
        ``raw/`` or ``wav/``; a missing folder counts as empty.

    Raises
    ------
    CorpusError
        Where the folder cannot be read, or is a link that points outside the corpus.
    """
    found = Recordings()
    folders: dict[str, ClipFile] = {}
    with reading(folder):
        if not _is_folder(folder):
            return found
        # os.stat relative to an open folder takes a quarter less time than with the full path.
        opened = os.open(folder, os.O_RDONLY)
        try:
            for name in os.listdir(opened):  # noqa: PTH208 - pathlib has no open folders
                clip_id, may_be_recording = _parsed(name)
                if not may_be_recording:
                    found.ignored[name] = clip_id
                    continue
                try:
                    status = os.stat(name, dir_fd=opened)
                except OSError:  # a broken link: listed by name; the conversion reports it
                    status = os.lstat(name, dir_fd=opened)
                file = ClipFile(name, status.st_size, status.st_mtime_ns)
                if stat.S_ISDIR(status.st_mode):
                    folders[clip_id] = file
                    continue
                first = found.by_id.setdefault(clip_id, file)
                if first is not file:
                    found.several.add(clip_id)
                    found.by_id[clip_id] = min(first, file)
        finally:
            os.close(opened)
    # A folder is listed only where a clip has no file; the conversion then reports it.
    found.by_id = folders | found.by_id
    return found


def has_file(folder: Path, clip_ids: Iterable[str]) -> bool:
    """Return whether a corpus folder has a recording of at least one of the clips.

    Raises
    ------
    CorpusError
        As for `scan_files`.
    """
    known = set(clip_ids)
    with reading(folder):
        if not _is_folder(folder):
            return False
        with os.scandir(folder) as entries:
            parsed = (_parsed(entry.name) for entry in entries)
            return any(may_be_recording and clip_id in known for clip_id, may_be_recording in parsed)


def _is_folder(folder: Path) -> bool:
    """Return whether a folder exists. Refuse a link that points outside the corpus, which may be untrusted."""
    if not folder.is_dir():
        return False
    place = folder.resolve()
    if not place.is_relative_to(folder.parent.resolve()):
        raise CorpusError(
            f"{folder}: a link that points outside the corpus, to {shown(str(place))}. Move the recordings into the"
            f" corpus, or set corpus.root to {shown(str(place.parent))} and put the label tables there"
        )
    return True


def _parsed(name: str) -> tuple[str, bool]:
    """Return the clip id in a file name, and whether the file may be a recording by that name.

    The id is the name without its last ending, with composed accents; the file is opened by its actual name. A file
    ``._x`` holds the macOS metadata of ``x``.
    """
    stem, point, ending = name.rpartition(".")
    if name[0] == ".":
        # splitext handles leading points, but is slower.
        stem = os.path.splitext(name)[0]  # noqa: PTH122
    may_be_recording = not (point and ending.lower() in NO_RECORDING) and name[:2] != "._"
    return composed(stem or name), may_be_recording


def clips_digest(clip_ids: Sequence[str], files: Sequence[ClipFile | None]) -> str:
    """Return a digest of clip ids and of the names, sizes and times of their files (None for a clip without one)."""
    lines = [
        clip_id if file is None else f"{clip_id}\0{file[0]}\0{file[1]}\0{file[2]}"
        for clip_id, file in zip(clip_ids, files, strict=True)
    ]
    # One joined text, because there are tens of thousands; file names cannot contain a null.
    return digest(["\0\0".join(lines)])
