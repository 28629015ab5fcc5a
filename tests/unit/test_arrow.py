import numpy as np
import pyarrow as pa
import pytest

from exvo.util.arrow import column, float_values, floats, struct


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "", "öß", "\0"], pa.string()),
        ([None, "a", None, *"bcdefghij", None], pa.string()),
        ([b"\xff\0", None, b""], pa.binary()),
        ([1, None, -(2**62), np.int64(7)], pa.int64()),
        ([1, 0.1, None, np.float32(0.1), float("inf")], pa.float64()),
        ([None] * 9, pa.float64()),
        ([], pa.string()),
        ([], pa.int64()),
    ],
)
def test_a_column_is_what_pyarrow_makes(values, kind):
    made = column(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))


@pytest.mark.parametrize(
    ("values", "kind", "error"),
    [([2.5], pa.int64(), TypeError), (["1"], pa.float64(), TypeError), ([1], pa.string(), TypeError)],
)
def test_values_of_another_type_are_refused(values, kind, error):
    with pytest.raises(error):
        column(values, kind)


def test_texts_beyond_what_an_array_holds_are_refused():
    part = bytes(1 << 28)
    with pytest.raises(ValueError, match="2147483648 bytes"):
        column([part] * 8, pa.binary())


def test_structs_are_what_pyarrow_makes():
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    children = [column([b"1", None, b""], pa.binary()), column(["a", None, "c"], pa.string())]
    made = struct([True, False, True], kind, children)
    made.validate(full=True)
    assert made.equals(pa.array([{"bytes": b"1", "path": "a"}, None, {"bytes": b"", "path": "c"}], kind))


@pytest.mark.parametrize("n_null", [0, 3])
def test_floats_are_what_pyarrow_makes(n_null):
    values = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)[:, 0]
    valid = np.arange(20) >= n_null
    made = floats(values, valid)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.float32(), mask=~valid))


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [[]],
        [[1.5, -2.0, 3.0]],
        [[1.5, None, 3.0], [], [None, float("inf"), *map(float, range(9)), None]],
        [[None, None]],
    ],
)
def test_numbers_are_what_pyarrow_reads(kind, chunks):
    values = pa.chunked_array([pa.array(chunk, kind) for chunk in chunks], kind)
    read = float_values(values)
    assert read.dtype == kind.to_pandas_dtype()
    np.testing.assert_array_equal(read, values.to_numpy())
    # A slice begins in the middle of a byte of the bitmap.
    part = values.slice(1, 9)
    np.testing.assert_array_equal(float_values(part), part.to_numpy())
