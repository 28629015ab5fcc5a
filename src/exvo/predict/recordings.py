"""Predict single recordings with trained systems: no corpus, no workflow, nothing written but the answer."""

import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exvo.audio.convert import convert_clip
from exvo.audio.decode import ConvertConfig
from exvo.audio.program import ffmpeg_binary
from exvo.audio.store import MISSING, OK, UNREADABLE, Clip
from exvo.corpus.labels import EMOTIONS
from exvo.corpus.text import shown
from exvo.evaluation.predictions import Predictions
from exvo.predict.model import Decoded, Flag, check_settings, convert_config, first_flagged, predict_decoded
from exvo.systems.local_files import LocalFiles
from exvo.systems.model_folder import ModelFolder, read_model

NOTHING_NAMED = LocalFiles()
# Recordings whose audio is in memory at once: 64 of a minute take 250 MB. Models are loaded anew for each batch, which
# takes less time than features of so many recordings do.
BATCH = 64


@dataclass(frozen=True)
class Answer:
    """The prediction for one recording, of the tasks that at least one of the models does.

    Attributes
    ----------
    path : Path
    status, reason : str
        As in the quality table, without the file's name.
    predicted : bool
        Whether the recording has audio. Where it has none, the numbers are NaN, or the prior of the training set on
        request.
    age : float or None
        In years; None where no model predicts the age.
    countries : dict of str to float
        Probability by name; empty where no model predicts the country.
    emotions : dict of str to float
        Intensity in [0, 1] by name; empty where no model predicts emotions.
    """

    path: Path
    status: str
    reason: str
    predicted: bool
    age: float | None
    countries: dict[str, float]
    emotions: dict[str, float]


def predict_files(
    paths: Sequence[Path],
    models: Sequence[Path],
    *,
    n_threads: int = 1,
    local: LocalFiles = NOTHING_NAMED,
    prior: bool = False,
) -> list[Answer]:
    """Predict recordings by the mean of trained systems, each task by those that do it.

    Parameters
    ----------
    paths : sequence of Path
        Recordings in anything that ffmpeg reads.
    models : sequence of Path
        Folders of trained systems (``results/models/<system>/<seed>``) or feature fusions
        (``results/fusion/<fusion>/<seed>``, with the systems that they read where the workflow puts them). Those that
        predict the country are of the same countries.
    n_threads : int
    local : LocalFiles
        An ffmpeg and checkpoints for models that do not bring their own, or may not.
    prior : bool
        Give recordings without audio the prior of the training set.

    Returns
    -------
    list of Answer
        In the order of ``paths``. The predictions are those of the workflow for the same recordings as clips of a
        corpus. A recording that has no audio for one of the models (they may be of different limits of time) is not
        predicted.

    Raises
    ------
    ValueError
        Where a model folder is incomplete, is not that of a model, is of another version or does not say what its
        features came from, a model's ffmpeg or checkpoint has to be named, a feature fusion's systems are not there, or
        models differ in their countries.
    """
    found = [read_model(folder, local) for folder in models]
    for model in found:
        check_settings(model)
    with_country = [model for model in found if "country" in model.tasks]
    for model in with_country:
        if model.countries != with_country[0].countries:
            raise ValueError(
                f"{model.path}: of other countries than {with_country[0].path}; predict with one of them"
            )
    answers = []
    for start in range(0, len(paths), BATCH):
        answers += _predict_batch(paths[start : start + BATCH], found, n_threads, prior)
    return answers


