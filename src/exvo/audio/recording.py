"""Open a recording once, and only where it lies within the corpus: what was looked at is what is decoded.

A corpus comes from others. A link in it could lead to any file that the user may read, and could be exchanged for
another between a look and a read. So a file is opened without following links, folder by folder from the corpus's
own, and everything that reads it afterwards gets the open file and no name.
"""

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from exvo.audio.store import EMPTY, MISSING, UNREADABLE
from exvo.corpus.text import shown

# Enough to hold the headers of a recording, in bytes.
HEAD_BYTES = 64 * 1024
# On Linux, a folder that may be passed through but not listed can be opened so.
_FOLDER = (
    (os.O_PATH if sys.platform == "linux" else os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
)
# A named pipe would keep whoever opens it waiting.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotOpened(Exception):
    """A recording that cannot be opened.

    Attributes
    ----------
    status, reason : str
        As of `exvo.audio.store.Clip`.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Recording:
    """An open file.

    Attributes
    ----------
    where : str
        Its folder and name, for a reader.
    handle : int
        The file descriptor; the caller closes it.
    head : bytes
        The first bytes of the file, at most `HEAD_BYTES`.
    """

    where: str
    handle: int
    head: bytes


def open_recording(folder: Path, name: str) -> Recording:
    """Open a file of a folder of the corpus.

    Parameters
    ----------
    folder : Path
        ``raw/`` or ``wav/``. The corpus is the folder that it is in, wherever a link at that place leads.
    name : str
        Of a file in the folder, or of a link to one elsewhere in the corpus: data managers (git-annex, DataLad)
        keep their content so.

    Raises
    ------
    NotOpened
        Where there is no such file, or it is not a regular one, empty, forbidden, not in the corpus, or on a disk that
        does not give it.
    """
    where = shown(f"{folder.name}/{name}")
    try:
        root = folder.parent.resolve()
        handle = _open_within(root, _place(root, folder, name, where), where)
    except FileNotFoundError:
        raise NotOpened(MISSING, f"{where}: the file is gone, or a link to nothing") from None
    except OSError as error:
        raise NotOpened(UNREADABLE, f"{where}: cannot be opened ({error.strerror})") from error
    try:
        head = os.pread(handle, HEAD_BYTES, 0)
    except OSError as error:
        os.close(handle)
        raise NotOpened(UNREADABLE, f"{where}: cannot be read ({error.strerror})") from error
    if not head:
        os.close(handle)
        raise NotOpened(EMPTY, f"{where}: the file is empty")
    return Recording(where, handle, head)


def _place(root: Path, folder: Path, name: str, where: str) -> Path:
    """Return where in the corpus a file really lies, relative to the corpus's folder."""
    try:
        home, place = folder.resolve(), (folder / name).resolve()
    except RuntimeError:  # how pathlib of Python 3.11 says it
        raise NotOpened(UNREADABLE, f"{where}: a link that leads back to itself") from None
    if not home.is_relative_to(root):
        raise NotOpened(UNREADABLE, f"{where}: {folder.name}/ is a link that leads out of the corpus")
    if not place.is_relative_to(root):
        raise NotOpened(UNREADABLE, f"{where}: a link that leads out of the corpus")
    return place.relative_to(root)


def _open_within(root: Path, place: Path, where: str) -> int:
    """Open a regular file of a folder without following any link on the way; return its file descriptor."""
    folder = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for part in place.parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        last = place.parts[-1] if place.parts else "."
        # Before opening too: to open a device can do something.
        _regular(os.stat(last, dir_fd=folder, follow_symlinks=False), where)
        handle = os.open(last, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _regular(os.fstat(handle), where)
    except NotOpened:
        os.close(handle)
        raise
    return handle


def _regular(what: os.stat_result, where: str) -> None:
    if not stat.S_ISREG(what.st_mode):
        raise NotOpened(UNREADABLE, f"{where}: not a regular file")
