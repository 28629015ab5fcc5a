"""What a user is told of a corpus that cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CorpusError(ValueError):
    """A corpus that cannot be used as it is: what is wrong, in which rows, and what to do."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says against reading a file or folder of the corpus into a `CorpusError`."""
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot be read ({error.strerror}). Whoever runs this needs the right to read the files of the "
            "corpus, and to enter its folders and those above them; or set corpus.root to a copy that can be read"
        ) from error
