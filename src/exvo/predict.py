"""Predict single recordings with trained systems: no corpus, no workflow, nothing written but the answer."""

import csv
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exvo.audio.convert import ConvertConfig, convert_clip, ffmpeg_binary
from exvo.audio.stage_dc import HighpassConfig, dc_clips
from exvo.audio.stage_denoised import DenoiseConfig, denoised_clips
from exvo.audio.stage_vad import VadConfig, vad_clips
from exvo.audio.store import Clip, decode, encode
from exvo.corpus.labels import EMOTIONS, Country
from exvo.features.compare import CompareConfig, compare_functionals
from exvo.features.logmel import LogmelConfig, logmel
from exvo.features.store import FeatureRow, Utterances, write_sequences, write_utterances
from exvo.models.mlp_storage import load_trained
from exvo.models.system_files import LocalFiles, with_files
from exvo.models.system_mlp import predict_utterances
from exvo.predictions import Predictions
from exvo.systems import feature_kind, fine_tuned, stage_path

NOTHING_NAMED = LocalFiles()


@dataclass(frozen=True)
class Answer:
    """What the systems say of one recording; NaN where no system does a task.

    Attributes
    ----------
    path : Path
    status, reason : str
        As in the quality table; without audio the answer is the prior of the training set.
    age : float
        In years.
    countries : dict of str to float
        Probability by name.
    emotions : dict of str to float
        Intensity in [0, 1] by name.
    """

    path: Path
    status: str
    reason: str
    age: float
    countries: dict[str, float]
    emotions: dict[str, float]


def predict_files(
    paths: Sequence[Path], models: Sequence[Path], *, n_threads: int = 1, local: LocalFiles = NOTHING_NAMED
) -> list[Answer]:
    """Predict recordings by the mean of trained systems.

    Parameters
    ----------
    paths : sequence of Path
        Recordings in anything that ffmpeg reads.
    models : sequence of Path
        Folders of trained systems (``results/models/<system>/<seed>``) or joint models
        (``results/fusion/<fusion>/<seed>``, with the systems that they read where the workflow puts them), of the same
        countries.
    n_threads : int
    local : LocalFiles
        An ffmpeg and checkpoints for models that do not bring their own, or may not.

    Returns
    -------
    list of Answer
        In the order of ``paths``. They are what the workflow says of the same recordings as clips of a corpus.

    Raises
    ------
    ValueError
        Where a model folder does not say what its features came from, a model's ffmpeg or checkpoint has to be named,
        a joint model's systems are not there, or models differ in their countries.
    """
    answers, countries, clips = [], None, []
    for folder in models:
        record = _record(folder)
        if "systems" in record["system"]:
            clips, answer, found = _by_joint(folder, paths, record["system"], n_threads, local)
        else:
            system = with_files(record["system"], folder, local)
            clips = _clips(paths, system, n_threads)
            answer, found = PREDICTORS[record["model"]](folder, clips, system, n_threads)
        if countries not in (None, found):
            raise ValueError(f"{folder}: of other countries than {models[0]}; predict with one of them")
        countries = found
        answers.append(answer)
    with np.errstate(invalid="ignore"):
        age = _mean([answer.age for answer in answers])
        country = _mean([answer.country for answer in answers])
        emotion = _mean([answer.emotion for answer in answers])
    return [
        Answer(
            path,
            clip.status,
            clip.reason,
            float(age[row]),
            _named(countries, country[row]),
            dict(zip(EMOTIONS, emotion[row].tolist(), strict=True)),
        )
        for row, (path, clip) in enumerate(zip(paths, clips, strict=True))
    ]


def answer_table(answers: Sequence[Answer]) -> str:
    """Return answers as CSV: a row a recording, countries by probability, a missing number empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    countries = list(answers[0].countries) if answers else []
    writer.writerow(["file", "status", "reason", "Age", *(f"P({name})" for name in countries), *EMOTIONS])
    for answer in answers:
        numbers = [answer.age, *answer.countries.values(), *answer.emotions.values()]
        cells = ["" if np.isnan(number) else f"{number:.6g}" for number in numbers]
        writer.writerow([answer.path, answer.status, answer.reason, *cells])
    return text.getvalue()


def _record(folder: Path) -> dict:
    """Return what a folder says of its ``model`` and, as ``system``, of what the features came from."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder}: no config.json; name the folder of a trained system, results/models/<system>/<seed>"
        )
    record = json.loads(path.read_text(encoding="utf-8"))
    if not record.get("system"):
        raise ValueError(
            f"{folder}: config.json does not say what the features came from; train the system again"
        )
    return record


