"""The predictions table: what is written comes back, and what is missing is named."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exvo.corpus.labels import EMOTIONS
from exvo.evaluation.predictions import Predictions, align, read_predictions, write_predictions


@pytest.fixture
def predictions():
    random = np.random.default_rng(3)
    return Predictions(
        clip_id=np.array(["00007", "b", "00001"]),
        age=np.array([20.5, 30.25, 39.0]),
        country=random.dirichlet(np.ones(2), size=3),
        emotion=random.random((3, 10)),
        country_codes=(4, 7),
    )


def assert_same(left, right):
    assert left.country_codes == right.country_codes
    for name in ("clip_id", "age", "country", "emotion"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_predictions_come_back_as_they_were_written(tmp_path, predictions):
    path = tmp_path / "val.parquet"
    write_predictions(path, predictions)
    assert_same(read_predictions(path), predictions)
    assert pq.read_table(path).column_names == ["clip_id", "age", "country_4", "country_7", *EMOTIONS]
    assert [p.name for p in tmp_path.iterdir()] == ["val.parquet"]


def test_a_task_not_done_comes_back_as_nan(tmp_path, predictions):
    one_task = Predictions(
        clip_id=predictions.clip_id,
        age=np.full(3, np.nan),
        country=np.empty((3, 0)),
        emotion=predictions.emotion,
        country_codes=(),
    )
    write_predictions(tmp_path / "val.parquet", one_task)
    assert_same(read_predictions(tmp_path / "val.parquet"), one_task)


def test_no_clips_at_all_can_be_written(tmp_path):
    empty = Predictions(np.array([], str), np.empty(0), np.empty((0, 2)), np.empty((0, 10)), (0, 1))
    write_predictions(tmp_path / "test.parquet", empty)
    assert_same(read_predictions(tmp_path / "test.parquet"), empty)


def test_a_failed_write_leaves_the_old_file_and_no_scrap(tmp_path, predictions, monkeypatch):
    path = tmp_path / "val.parquet"
    write_predictions(path, predictions)

    def broken(table, where):
        where.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        write_predictions(path, predictions)
    assert_same(read_predictions(path), predictions)
    assert len(list(tmp_path.iterdir())) == 1


def test_another_table_is_refused_by_the_columns_it_lacks(tmp_path):
    pq.write_table(pa.table({"clip_id": ["a"], "Awe": [0.1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet.*age, Excitement"):
        read_predictions(tmp_path / "x.parquet")


def test_align_orders_and_selects(predictions):
    aligned = align(predictions, ["b", "00001"])
    assert aligned.clip_id.tolist() == ["b", "00001"]
    np.testing.assert_array_equal(aligned.age, [30.25, 39.0])
    np.testing.assert_array_equal(aligned.emotion, predictions.emotion[[1, 2]])
    np.testing.assert_array_equal(aligned.country, predictions.country[[1, 2]])


def test_align_names_the_clips_without_predictions(predictions):
    with pytest.raises(ValueError, match="2 of 3 clips have none: 00002, c"):
        align(predictions, np.array(["00002", "b", "c"]))


def test_wrong_shapes_and_doubled_clips_are_refused(predictions):
    with pytest.raises(ValueError, match="country has shape"):
        Predictions(predictions.clip_id, predictions.age, predictions.country, predictions.emotion, (4,))
    with pytest.raises(ValueError, match="more than once"):
        align(predictions, ["b", "b"])