def _predict_batch(
    paths: Sequence[Path], models: Sequence[ModelFolder], n_threads: int, prior: bool
) -> list[Answer]:
    flags, rows, decoded = _with_audio(paths, models, n_threads)
    heard = set(rows)
    found = [predict_decoded(model, decoded, n_threads) for model in models if rows]
    for row, flag in zip(rows, first_flagged([of_stages for of_stages, _ in found]), strict=True):
        flags[row] = flag
    predictions = [prediction for _, prediction in found]
    numbers = {
        task: _task_numbers(task, models, predictions, rows, len(paths), prior)
        for task in dict.fromkeys(task for model in models for task in model.tasks)
    }
    countries = next((model.countries for model in models if "country" in model.tasks), ())
    return [
        Answer(
            path=path,
            status=status,
            reason=reason,
            predicted=row in heard,
            age=float(numbers["age"][row]) if "age" in numbers else None,
            countries=_named([country.name for country in countries], numbers.get("country"), row),
            emotions=_named(EMOTIONS, numbers.get("emotion"), row),
        )
        for row, (path, (status, reason)) in enumerate(zip(paths, flags, strict=True))
    ]


def _with_audio(
    paths: Sequence[Path], models: Sequence[ModelFolder], n_threads: int
) -> tuple[list[Flag], list[int], Decoded]:
    """Decode recordings as each model wants it: their flags, which have audio for all models, and these."""
    systems = [system for model in models for system in (model.parts or (model,))]
    configs = dict.fromkeys(map(convert_config, systems))
    decoded = {config: _decoded(paths, config, n_threads) for config in configs}
    flags, rows = [], []
    for row, clips in enumerate(zip(*decoded.values(), strict=True)):
        lost = next((clip for clip in clips if clip.audio is None), None)
        flags.append((OK, "") if lost is None else (lost.status, lost.reason))
        if lost is None:
            rows.append(row)
    return flags, rows, {config: [clips[row] for row in rows] for config, clips in decoded.items()}


def _task_numbers(
    task: str,
    models: Sequence[ModelFolder],
    predictions: Sequence[Predictions],
    rows: Sequence[int],
    n_recordings: int,
    prior: bool,
) -> np.ndarray:
    """Return the mean of the models that do a task [shape=(n_recordings, ...)]; other rows hold the prior or NaN."""
    constant = np.mean([model.priors[task] for model in models if task in model.tasks], axis=0)
    numbers = np.array([constant if prior else np.full_like(constant, np.nan)] * n_recordings)
    if rows:
        pairs = zip(models, predictions, strict=True)
        numbers[rows] = np.mean([getattr(part, task) for model, part in pairs if task in model.tasks], axis=0)
    return numbers


def _named(names: Sequence[str], numbers: np.ndarray | None, row: int) -> dict[str, float]:
    return {} if numbers is None else dict(zip(names, numbers[row].tolist(), strict=True))


def _decoded(paths: Sequence[Path], config: ConvertConfig, n_threads: int) -> list[Clip]:
    """Decode recordings; their ids are their places, for two of them may have the same file name."""
    binary = ffmpeg_binary(config.ffmpeg, config)

    def clip_of(clip_id: str, path: Path) -> Clip:
        if (none := _no_recording(clip_id, path)) is not None:
            return none
        # A user names recordings; where a link among them leads is the user's own affair.
        file = path.resolve()
        clip = convert_clip(
            clip_id, folder=file.parent, files={clip_id: file.name}, config=config, binary=binary
        )
        # The path is told beside the reason.
        return replace(clip, reason=clip.reason.replace(shown(f"{file.parent.name}/{file.name}: "), ""))

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(clip_of, map(str, range(len(paths))), paths))


def _no_recording(clip_id: str, path: Path) -> Clip | None:
    """Return a clip without audio where a path cannot be that of a recording, and None where it may be."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path == Path("-"):
            said = "no such file, and standard input is not read; save the recording as a file"
        else:
            gone = "a link to a file that is not there" if path.is_symlink() else "no such file"
            said = f"{gone}; check the path"
        return Clip(clip_id, None, MISSING, said)
    except OSError as error:
        return Clip(clip_id, None, UNREADABLE, f"cannot be opened ({error.strerror})")
    if stat.S_ISDIR(mode):
        return Clip(clip_id, None, UNREADABLE, "a folder; name the recordings in it")
    if not stat.S_ISREG(mode):
        return Clip(clip_id, None, UNREADABLE, "not a regular file; save the recording as one")
    return None
