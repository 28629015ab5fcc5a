"""Print predictions of recordings, and write them to a CSV file that is safe for any file name."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from exvo.corpus.text import shown
from exvo.predict.recordings import RecordingPrediction
from exvo.util.atomic import atomic_path

# A spreadsheet interprets a cell with one of these first characters as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def prediction_table(predictions: Sequence[RecordingPrediction]) -> bytes:
    """Return predictions as CSV in UTF-8, with one row per recording and one column per predicted value.

    The cells of a recording without a prediction are empty. A file name that is not UTF-8 keeps its bytes. A name that
    a spreadsheet would interpret as a formula has the prefix ``./``, which is the path of the same file.
    """
    lines = [_line(["file", "status", "reason", *(_values(predictions[0]) if predictions else ())])]
    for prediction in predictions:
        cells = ["" if np.isnan(value) else f"{value:.6g}" for value in _values(prediction).values()]
        path, reason = _no_formula(str(prediction.path)), _no_formula(prediction.reason)
        lines.append(_line([path, prediction.status, reason, *cells]))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _values(prediction: RecordingPrediction) -> dict[str, float]:
    """Return all values of a prediction by the names of their columns."""
    age = {} if prediction.age is None else {"Age": prediction.age}
    return age | {f"P({name})": value for name, value in prediction.countries.items()} | prediction.emotions


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    # The writer quotes characters of its line terminator. Without this, readers would end the row at a carriage return.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _no_formula(text: str) -> str:
    # A reason starts with a word or a path, so the prefix is correct for it too.
    return f"./{text}" if text.startswith(_FORMULA) else text


def prediction_text(prediction: RecordingPrediction) -> str:
    """Return a prediction as lines for a terminal."""
    head = f"{prediction.path}  [{prediction.status}]"
    if np.isnan(list(_values(prediction).values())).all():
        return shown(f"{head}  no prediction")
    lines = [shown(f"{head}  {prediction.reason}".rstrip())]
    if not prediction.predicted:
        lines.append("  no audio; this is the prior of the training set:")
    if prediction.emotions:
        strongest = sorted(prediction.emotions.items(), key=lambda item: -item[1])[:3]
        lines.append("  emotion  " + ", ".join(f"{name} {value:.2f}" for name, value in strongest))
    if prediction.age is not None:
        lines.append(f"  age      {prediction.age:.1f}")
    if prediction.countries:
        name, probability = max(prediction.countries.items(), key=lambda item: item[1])
        lines.append(shown(f"  country  {name} ({probability:.0%})"))
    return "\n".join(lines)


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse, before any work, an output file that cannot be written or that would replace an input file.

    A missing folder of the file is created.

    Parameters
    ----------
    output : Path
    inputs : iterable of Path
        Recordings, and files of models.

    Raises
    ------
    ValueError
        Where the file is refused. The message says what to do.
    """
    if output.is_dir():
        raise ValueError(f"--output {output}: a folder; give a file, such as {output / 'predictions.csv'}")
    if output.exists() and not output.is_file():
        raise ValueError(f"--output {output}: not a regular file; print the table with --output -")
    if output.exists() and any(path.exists() and output.samefile(path) for path in inputs):
        raise ValueError(f"--output {output}: an input file, which would be replaced; give another file")
    folder = _target(output).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--output {output}: its folder cannot be created ({error.strerror}); give a file in another folder"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--output {output}: its folder is not writable; give a file in another folder")


def write_table(output: Path, predictions: Sequence[RecordingPrediction]) -> None:
    """Write predictions as CSV atomically. A link to the file is followed."""
    with atomic_path(_target(output)) as unfinished:
        unfinished.write_bytes(prediction_table(predictions))


def _target(output: Path) -> Path:
    # Unlike Path.resolve, it does not fail on a link that points to itself; the file replaces that link.
    return Path(os.path.realpath(output))
