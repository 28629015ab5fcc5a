"""Decode the recordings of a corpus to 16 kHz mono: the stages ``raw`` (from ``raw/``) and ``baseline`` (``wav/``).

A few clips share an ffmpeg process. If that process reports any error, each of them is decoded again in its own
process. A broken recording therefore does not affect the other clips, and the limits on time and memory hold for
each clip.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from exvo.audio import store
from exvo.audio.decode import ConvertConfig, Decoded, decode_file, decode_files
from exvo.audio.full_scale import within_full_scale
from exvo.audio.program import ffmpeg_binary
from exvo.audio.recording import NotOpened, Recording, open_recording
from exvo.audio.store import Clip

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
# Clips that share a process. More would save little, and one broken clip would force more others to be repeated.
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
        Clip id to the name of its file in ``folder``; None for a clip without a file. Each clip gets a row, in the
        order of the ids.
    target : str or Path
        The audio shard to write.
    config : ConvertConfig
    bits : int
        Bits per sample in the shard.
    n_threads : int
        Number of ffmpeg processes that run at a time.
    """
    binary = ffmpeg_binary(config.ffmpeg, config)
    convert = partial(convert_clips, folder=folder, files=files, config=config, binary=binary)
    clip_ids = sorted(files)
    groups = [clip_ids[i : i + CLIPS_A_PROCESS] for i in range(0, len(clip_ids), CLIPS_A_PROCESS)]
    with ThreadPoolExecutor(n_threads) as pool:
        clips = [clip for group in pool.map(convert, groups) for clip in group]
    store.write_shard(target, clips, MEASURES, bits=bits)


def convert_clips(
    clip_ids: Sequence[str],
    *,
    folder: Path,
    files: Mapping[str, str | None],
    config: ConvertConfig,
    binary: str,
) -> list[Clip]:
    """Decode a few clips in one process or, if that process reports an error, each in its own.

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
        The results of `convert_clip`, in the order of ``clip_ids``.
    """
    with ExitStack() as stack:
        opened = {clip_id: _opened(clip_id, folder, files, stack) for clip_id in clip_ids}
        recordings = {clip_id: each for clip_id, each in opened.items() if isinstance(each, Recording)}
        together: list[Decoded | None] = [None] * len(recordings)
        if len(recordings) > 1:
            together = decode_files(list(recordings.values()), config, binary)
        decoded = dict(zip(recordings, together, strict=True))
        return [
            _converted(clip_id, each, decoded[clip_id], config, binary)
            if isinstance(each, Recording)
            else each
            for clip_id, each in opened.items()
        ]


def convert_clip(
    clip_id: str, *, folder: Path, files: Mapping[str, str | None], config: ConvertConfig, binary: str
) -> Clip:
    """Decode one clip. An error in its file becomes its status and reason.

    Parameters
    ----------
    clip_id : str
    folder, files, config
        As for `convert_shard`.
    binary : str
        The ffmpeg program.
    """
    (clip,) = convert_clips([clip_id], folder=folder, files=files, config=config, binary=binary)
    return clip


def _opened(
    clip_id: str, folder: Path, files: Mapping[str, str | None], stack: ExitStack
) -> Recording | Clip:
    """Open the recording of a clip until the stack closes. Return a clip without audio where it cannot be opened."""
    name = files[clip_id]
    if name is None:
        return Clip(clip_id, None, store.MISSING, f"no recording {folder.name}/{clip_id}.*")
    try:
        recording = open_recording(folder, name)
    except NotOpened as error:
        return Clip(clip_id, None, error.status, error.reason)
    stack.callback(os.close, recording.handle)
    return recording


def _converted(
    clip_id: str, recording: Recording, decoded: Decoded | None, config: ConvertConfig, binary: str
) -> Clip:
    """Return a clip from decoded samples, or decode the recording in its own process if there are none."""
    where = recording.where
    try:
        return _decoded_clip(clip_id, where, decoded or decode_file(recording, config, binary), config)
    except subprocess.TimeoutExpired:
        return Clip(clip_id, None, store.TIMEOUT, f"{where}: not decoded within {config.timeout_s} s")


def _decoded_clip(clip_id: str, where: str, decoded: Decoded, config: ConvertConfig) -> Clip:
    """Limit decoded samples to full scale, and flag what is wrong with them."""
    audio, error = decoded.audio, decoded.error
    if not len(audio):
        status = store.UNREADABLE if error else store.EMPTY
        return Clip(clip_id, None, status, f"{where}: {error or 'no audio in the file'}", decoded.source)
    notes = [(store.DAMAGED, f"{where}: {words}") for words in filter(None, (error, *decoded.notes))]
    n_wrong = int(np.count_nonzero(~np.isfinite(audio)))
    if n_wrong:
        audio = np.where(np.isfinite(audio), audio, np.float32(0))
        notes.append((store.DAMAGED, f"{where}: {n_wrong} samples are not finite numbers; they are set to 0"))
    if len(audio) > config.max_samples:
        audio = audio[: config.max_samples]
        notes.append((store.TRUNCATED, f"{where}: longer than {config.max_seconds} s; the rest is cut off"))
    peak = float(np.abs(audio).max())
    if peak == 0.0:
        notes.append((store.SILENT, f"{where}: digital silence"))
    clipping_rate = float(np.mean(np.abs(audio) >= CLIPPED))
    # The decoder of a loud recording can overshoot full scale. Scaling it down avoids a second clipping.
    audio, gain_db = within_full_scale(audio)
    measures = {**decoded.source, "peak": peak, "gain_db": gain_db, "clipping_rate": clipping_rate}
    clip = Clip(clip_id, audio, measures=measures)
    for status, reason in notes:
        clip = clip.flagged(status, reason)
    return clip
