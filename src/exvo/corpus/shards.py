"""Cut a corpus into shards, and say what of a shard's files matters to the jobs that read them.

A clip's shard depends on its id and the number of shards alone: clips that come or go move no other clip.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from exvo.corpus.errors import reading
from exvo.digest import digest


class ClipFile(NamedTuple):  # a tuple, for it is made by the ten thousands
    """A file of a corpus folder: its name, size in bytes and modification time in nanoseconds."""

    name: str
    size: int
    mtime_ns: int


def stable_hash(text: str) -> int:
    """Return a 64-bit hash of a text that is the same on every machine and in every process."""
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def shard_clips(clip_ids: Iterable[str], n_shards: int) -> dict[str, list[str]]:
    """Part clips into shards.

    Parameters
    ----------
    clip_ids : iterable of str
    n_shards : int [scalar > 0]

    Returns
    -------
    dict of str to list of str
        Shard name (zero-padded number) to its clip ids in id order. Shards without a clip are left out.
    """
    if n_shards < 1:
        raise ValueError(f"corpus.shards must be at least 1, not {n_shards}")
    shards: dict[int, list[str]] = {}
    for clip_id in clip_ids:
        shards.setdefault(stable_hash(clip_id) % n_shards, []).append(clip_id)
    return {f"{index:04d}": sorted(shards[index]) for index in sorted(shards)}


def scan_files(folder: Path) -> dict[str, ClipFile]:
    """List the files of a corpus folder by clip id, in one pass.

    Parameters
    ----------
    folder : Path
        ``raw/`` or ``wav/``; a folder that does not exist holds no files.

    Returns
    -------
    dict of str to ClipFile
        Clip id (the file's name without its last ending) to its file, the first by name where it has several
        (`ids_of_several_files`). Files that belong to no clip are listed too; they matter to no shard.

    Raises
    ------
    CorpusError
        Where the folder may not be read.
    """
    files: dict[str, ClipFile] = {}
    with reading(folder):
        if not folder.is_dir():
            return files
        # Names looked up in an open folder: each costs a quarter less than the whole path does.
        opened = os.open(folder, os.O_RDONLY)
        try:
            for name in os.listdir(opened):  # noqa: PTH208 - pathlib has no open folders
                try:
                    status = os.stat(name, dir_fd=opened)
                except OSError:  # a dangling link: the file is there by name, and converting it will say so
                    status = os.lstat(name, dir_fd=opened)
                file = ClipFile(name, status.st_size, status.st_mtime_ns)
                clip_id = _clip_id(name)
                if files.setdefault(clip_id, file).name > name:
                    files[clip_id] = file
        finally:
            os.close(opened)
    return files


def ids_of_several_files(folder: Path) -> set[str]:
    """Return the clip ids that more than one file of a corpus folder has.

    Raises
    ------
    CorpusError
        Where the folder may not be read.
    """
    with reading(folder):
        counts = Counter(_clip_id(path.name) for path in folder.iterdir())
    return {clip_id for clip_id, n_files in counts.items() if n_files > 1}


def has_file(folder: Path, clip_ids: Iterable[str]) -> bool:
    """Return whether a corpus folder has a file of any of some clips; the first one found is enough.

    Raises
    ------
    CorpusError
        Where the folder may not be read.
    """
    wanted = set(clip_ids)
    with reading(folder):
        if not folder.is_dir():
            return False
        with os.scandir(folder) as entries:
            return any(_clip_id(entry.name) in wanted for entry in entries)


def _clip_id(name: str) -> str:
    """Return a file's name without its last ending."""
    # As splitext, which costs more; that is asked where a name begins with a dot.
    stem = os.path.splitext(name)[0] if name[0] == "." else name.rpartition(".")[0]  # noqa: PTH122
    return stem or name


def clips_digest(clip_ids: Sequence[str], files: Sequence[ClipFile | None]) -> str:
    """Return a digest of a shard's clip ids and of their files, None for a clip without one: names, sizes and times."""
    lines = [
        clip_id if file is None else f"{clip_id}\0{file[0]}\0{file[1]}\0{file[2]}"
        for clip_id, file in zip(clip_ids, files, strict=True)
    ]
    # One text, for there are ten thousands; no name of a file holds a null.
    return digest(["\0\0".join(lines)])
