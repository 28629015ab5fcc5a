"""Text from data and config in Markdown: shown literally, on one line, never read as markup or HTML."""

import re

# Starts of a tag, an entity, code, or the target of a link; a "<" before a number is none.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=#|\w+;)|`|(?<=\])[(\[:]")
_ESCAPES = {"<": "&lt;", "&": "&amp;"}


def plain(text: str) -> str:
    """Return text that Markdown shows literally.

    Parameters
    ----------
    text : str
        White space is folded; bars, which would end a cell of a table, become slashes.
    """
    line = " ".join(text.replace("|", "/").split())
    return _MARKUP.sub(lambda found: _ESCAPES.get(found[0], "\\" + found[0]), line)


def code(text: str) -> str:
    """Return text as a code span, which has no markup; backquotes become quotes."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"
