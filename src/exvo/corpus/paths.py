"""Paths in a config, with ``~`` and environment variables."""

import os
import re
from pathlib import Path

from exvo.corpus.errors import CorpusError

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def user_path(text: str | Path, key: str) -> Path:
    """Return the `expanded` path of a file or folder that Snakemake reads, which may not contain braces.

    Raises
    ------
    CorpusError
        As for `expanded`, and where the path contains a brace.
    """
    path = expanded(str(text), key)
    if "{" in path:
        raise CorpusError(
            f"config: {key}: {path}: Snakemake would replace the text in braces; use a link without braces in its path"
            " (ln -s)"
        )
    return Path(path)


def expanded(text: str, key: str) -> str:
    """Return the path that a key of the config names, with ``~`` and ``$NAME`` replaced as a shell would.

    A shell replaces them only outside quotes, and ``--config corpus='{root: ~/bursts}'`` needs quotes. A path that
    exists as written is returned unchanged.

    Parameters
    ----------
    text : str
    key : str
        Key of the config, such as ``corpus.root``, for the message.

    Raises
    ------
    CorpusError
        Where the user or the environment variable does not exist.
    """
    if os.path.lexists(text):
        return text
    path = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111 - pathlib has no variables
    unset = _VARIABLE.search(path)
    if unset:
        raise CorpusError(
            f"config: {key}: {unset[0]} in {text} is not set in the environment; set it, or write the complete path"
        )
    if path.startswith("~"):
        raise CorpusError(f"config: {key}: {text}: no such user, or no home folder; write the complete path")
    return path