def _clips(paths: Sequence[Path], system: dict, n_threads: int) -> list[Clip]:
    """Take recordings through the stages of a system, rounded between stages as the shards round them."""
    audio = system["audio"]
    config = ConvertConfig(**audio["convert"])
    binary = ffmpeg_binary(config.ffmpeg)
    clips = []
    for path in paths:
        # A user names recordings; where a link among them leads is the user's own affair.
        file = path.resolve()
        names = {path.name: file.name if file.exists() else None}
        clips.append(convert_clip(path.name, folder=file.parent, files=names, config=config, binary=binary))
    steps = {
        "dc": lambda some: dc_clips(some, HighpassConfig(**audio["highpass"])),
        "denoised": lambda some: denoised_clips(some, DenoiseConfig(**audio["denoise"])),
        "vad": lambda some: vad_clips(some, VadConfig(**audio["vad"]), n_threads=n_threads),
    }
    clips = [_rounded(clip, 16 if system["stage"] == "baseline" else 24) for clip in clips]
    for stage in stage_path(system["stage"])[1:]:
        rows = [row for row, clip in enumerate(clips) if clip.audio is not None]
        for row, clip in zip(rows, steps[stage]([clips[row] for row in rows]), strict=True):
            clips[row] = _rounded(clip, 16)
    return clips


def _rounded(clip: Clip, bits: int) -> Clip:
    if clip.audio is None:
        return clip
    return Clip(
        clip.clip_id, decode(encode(clip.audio, clip.clip_id, bits)), clip.status, clip.reason, clip.measures
    )


def _by_functionals(
    folder: Path, clips: Sequence[Clip], system: dict, n_threads: int
) -> tuple[Predictions, tuple[Country, ...]]:
    trained = load_trained(folder)
    return predict_utterances(trained, _functionals(clips, system, n_threads), n_threads=n_threads), (
        trained.countries
    )


def _functionals(clips: Sequence[Clip], system: dict, n_threads: int) -> Utterances:
    rows = [row for row, clip in enumerate(clips) if clip.audio is not None]
    config = CompareConfig(**system["feature_config"])
    found, names = compare_functionals([clips[row].audio for row in rows], config, n_threads=n_threads)
    values = np.full((len(clips), len(names)), np.nan, dtype=np.float32)
    values[rows] = found
    status = np.array([clip.status for clip in clips], dtype=object)
    return Utterances(_row_ids(clips), status, values, tuple(names))


def _by_sequences(
    folder: Path, clips: Sequence[Clip], system: dict, n_threads: int
) -> tuple[Predictions, tuple[Country, ...]]:
    from exvo.models.clip_answers import predict_clips
    from exvo.models.sequence_data import FrameStore
    from exvo.models.trained_systems import load_system

    trained = load_system(folder)
    with tempfile.TemporaryDirectory() as scratch:
        shard = _write_sequences(Path(scratch, "frames"), clips, system, n_threads, trained.n_channels)
        return predict_clips(trained, FrameStore([shard]), _row_ids(clips), n_threads), trained.countries


def _write_sequences(
    stem: Path, clips: Sequence[Clip], system: dict, n_threads: int, n_channels: int
) -> tuple[Path, Path]:
    rows = SEQUENCES[feature_kind(system["feature"])](clips, system, n_threads)
    rows = [replace(row, clip_id=name) for row, name in zip(rows, _row_ids(clips), strict=True)]
    shard = stem.with_suffix(".npy"), stem.with_suffix(".parquet")
    write_sequences(*shard, rows, n_channels, system["feature_config"]["dtype"])
    return shard


