"""Write and read the submission of the ExVo 2022 Multitask track.

``File_ID,Country,Age,Awe,...,Surprise``: one row per Test clip, in the order of ``data_info.csv``,
``File_ID`` exactly as there, ``Country`` the integer code, decimal points, UTF-8, lines ended by a line feed.
The organisers name the file ``ExVo-Multi_<team>_<n>.csv``.

The cells of a task without predictions (no system does it, or the corpus has no labels of it) are empty.
`exvo.evaluation.check_submission` checks the format of a file.
"""

import csv
from pathlib import Path

import numpy as np

from exvo.corpus.labels import EMOTIONS
from exvo.corpus.table import Corpus
from exvo.evaluation.metrics import predicted_class
from exvo.evaluation.predictions import Predictions, align
from exvo.util.atomic import atomic_path

HEADER = ("File_ID", "Country", "Age", *EMOTIONS)


def write_submission(path: Path | str, predictions: Predictions, corpus: Corpus) -> None:
    """Write the submission, atomically.

    Emotions are clipped to [0, 1], the range of the labels, which never increases an error.
    Emotions have 6 decimals, ages 4.

    Parameters
    ----------
    path : Path or str
    predictions : Predictions
        Of all Test clips, in any order. The most probable country is written; ties go to the first.
    corpus : Corpus
        The corpus of these Test clips.

    Raises
    ------
    ValueError
        If a Test clip has no prediction, or the countries are not those of the corpus.
    """
    codes = tuple(country.code for country in corpus.labels.countries)
    if predictions.country_codes != codes:
        raise ValueError(f"predictions of the countries {predictions.country_codes}, the corpus has {codes}")
    is_test = corpus.labels.split == "Test"
    predictions = align(predictions, corpus.labels.clip_id[is_test])
    country = [codes[k] if k >= 0 else "" for k in predicted_class(predictions.country)]
    emotion = np.clip(predictions.emotion, 0, 1)

    with atomic_path(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for row, file_id in enumerate(corpus.file_ids[is_test].tolist()):
            intensities = (_decimal(value, 6) for value in emotion[row])
            writer.writerow([file_id, country[row], _decimal(predictions.age[row], 4), *intensities])


def read_submission(path: Path | str, corpus: Corpus) -> Predictions:
    """Read a submission as predictions of the corpus's Test clips, ready for `exvo.evaluation.metrics.score`.

    Parameters
    ----------
    path : Path or str
        A file without problems according to `check_submission`; empty cells become NaN.
    corpus : Corpus

    Returns
    -------
    Predictions
        In the order of the Test clips of the corpus. The country in the file has probability 1.

    Raises
    ------
    ValueError
        If the file cannot be read: the message names the file and the line.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in HEADER if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: these columns are missing: {', '.join(missing)}")
        rows = [(reader.line_num, row) for row in reader]

    clip_of = dict(zip(corpus.file_ids.tolist(), corpus.labels.clip_id.tolist(), strict=True))
    codes = tuple(country.code for country in corpus.labels.countries)
    clip_id = []
    country = np.full((len(rows), len(codes)), np.nan)
    numbers = np.full((len(rows), 1 + len(EMOTIONS)), np.nan)
    for i, (line, row) in enumerate(rows):
        try:
            clip_id.append(clip_of[row["File_ID"]])
            if row["Country"]:
                country[i] = 0.0
                country[i, codes.index(int(row["Country"]))] = 1.0
            numbers[i] = [float(row[name]) if row[name] else np.nan for name in ("Age", *EMOTIONS)]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {line}: cannot be read: {error}") from error
    predictions = Predictions(
        clip_id=np.array(clip_id, dtype=str),
        age=numbers[:, 0],
        country=country,
        emotion=numbers[:, 1:],
        country_codes=codes,
    )
    return align(predictions, corpus.labels.clip_id[corpus.labels.split == "Test"])


def _decimal(value: float, places: int) -> str:
    """Return a decimal number, or an empty text for a missing one."""
    return f"{value:.{places}f}" if np.isfinite(value) else ""
