"""Paths as people write them in a config."""

import os
import re
from pathlib import Path

from exvo.corpus.errors import CorpusError

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def user_path(text: str | Path, key: str) -> Path:
    """Return the path of a file or folder that Snakemake is told of: as `expanded`, and without braces.

    Raises
    ------
    CorpusError
        As `expanded` does, and where a brace is in the path.
    """
    path = expanded(str(text), key)
    if "{" in path:
        raise CorpusError(
            f"config: {key}: {path}: Snakemake takes what stands in braces for something to fill in; write the path of"
            " a link without them (ln -s)"
        )
    return Path(path)


def expanded(text: str, key: str) -> str:
    """Return the path that a key of the config names, with ``~`` and ``$NAME`` replaced as a shell would.

    A shell does so only outside quotes, and ``--config corpus='{root: ~/bursts}'`` needs them. What exists as it is
    written is taken as it is written.

    Parameters
    ----------
    text : str
    key : str
        For the message, such as ``corpus.root``.

    Raises
    ------
    CorpusError
        Where there is no such user or no such variable in the environment.
    """
    if os.path.lexists(text):
        return text
    path = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111 - pathlib has no variables
    unset = _VARIABLE.search(path)
    if unset:
        raise CorpusError(
            f"config: {key}: {unset[0]} in {text} is not set in the environment; write the path itself"
        )
    if path.startswith("~"):
        raise CorpusError(
            f"config: {key}: {text}: there is no such user, or no home folder; write the path itself"
        )
    return path
