"""Audio shards: the clips of one shard after one stage, in one Parquet file.

The layout is that of the Audio feature of Hugging Face ``datasets``: a struct of ``bytes`` (FLAC) and ``path``.
``load_dataset("parquet", ...)`` therefore reads the clips as audio. Every clip of the shard has a row, in id order. A
clip that could not be read has no audio and a reason.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from exvo.util.arrow import column, struct
from exvo.util.atomic import atomic_path

SAMPLE_RATE = 16_000

# Status of a clip after a stage. The first means no problem; clips with the next four have audio.
OK = "ok"
SILENT = "silent"
DAMAGED = "damaged"
TRUNCATED = "truncated"
NO_VOICE = "no_voice"
MISSING = "missing"
UNREADABLE = "unreadable"
EMPTY = "empty"
TIMEOUT = "timeout"
WITHOUT_AUDIO = (MISSING, UNREADABLE, EMPTY, TIMEOUT)

# Number of clips whose FLAC is in memory at once when a shard is read clip by clip.
_READ_CLIPS = 32
# Largest FLAC data in one Arrow array, which is limited to 2 GiB.
_BATCH_BYTES = 1 << 30
_AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_COLUMNS = [
    ("clip_id", pa.string()),
    ("audio", _AUDIO),
    ("n_samples", pa.int64()),
    ("status", pa.string()),
    ("reason", pa.string()),
]


@dataclass(frozen=True)
class Clip:
    """One clip after a stage.

    Attributes
    ----------
    clip_id : str
    audio : np.ndarray [shape=(n_samples,), float32] or None
        16 kHz mono in [-1, 1]; None without audio.
    status : str
        One of the status constants of this module; ``ok`` without a problem.
    reason : str
        Explanation of the status; empty where it is ``ok``.
    measures : mapping of str to float, int, str or None
        Measurements of the stage, one column each.
    """

    clip_id: str
    audio: np.ndarray | None
    status: str = OK
    reason: str = ""
    measures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> np.ndarray:
        """The audio of a clip that has some.

        Raises
        ------
        ValueError
            Where the clip has no audio.
        """
        if self.audio is None:
            raise ValueError(f"clip {self.clip_id}: no audio ({self.status}: {self.reason})")
        return self.audio

    def flagged(self, status: str, reason: str) -> "Clip":
        """Return the clip with a further reason and, if it was ``ok``, the status; an earlier status is kept."""
        reasons = "; ".join(filter(None, (self.reason, reason)))
        return replace(self, status=self.status if self.status != OK else status, reason=reasons)


def write_shard(
    path: str | Path, clips: Sequence[Clip], measures: Mapping[str, pa.DataType], *, bits: int
) -> None:
    """Write a shard.

    Parameters
    ----------
    path : str or Path
    clips : sequence of Clip
        In id order.
    measures : mapping of str to pyarrow.DataType
        Columns of the measures, which a shard without clips has as well. A missing measure is null.
    bits : int
        Bits per sample, 16 or 24.

    Raises
    ------
    ValueError
        Where a clip exceeds full scale, because no stage may clip.
    """
    schema = pa.schema([*_COLUMNS, *measures.items()], metadata=_hugging_face_metadata(measures))
    batches = []
    encoded: list[bytes | None] = []
    first, n_bytes = 0, 0
    for row, clip in enumerate(clips):
        data = None if clip.audio is None else encode(clip.audio, clip.clip_id, bits)
        n_bytes += len(data or b"")
        if n_bytes > _BATCH_BYTES:
            batches.append(_batch(clips[first:row], encoded, schema))
            first, n_bytes, encoded = row, len(data or b""), []
        encoded.append(data)
    batches.append(_batch(clips[first:], encoded, schema))
    table = pa.Table.from_batches(batches, schema)
    with atomic_path(path) as temporary:
        # FLAC does not compress further, and the other columns are small.
        pq.write_table(table, temporary, compression="none")


def _batch(clips: Sequence[Clip], encoded: Sequence[bytes | None], schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of clips, with their encoded audio."""
    paths = [
        None if data is None else f"{clip.clip_id}.flac" for clip, data in zip(clips, encoded, strict=True)
    ]
    audio = [column(encoded, pa.binary()), column(paths, pa.string())]
    n_samples = [0 if clip.audio is None else len(clip.audio) for clip in clips]
    columns = [
        column([clip.clip_id for clip in clips], pa.string()),
        struct([data is not None for data in encoded], _AUDIO, audio),
        column(n_samples, pa.int64()),
        column([clip.status for clip in clips], pa.string()),
        column([clip.reason for clip in clips], pa.string()),
    ]
    for name in schema.names[len(_COLUMNS) :]:
        measured = [_none_if_nan(clip.measures.get(name)) for clip in clips]
        columns.append(column(measured, schema.field(name).type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def read_shard(path: str | Path) -> list[Clip]:
    """Read a shard's clips with their audio, without their measures."""
    return list(iter_shard(path))


def iter_shard(path: str | Path) -> Iterator[Clip]:
    """Yield the clips of `read_shard`, each decoded when it is requested."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_READ_CLIPS, columns=["clip_id", "audio", "status", "reason"]):
            for row in batch.to_pylist():
                audio = decode(row["audio"]["bytes"]) if row["audio"] else None
                yield Clip(row["clip_id"], audio, row["status"], row["reason"])


def transform_shard(
    source: str | Path,
    target: str | Path,
    transform: Callable[[list[Clip]], list[Clip]],
    measures: Mapping[str, pa.DataType],
) -> None:
    """Apply a stage to the clips of a shard that have audio; the others keep their status and reason.

    Parameters
    ----------
    source, target : str or Path
        Shards of the previous stage and of this stage.
    transform : callable
        Takes clips with audio and returns one clip for each.
    measures : mapping of str to pyarrow.DataType
    """
    clips = read_shard(source)
    rows = [row for row, clip in enumerate(clips) if clip.audio is not None]
    for row, clip in zip(rows, transform([clips[row] for row in rows]), strict=True):
        clips[row] = clip
    write_shard(target, clips, measures, bits=16)


def encode(audio: np.ndarray, clip_id: str, bits: int) -> bytes:
    """Encode 16 kHz mono samples as FLAC, rounded to the nearest step and never clipped."""
    steps = 1 << (bits - 1)
    values = np.rint(audio.astype(np.float64) * steps)
    # A value of `steps` is +1.0, which two's complement cannot represent; it becomes the largest value.
    if len(values) and not (values.max() <= steps and values.min() >= -steps):
        raise ValueError(
            f"clip {clip_id}: samples exceed full scale or are not finite; a stage must not clip"
        )
    values = np.minimum(values, steps - 1).astype(np.int32) << (32 - bits)
    buffer = io.BytesIO()
    soundfile.write(buffer, values, SAMPLE_RATE, format="FLAC", subtype=f"PCM_{bits}")
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Return the samples of a FLAC file from `encode`, as float32 in [-1, 1)."""
    audio, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    return audio


def _none_if_nan(value: object) -> object:
    return None if isinstance(value, float | np.floating) and not np.isfinite(value) else value


def _hugging_face_metadata(measures: Mapping[str, pa.DataType]) -> dict[str, str]:
    values = {"clip_id": "string", "n_samples": "int64", "status": "string", "reason": "string"}
    values |= {name: {"double": "float64"}.get(str(kind), str(kind)) for name, kind in measures.items()}
    features: dict[str, dict[str, object]] = {
        name: {"dtype": kind, "_type": "Value"} for name, kind in values.items()
    }
    features["audio"] = {"sampling_rate": SAMPLE_RATE, "_type": "Audio"}
    order = [name for name, _ in _COLUMNS] + list(measures)
    return {"huggingface": json.dumps({"info": {"features": {name: features[name] for name in order}}})}
