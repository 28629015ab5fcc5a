"""Open a recording once, and only inside the corpus, so that the file that was checked is the file that is decoded.

A corpus may be untrusted. A link in it could point to any file that the user can read, and could be replaced between
a check and a read. A file is therefore opened without following links, folder by folder from the root of the corpus.
All later readers get the open file instead of its name.
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
# On Linux, O_PATH also opens a folder that may be traversed but not listed.
_FOLDER = (
    (os.O_PATH if sys.platform == "linux" else os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
)
# O_NONBLOCK: opening a named pipe would block.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotOpened(Exception):
    """A recording that cannot be opened.

    Attributes
    ----------
    status, reason : str
        As in `exvo.audio.store.Clip`.
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
        Folder and name of the file, for messages.
    handle : int
        The file descriptor; the caller closes it.
    head : bytes
        The first bytes of the file, at most `HEAD_BYTES`.
    """

    where: str
    handle: int
    head: bytes


def open_recording(folder: Path, name: str) -> Recording:
    """Open a file in a folder of the corpus.

    Parameters
    ----------
    folder : Path
        ``raw/`` or ``wav/``. The corpus is its parent folder; that may be a link.
    name : str
        Name of a file in the folder, or of a link to a file elsewhere in the corpus. Data managers (git-annex,
        DataLad) store files in this way.

    Raises
    ------
    NotOpened
        Where the file is missing, not a regular file, empty, not readable, or not in the corpus.
    """
    where = shown(f"{folder.name}/{name}")
    try:
        root = folder.parent.resolve()
        handle = _open_within(root, _place(root, folder, name, where), where)
    except FileNotFoundError:
        raise NotOpened(MISSING, f"{where}: the file is missing, or a link to a missing file") from None
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
    """Return the resolved path of a file, relative to the root of the corpus."""
    try:
        home, place = folder.resolve(), (folder / name).resolve()
    except RuntimeError:  # pathlib of Python 3.11 reports a loop of links in this way
        raise NotOpened(UNREADABLE, f"{where}: a link that points to itself") from None
    if not home.is_relative_to(root):
        raise NotOpened(UNREADABLE, f"{where}: {folder.name}/ is a link that points outside the corpus")
    if not place.is_relative_to(root):
        raise NotOpened(UNREADABLE, f"{where}: a link that points outside the corpus")
    return place.relative_to(root)


def _open_within(root: Path, place: Path, where: str) -> int:
    """Open a regular file below a folder without following any link; return its file descriptor."""
    folder = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for part in place.parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        last = place.parts[-1] if place.parts else "."
        # Also checked before opening, because opening a device can have side effects.
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
