"""Predict single recordings with trained systems, without a corpus or the workflow."""

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
# Recordings whose audio is in memory at once; 64 of a minute take 250 MB. Models are loaded again for each batch, which
# takes less time than the features of a batch.
BATCH = 64


@dataclass(frozen=True)
class RecordingPrediction:
    """The prediction for one recording, for the tasks that at least one model predicts.

    Attributes
    ----------
    path : Path
    status, reason : str
        As in the quality table, without the name of the file.
    predicted : bool
        Whether the recording has audio. Without audio, the values are NaN or, on request, the prior of the training
        set.
    age : float or None
        In years; None where no model predicts the age.
    countries : dict of str to float
        Probability of each country by name; empty where no model predicts the country.
    emotions : dict of str to float
        Intensity of each emotion in [0, 1] by name; empty where no model predicts emotions.
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
) -> list[RecordingPrediction]:
    """Predict recordings as the mean over trained systems, each task over the systems that predict it.

    Parameters
    ----------
    paths : sequence of Path
        Recordings in any format that ffmpeg reads.
    models : sequence of Path
        Folders of trained systems (``results/models/<system>/<seed>``) or feature fusions
        (``results/fusion/<fusion>/<seed>``, with their systems in the folders of the workflow). All models that predict
        the country have the same countries.
    n_threads : int
    local : LocalFiles
        ffmpeg and checkpoints for models whose own are missing or may not be used.
    prior : bool
        Return the prior of the training set for recordings without audio.

    Returns
    -------
    list of RecordingPrediction
        In the order of ``paths``. The values are those of the workflow for the same recordings as clips of a corpus. A
        recording without audio for one of the models, which can differ in their time limits, is not predicted.

    Raises
    ------
    ValueError
        Where a folder is not that of a model, is incomplete, is from another version or lacks the settings of its
        features. Also where the ffmpeg or a checkpoint of a model must be given, the systems of a feature fusion are
        missing, or models have different countries.
    """
    found = [read_model(folder, local) for folder in models]
    for model in found:
        check_settings(model)
    with_country = [model for model in found if "country" in model.tasks]
    for model in with_country:
        if model.countries != with_country[0].countries:
            raise ValueError(
                f"{model.path}: its countries differ from those of {with_country[0].path}; predict with one of them"
            )
    predictions = []
    for start in range(0, len(paths), BATCH):
        predictions += _predict_batch(paths[start : start + BATCH], found, n_threads, prior)
    return predictions


def _predict_batch(
    paths: Sequence[Path], models: Sequence[ModelFolder], n_threads: int, prior: bool
) -> list[RecordingPrediction]:
    flags, rows, decoded = _with_audio(paths, models, n_threads)
    with_audio = set(rows)
    found = [predict_decoded(model, decoded, n_threads) for model in models if rows]
    for row, flag in zip(rows, first_flagged([stage_flags for stage_flags, _ in found]), strict=True):
        flags[row] = flag
    predictions = [prediction for _, prediction in found]
    numbers = {
        task: _task_numbers(task, models, predictions, rows, len(paths), prior)
        for task in dict.fromkeys(task for model in models for task in model.tasks)
    }
    countries = next((model.countries for model in models if "country" in model.tasks), ())
    return [
        RecordingPrediction(
            path=path,
            status=status,
            reason=reason,
            predicted=row in with_audio,
            age=float(numbers["age"][row]) if "age" in numbers else None,
            countries=_named([country.name for country in countries], numbers.get("country"), row),
            emotions=_named(EMOTIONS, numbers.get("emotion"), row),
        )
        for row, (path, (status, reason)) in enumerate(zip(paths, flags, strict=True))
    ]


def _with_audio(
    paths: Sequence[Path], models: Sequence[ModelFolder], n_threads: int
) -> tuple[list[Flag], list[int], Decoded]:
    """Decode recordings for each model. Return the flags, the rows with audio for all models, and their clips."""
    systems = [system for model in models for system in (model.parts or (model,))]
    configs = dict.fromkeys(map(convert_config, systems))
    decoded = {config: _decoded(paths, config, n_threads) for config in configs}
    flags, rows = [], []
    for row, clips in enumerate(zip(*decoded.values(), strict=True)):
        failed = next((clip for clip in clips if clip.audio is None), None)
        flags.append((OK, "") if failed is None else (failed.status, failed.reason))
        if failed is None:
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
    """Return the mean over the models of a task [shape=(n_recordings, ...)]; other rows have the prior or NaN."""
    constant = np.mean([model.priors[task] for model in models if task in model.tasks], axis=0)
    numbers = np.array([constant if prior else np.full_like(constant, np.nan)] * n_recordings)
    if rows:
        pairs = zip(models, predictions, strict=True)
        numbers[rows] = np.mean([getattr(part, task) for model, part in pairs if task in model.tasks], axis=0)
    return numbers


def _named(names: Sequence[str], numbers: np.ndarray | None, row: int) -> dict[str, float]:
    return {} if numbers is None else dict(zip(names, numbers[row].tolist(), strict=True))


def _decoded(paths: Sequence[Path], config: ConvertConfig, n_threads: int) -> list[Clip]:
    """Decode recordings. Their ids are their positions, because two files may have the same name."""
    binary = ffmpeg_binary(config.ffmpeg, config)

    def clip_of(clip_id: str, path: Path) -> Clip:
        if (invalid := _no_recording(clip_id, path)) is not None:
            return invalid
        # The user chose these files, so links are followed.
        file = path.resolve()
        clip = convert_clip(
            clip_id, folder=file.parent, files={clip_id: file.name}, config=config, binary=binary
        )
        # Messages give the path before the reason.
        return replace(clip, reason=clip.reason.replace(shown(f"{file.parent.name}/{file.name}: "), ""))

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(clip_of, map(str, range(len(paths))), paths))


def _no_recording(clip_id: str, path: Path) -> Clip | None:
    """Return a clip without audio if a path cannot be a recording, and None if it may be one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path == Path("-"):
            reason = "no such file, and standard input is not supported; save the recording as a file"
        else:
            problem = "a link to a missing file" if path.is_symlink() else "no such file"
            reason = f"{problem}; check the path"
        return Clip(clip_id, None, MISSING, reason)
    except OSError as error:
        return Clip(clip_id, None, UNREADABLE, f"cannot be opened ({error.strerror})")
    if stat.S_ISDIR(mode):
        return Clip(clip_id, None, UNREADABLE, "a folder; give the recordings in it")
    if not stat.S_ISREG(mode):
        return Clip(clip_id, None, UNREADABLE, "not a regular file; save the recording as a regular file")
    return None
