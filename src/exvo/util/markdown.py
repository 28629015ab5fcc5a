"""Text from data and config within Markdown: shown as it is, on one line, never read as markup or HTML."""

import re

# What opens a tag, an entity, code, or the target of a link; a bare "<" before a number may stay.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=#|\w+;)|`|(?<=\])[(\[:]")
_ESCAPES = {"<": "&lt;", "&": "&amp;"}


def plain(text: str) -> str:
    """Return text that a reader of Markdown shows as it is.

    Parameters
    ----------
    text : str
        White space in it is folded; bars, which would end a cell of a table, become slashes.
    """
    line = " ".join(text.replace("|", "/").split())
    return _MARKUP.sub(lambda found: _ESCAPES.get(found[0], "\\" + found[0]), line)


def code(text: str) -> str:
    """Return text as a span of code, in which nothing is markup; backquotes become quotes."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"
