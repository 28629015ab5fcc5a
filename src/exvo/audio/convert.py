"""Decode the recordings of a corpus to 16 kHz mono: the stages ``raw`` (from ``raw/``) and ``baseline`` (``wav/``).

A few clips share an ffmpeg process. Where it has anything to complain of, each of them is decoded again in a
process of its own: a broken recording changes nothing for its neighbours, and the limits on time and memory hold
for each clip.
"""

import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pyarrow as pa

from exvo.audio import store
from exvo.audio.decode import ConvertConfig, Decoded, decode_file, decode_files
from exvo.audio.full_scale import within_full_scale
from exvo.audio.store import SAMPLE_RATE, Clip

# A sample this close to full scale counts as clipped.
CLIPPED = 0.999
MEASURES = {
    "codec": pa.string(),
    "source_sample_rate": pa.int64(),
    "recorded_sample_rate": pa.int64(),
    "source_channels": pa.string(),
    "peak": pa.float64(),
    "gain_db": pa.float64(),
    "clipping_rate": pa.float64(),
}
# Clips that share a process; more would save little, and take their neighbours along when one is broken.
CLIPS_A_PROCESS = 8


def convert_shard(
    folder: Path,
    files: Mapping[str, str | None],
    target: str | Path,
    config: ConvertConfig,
    *,
    bits: int,
    n_threads: int = 1,
) -> None:
    """Decode the clips of a shard and store them.

    Parameters
    ----------
    folder : Path
        ``raw/`` or ``wav/`` of the corpus.
    files : mapping of str to str or None
        The shard's clips and the names of their files in ``folder``; None for a clip without one. Each clip gets
        a row, in id order.
    target : str or Path
        The audio shard to write.
    config : ConvertConfig
    bits : int
        Bits a sample in the shard.
    n_threads : int
        How many ffmpeg processes run at a time.
    """
    binary = ffmpeg_binary(config.ffmpeg)
    convert = partial(convert_clips, folder=folder, files=files, config=config, binary=binary)
    clip_ids = sorted(files)
    groups = [clip_ids[i : i + CLIPS_A_PROCESS] for i in range(0, len(clip_ids), CLIPS_A_PROCESS)]
    with ThreadPoolExecutor(n_threads) as pool:
        clips = [clip for group in pool.map(convert, groups) for clip in group]
    store.write_shard(target, clips, MEASURES, bits=bits)


def ffmpeg_binary(choice: str) -> str:
    """Return the ffmpeg program that ``audio.convert.ffmpeg`` names."""
    return {"bundled": imageio_ffmpeg.get_ffmpeg_exe, "system": lambda: "ffmpeg"}.get(
        choice, lambda: choice
    )()


def convert_clips(
    clip_ids: Sequence[str],
    *,
    folder: Path,
    files: Mapping[str, str | None],
    config: ConvertConfig,
    binary: str,
) -> list[Clip]:
    """Decode a few clips in one process; if that does not go well, each in its own.

    Parameters
    ----------
    clip_ids : sequence of str
    folder, files, config
        As for `convert_shard`.
    binary : str
        The ffmpeg program.

    Returns
    -------
    list of Clip
        What `convert_clip` gives for each, in the order of ``clip_ids``.
    """
    checked = {clip_id: _readable(clip_id, folder, files) for clip_id in clip_ids}
    paths = {clip_id: path for clip_id, path in checked.items() if isinstance(path, Path)}
    together = decode_files(list(paths.values()), config, binary) if len(paths) > 1 else None
    if together is None:
        return [convert_clip(i, folder=folder, files=files, config=config, binary=binary) for i in clip_ids]
    decoded = dict(zip(paths, together, strict=True))
    return [
        _decoded_clip(clip_id, _where(path), decoded[clip_id], config) if isinstance(path, Path) else path
        for clip_id, path in checked.items()
    ]


