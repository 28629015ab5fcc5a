"""Arrow columns from Python values and back, without pandas.

``pyarrow.array`` and ``to_numpy`` import pandas. That takes 46 MB, and as much time as everything else that a job on a
shard does before its first clip (`benchmarks/bench_memory.py` measures the start of these jobs).
"""

from array import array
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_TYPE_CODES = {pa.int64(): "q", pa.float64(): "d"}


def column(values: Sequence, kind: pa.DataType) -> pa.Array:
    """Return what ``pyarrow.array(values, kind)`` returns.

    Parameters
    ----------
    values : sequence of str, bytes, int, float or None
        None becomes null.
    kind : pyarrow.DataType
        ``string``, ``binary``, ``int64`` or ``float64``.

    Returns
    -------
    pyarrow.Array

    Raises
    ------
    TypeError
        If a value has another type.
    ValueError
        If texts or bytes have 2 GiB or more in total, which one array cannot hold.
    """
    valid = np.fromiter((value is not None for value in values), bool, len(values))
    if pa.types.is_string(kind):
        buffers = _variable([b"" if value is None else str.encode(value) for value in values])
    elif pa.types.is_binary(kind):
        buffers = _variable([b"" if value is None else value for value in values])
    else:
        # Not through NumPy, which would truncate fractions silently.
        buffers = [
            pa.py_buffer(array(_TYPE_CODES[kind], [0 if value is None else value for value in values]))
        ]
    return pa.Array.from_buffers(kind, len(values), [_bitmap(valid), *buffers])


def struct(valid: Sequence[bool], kind: pa.StructType, children: Sequence[pa.Array]) -> pa.StructArray:
    """Return a column of structs, with one child per field of the type; null where not ``valid``."""
    buffers = [_bitmap(np.array(valid, dtype=bool))]
    return pa.Array.from_buffers(kind, len(valid), buffers, children=list(children))


def floats(values: np.ndarray, valid: np.ndarray) -> pa.Array:
    """Return a column of the numbers of an array [shape=(n,), float], null where not ``valid`` [shape=(n,), bool]."""
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(
        kind, len(values), [_bitmap(valid), pa.py_buffer(np.ascontiguousarray(values))]
    )


def float_values(values: pa.ChunkedArray) -> np.ndarray:
    """Return a column of float32 or float64 as a new array [shape=(n,), same type], NaN where it is null."""
    kind = np.dtype(values.type.to_pandas_dtype())
    parts = (_chunk_numbers(chunk, kind) for chunk in values.chunks if len(chunk))
    return np.concatenate([np.empty(0, kind), *parts])


def _chunk_numbers(chunk: pa.Array, kind: np.dtype) -> np.ndarray:
    known, data = chunk.buffers()
    rows = slice(chunk.offset, chunk.offset + len(chunk))
    part = np.frombuffer(data, kind)[rows]
    if not chunk.null_count:
        return part
    valid = np.unpackbits(np.frombuffer(known, np.uint8), bitorder="little")[rows]
    return np.where(valid.astype(bool), part, kind.type(np.nan))


def _bitmap(valid: np.ndarray) -> pa.Buffer | None:
    """Return one bit per value, the lowest first, set if it is not null; None if no value is null (Arrow's layout)."""
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _variable(values: list[bytes]) -> list[pa.Buffer]:
    """Return the offsets and the bytes of values of variable length."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"a column of {offsets[-1]} bytes is too long for one array")
    return [pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(values))]
