"""Errors of a corpus that cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CorpusError(ValueError):
    """A corpus that cannot be used. The message says what is wrong, in which rows, and what to do."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while reading a file or folder of the corpus into a `CorpusError`."""
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot be read ({error.strerror}). Give this user the permission to read the files of the corpus "
            "and to enter its folders and their parents, or set corpus.root to a readable copy"
        ) from error
