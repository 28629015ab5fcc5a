"""What a report is made of: sections of words, tables, pictures and clips to listen to.

These are plain values; ``page.html.j2`` says how they look, and escapes all of their text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import ClassVar

from exvo.report.tables.sheet import Grid

_FOLDERS = re.compile(r"(?<![\w.~:/\\])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\":]+[/\\])+")


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True)
class Notes:
    """Lines in small letters: how to read what follows."""

    kind: ClassVar[str] = "notes"
    lines: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """A figure: an image as a data URI, what it shows for those who do not see it, and its caption.

    ``wide`` pictures take the whole width of the page, others stand side by side.
    """

    kind: ClassVar[str] = "picture"
    title: str
    uri: str
    alt: str
    caption: str
    wide: bool = True


@dataclass(frozen=True)
class Table:
    """One or more grids under a title, with lines below them."""

    kind: ClassVar[str] = "table"
    title: str
    grids: Sequence[Grid]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Tiles:
    """Numbers to be seen first: each a label, a value and a line below it."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Stage:
    """A clip after one stage: a picture of it and the sound, both as data URIs; ``sound`` is None without audio."""

    name: str
    said: str
    picture: str | None
    alt: str
    sound: str | None


@dataclass(frozen=True)
class Story:
    """A clip through the stages."""

    kind: ClassVar[str] = "story"
    clip_id: str
    why: str
    facts: str
    stages: Sequence[Stage]


@dataclass(frozen=True)
class Listing:
    """Text as it is, such as a config."""

    kind: ClassVar[str] = "listing"
    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the report with a heading; ``anchor`` names it in links."""

    anchor: str
    title: str
    lead: str
    parts: Sequence[Words | Notes | Picture | Table | Tiles | Story | Listing]


def without_folders(text: str) -> str:
    """Return a text in which absolute paths are cut down to their last name: folders tell who ran it where."""
    return _FOLDERS.sub("\N{HORIZONTAL ELLIPSIS}/", text)


def bare_path(text: str) -> str:
    """Return a config value, cut down to its last name where all of it is an absolute path or one of a home."""
    if PurePosixPath(text).is_absolute() or text.startswith("~"):
        return f"\N{HORIZONTAL ELLIPSIS}/{PurePosixPath(text).name}"
    if PureWindowsPath(text).is_absolute():
        return f"\N{HORIZONTAL ELLIPSIS}/{PureWindowsPath(text).name}"
    return without_folders(text)