def convert_clip(
    clip_id: str, *, folder: Path, files: Mapping[str, str | None], config: ConvertConfig, binary: str
) -> Clip:
    """Decode one clip; whatever is wrong with its file becomes its status and reason.

    Parameters
    ----------
    clip_id : str
    folder, files, config
        As for `convert_shard`.
    binary : str
        The ffmpeg program.
    """
    path = _readable(clip_id, folder, files)
    if isinstance(path, Clip):
        return path
    try:
        decoded = decode_file(path, config, binary)
    except subprocess.TimeoutExpired:
        return Clip(clip_id, None, store.TIMEOUT, f"{_where(path)}: not decoded within {config.timeout_s} s")
    return _decoded_clip(clip_id, _where(path), decoded, config)


def _where(path: Path) -> str:
    # Names need not be UTF-8, reasons must be.
    return f"{path.parent.name}/{path.name}".encode("utf-8", "backslashreplace").decode()


def _readable(clip_id: str, folder: Path, files: Mapping[str, str | None]) -> Path | Clip:
    """Return the path of a clip's file or, where ffmpeg need not be asked, the clip with what is wrong."""
    if files[clip_id] is None:
        return Clip(clip_id, None, store.MISSING, f"no file {folder.name}/{clip_id}.*")
    path = folder / files[clip_id]
    where = _where(path)
    try:
        resolved = path.resolve()
        if not resolved.is_relative_to(folder.resolve()):
            return Clip(clip_id, None, store.UNREADABLE, f"{where}: a link that leads out of the corpus")
        if not resolved.exists():
            return Clip(clip_id, None, store.MISSING, f"{where}: the file is gone, or a link to nothing")
        if not resolved.is_file():
            return Clip(clip_id, None, store.UNREADABLE, f"{where}: not a regular file")
        if not path.stat().st_size:
            return Clip(clip_id, None, store.EMPTY, f"{where}: the file is empty")
        path.open("rb").close()
    except OSError as error:
        return Clip(clip_id, None, store.UNREADABLE, f"{where}: cannot be opened ({error.strerror})")
    except RuntimeError:  # how pathlib of Python 3.11 says it
        return Clip(clip_id, None, store.UNREADABLE, f"{where}: a link that leads back to itself")
    return path


def _decoded_clip(clip_id: str, where: str, decoded: Decoded, config: ConvertConfig) -> Clip:
    audio, measures, complaint = decoded
    if not len(audio):
        status = store.UNREADABLE if complaint else store.EMPTY
        return Clip(clip_id, None, status, f"{where}: {complaint or 'no audio in the file'}", measures)
    return _checked_clip(clip_id, where, audio, measures, complaint, config)


def _checked_clip(
    clip_id: str,
    where: str,
    audio: np.ndarray,
    measures: dict[str, object],
    complaint: str,
    config: ConvertConfig,
) -> Clip:
    """Bring decoded samples into range and say what is odd about them."""
    notes = []
    if complaint:
        notes.append((store.DAMAGED, f"{where}: {complaint}"))
    n_wrong = int(np.count_nonzero(~np.isfinite(audio)))
    if n_wrong:
        audio = np.where(np.isfinite(audio), audio, np.float32(0))
        notes.append((store.DAMAGED, f"{where}: {n_wrong} samples are no numbers; they are set to 0"))
    n_most = round(config.max_seconds * SAMPLE_RATE)
    if len(audio) > n_most:
        audio = audio[:n_most]
        notes.append((store.TRUNCATED, f"{where}: longer than {config.max_seconds} s; the rest is left out"))
    peak = float(np.abs(audio).max())
    if peak == 0.0:
        notes.append((store.SILENT, f"{where}: digital silence"))
    clipping_rate = float(np.mean(np.abs(audio) >= CLIPPED))
    # A decoder overshoots full scale where the recording is loud: scaled down, it is not clipped a second time.
    audio, gain_db = within_full_scale(audio)
    measures = {**measures, "peak": peak, "gain_db": gain_db, "clipping_rate": clipping_rate}
    clip = Clip(clip_id, audio, measures=measures)
    for status, reason in notes:
        clip = clip.flagged(status, reason)
    return clip