def _by_joint(
    folder: Path, paths: Sequence[Path], joint: dict, n_threads: int, local: LocalFiles
) -> tuple[Sequence[Clip], Predictions, tuple[Country, ...]]:
    """Predict by a joint model: as `_by_sequences`, of vectors by the systems that it was trained on."""
    from exvo.features.vectors import feature_vectors, write_vectors
    from exvo.models.clip_answers import predict_clips
    from exvo.models.joint_data import JointStore
    from exvo.models.results import predictions_or_priors
    from exvo.models.trained_systems import load_system

    trained, files = load_system(folder), {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in joint["systems"]:
            part = folder.resolve().parents[2] / "models" / name / folder.resolve().name
            if not (part / "config.json").is_file():
                raise ValueError(
                    f"{folder}: a joint model, which is predicted with the systems it reads, but {part} is not there"
                )
            system = with_files(_record(part)["system"], part, local)
            clips = _clips(paths, system, n_threads)
            if all(clip.audio is None for clip in clips):
                nobody = np.zeros(len(clips), dtype=bool)
                prior = predictions_or_priors(
                    _row_ids(clips), nobody, trained.priors, trained.countries, np.asarray
                )
                return clips, prior, trained.countries
            of_features = joint["representation"] == "features"
            read = (system["feature"], system["stage"], fine_tuned(system)) if of_features else name
            if read not in files:
                shard = _write_features(Path(scratch, f"{len(files)}"), part, clips, system, n_threads)
                files[read] = Path(scratch, f"{len(files)}_v.npy"), Path(scratch, f"{len(files)}_v.parquet")
                write_vectors([shard], feature_vectors if of_features else _vectors_by(part), *files[read])
        answer = predict_clips(trained, JointStore(list(files.values())), _row_ids(clips), n_threads)
    return clips, answer, trained.countries


def _write_features(
    stem: Path, folder: Path, clips: Sequence[Clip], system: dict, n_threads: int
) -> tuple[Path, ...]:
    if system["encoder"] == "mlp":
        features = _functionals(clips, system, n_threads)
        rows = [
            FeatureRow(name, None if clip.audio is None else values, clip.status, clip.reason)
            for name, values, clip in zip(features.clip_id, features.values, clips, strict=True)
        ]
        write_utterances(stem.with_suffix(".parquet"), rows, features.names)
        return (stem.with_suffix(".parquet"),)
    n_channels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["n_channels"]
    return _write_sequences(stem, clips, system, n_threads, n_channels)


def _vectors_by(folder: Path) -> Callable[[tuple[Path, ...], Sequence[str]], np.ndarray]:
    from exvo.models.pooled_vectors import pooled_vectors_by
    from exvo.models.trunk_vectors import trunk_vectors_by

    return trunk_vectors_by(folder) if _record(folder)["model"] == "organisers" else pooled_vectors_by(folder)


def _logmel_rows(clips: Sequence[Clip], system: dict, n_threads: int) -> list[FeatureRow]:
    config = LogmelConfig(**system["feature_config"])
    frames = [None if clip.audio is None else logmel(clip.audio, config) for clip in clips]
    return [
        FeatureRow(clip.clip_id, values, clip.status, clip.reason)
        for clip, values in zip(clips, frames, strict=True)
    ]


def _hubert_rows(clips: Sequence[Clip], system: dict, n_threads: int) -> list[FeatureRow]:
    from exvo.models.answers import torch_threads
    from exvo.models.hubert_features import Embedder, EmbeddingConfig

    config = EmbeddingConfig.from_dict(system["feature_config"])
    if fine_tuned(system):
        config = replace(config, layers="frontend")
    with torch_threads(n_threads):
        return list(Embedder(config, "the model's feature_config").rows(clips))


SEQUENCES = {"logmel": _logmel_rows, "hubert": _hubert_rows}
PREDICTORS = {"organisers": _by_functionals, "sequence": _by_sequences}


def _row_ids(clips: Sequence[Clip]) -> np.ndarray:
    """Name recordings by their place: two of them may have the same file name."""
    return np.array([f"{row}" for row in range(len(clips))], dtype=object)


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Average over the systems that do a task; NaN where none does."""
    stack = np.stack(parts)
    known = ~np.isnan(stack)
    return np.where(known.any(axis=0), np.where(known, stack, 0).sum(axis=0) / known.sum(axis=0), np.nan)


def _named(countries: Sequence[Country] | None, probabilities: np.ndarray) -> dict[str, float]:
    return {country.name: float(p) for country, p in zip(countries or (), probabilities, strict=True)}
