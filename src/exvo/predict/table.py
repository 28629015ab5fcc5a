"""How predictions of recordings are printed and written to a CSV file, whatever the recordings are called."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from exvo.corpus.text import shown
from exvo.predict.recordings import Answer
from exvo.util.atomic import atomic_path

# A spreadsheet takes a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def answer_table(answers: Sequence[Answer]) -> bytes:
    """Return answers as CSV in UTF-8: a row a recording, a column a number that the models predict.

    The cells of a recording without a prediction are empty. A name that is not UTF-8 keeps its bytes; one that a
    spreadsheet would take for a formula is written with ``./`` before it, which leads to the same file.
    """
    lines = [_line(["file", "status", "reason", *(_numbers(answers[0]) if answers else ())])]
    for answer in answers:
        cells = ["" if np.isnan(number) else f"{number:.6g}" for number in _numbers(answer).values()]
        lines.append(_line([_harmless(str(answer.path)), answer.status, _harmless(answer.reason), *cells]))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _numbers(answer: Answer) -> dict[str, float]:
    """Return all numbers of an answer by the names of their columns."""
    age = {} if answer.age is None else {"Age": answer.age}
    return age | {f"P({name})": number for name, number in answer.countries.items()} | answer.emotions


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    # A writer quotes what its end of line consists of; a lone carriage return would else end the row for readers.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _harmless(text: str) -> str:
    # A reason, too, begins with a path where it does not begin with a word.
    return f"./{text}" if text.startswith(_FORMULA) else text


def answer_text(answer: Answer) -> str:
    """Return an answer as lines for a terminal, of the tasks that the models do."""
    head = f"{answer.path}  [{answer.status}]"
    if np.isnan(list(_numbers(answer).values())).all():
        return shown(f"{head}  no prediction")
    lines = [shown(f"{head}  {answer.reason}".rstrip())]
    if not answer.predicted:
        lines.append("  no audio; this is the prior of the training set:")
    if answer.emotions:
        strongest = sorted(answer.emotions.items(), key=lambda item: -item[1])[:3]
        lines.append("  emotion  " + ", ".join(f"{name} {value:.2f}" for name, value in strongest))
    if answer.age is not None:
        lines.append(f"  age      {answer.age:.1f}")
    if answer.countries:
        name, probability = max(answer.countries.items(), key=lambda item: item[1])
        lines.append(shown(f"  country  {name} ({probability:.0%})"))
    return "\n".join(lines)


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse, before any work is done, a file that cannot be written or that would replace what is read.

    Its folder is made where there is none.

    Parameters
    ----------
    output : Path
    inputs : iterable of Path
        Recordings and files of models.

    Raises
    ------
    ValueError
        With what to do instead.
    """
    if output.is_dir():
        raise ValueError(f"--output {output}: a folder; name a file, such as {output / 'predictions.csv'}")
    if output.exists() and not output.is_file():
        raise ValueError(f"--output {output}: not a regular file; print the table with --output -")
    if output.exists() and any(path.exists() and output.samefile(path) for path in inputs):
        raise ValueError(f"--output {output}: it is read, too, and would be replaced; name another file")
    folder = _target(output).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--output {output}: its folder cannot be made ({error.strerror}); name a file elsewhere"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--output {output}: nothing may be written in its folder; name a file elsewhere")


def write_table(output: Path, answers: Sequence[Answer]) -> None:
    """Write answers as CSV; the file, which a link may lead to, appears whole or not at all."""
    with atomic_path(_target(output)) as unfinished:
        unfinished.write_bytes(answer_table(answers))


def _target(output: Path) -> Path:
    # Unlike Path.resolve it does not fail on a link that leads back to itself: the file takes its place.
    return Path(os.path.realpath(output))
