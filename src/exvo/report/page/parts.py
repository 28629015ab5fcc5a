"""The parts of a report: sections of paragraphs, tables, figures and clips to listen to.

These are plain values; ``page.html.j2`` renders them and escapes all of their text.
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
    """Explanations in small letters, folded away under a title."""

    kind: ClassVar[str] = "notes"
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """A figure: an image as a data URI, a text alternative and a caption.

    ``wide`` figures take the full width of the page, others are placed side by side.
    """

    kind: ClassVar[str] = "picture"
    title: str
    uri: str
    alt: str
    caption: str
    wide: bool = True


@dataclass(frozen=True)
class Table:
    """One or more grids under a title, with notes below them; folded grids and long notes are folded away."""

    kind: ClassVar[str] = "table"
    title: str
    grids: Sequence[Grid]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Overview:
    """A table beside a figure; ``picture`` is None where there is nothing to draw."""

    kind: ClassVar[str] = "overview"
    table: Table
    picture: Picture | None


@dataclass(frozen=True)
class Stage:
    """A clip after one stage: picture and sound as data URIs; ``sound`` is None without audio."""

    name: str
    description: str
    picture: str | None
    alt: str
    sound: str | None


@dataclass(frozen=True)
class Story:
    """A clip after every stage."""

    kind: ClassVar[str] = "story"
    clip_id: str
    why: str
    facts: str
    stages: Sequence[Stage]


@dataclass(frozen=True)
class Listing:
    """Preformatted text, such as a config, folded away under its title."""

    kind: ClassVar[str] = "listing"
    title: str
    text: str


Part = Words | Notes | Picture | Table | Overview | Story | Listing


@dataclass(frozen=True)
class Section:
    """A section with a heading; ``anchor`` is its id in links."""

    anchor: str
    title: str
    lead: str
    parts: Sequence[Part]


def without_folders(text: str) -> str:
    """Return a text in which absolute paths are shortened to their last name, because folders identify people."""
    return _FOLDERS.sub("\N{HORIZONTAL ELLIPSIS}/", text)


def bare_path(text: str) -> str:
    """Return a config value; an absolute path, or one in a home folder, is shortened to its last name."""
    if PurePosixPath(text).is_absolute() or text.startswith("~"):
        return f"\N{HORIZONTAL ELLIPSIS}/{PurePosixPath(text).name}"
    if PureWindowsPath(text).is_absolute():
        return f"\N{HORIZONTAL ELLIPSIS}/{PureWindowsPath(text).name}"
    return without_folders(text)
