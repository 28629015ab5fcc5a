"""Frames of clips and batches of them: where they come from, what they hold, what is random and what is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from exvo.corpus.labels import Country, Labels
from exvo.features.store import FeatureRow, write_sequences
from exvo.training import frames as sequence_data
from exvo.training.batches import SpecAugment, TrainBatches, like_length_batches, whole_batches
from exvo.training.frames import FrameStore

N_CHANNELS = 6


def write_store(folder, lengths, n_shards=2, offset=0.0):
    """Clips c000, c001, ... of given lengths; a frame holds 10 * clip + frame / 100 in every channel."""
    folder.mkdir()
    rows = []
    for clip, n in enumerate(lengths):
        values = np.repeat(10 * clip + np.arange(n)[:, None] / 100 + offset, N_CHANNELS, axis=1)
        rows.append(FeatureRow(f"c{clip:03d}", values if n else None, "ok" if n else "missing", ""))
    paths = [(folder / f"{shard}.npy", folder / f"{shard}.parquet") for shard in range(n_shards)]
    for shard, path in enumerate(paths):
        write_sequences(*path, rows[shard::n_shards], N_CHANNELS, "float32")
    return FrameStore(paths)


def labels_of(n):
    rng = np.random.default_rng(5)
    age, emotion, country = rng.uniform(20, 39, n), rng.random((n, 10)), rng.integers(0, 3, n)
    age[::3], emotion[1::4, 2], country[::5] = np.nan, np.nan, -1
    ids, blank = np.array([f"c{i:03d}" for i in range(n)], dtype=object), np.full(n, "")
    return Labels(ids, blank, blank, age, country, emotion, tuple(Country(i, str(i)) for i in range(3)))


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(5, 400, 100)


@pytest.fixture
def store(tmp_path, lengths):
    return write_store(tmp_path / "frames", lengths)


def equal(first, second):
    pairs = list(zip(first, second, strict=True))
    return all(torch.equal(a.frames, b.frames) and torch.equal(a.rows, b.rows) for a, b in pairs)


def test_frames_are_views_of_mapped_files(store, lengths):
    row = store.rows(["c007"])[0]
    frames = store.frames(row)
    assert isinstance(frames, np.memmap) and not frames.flags.writeable
    np.testing.assert_allclose(frames[:, 0], 70 + np.arange(lengths[7]) / 100, rtol=1e-6)
    np.testing.assert_array_equal(store.frames(row, 2, 3), frames[2:5])
    assert store.n_channels == N_CHANNELS
    np.testing.assert_array_equal(store.n_frames[store.rows([f"c{i:03d}" for i in range(100)])], lengths)


def test_maps_are_given_back_after_some_bytes(store, monkeypatch):
    monkeypatch.setattr(sequence_data, "_UNMAP_BYTES", 10_000)
    monkeypatch.setattr(sequence_data, "_LEAST_READ", 0)
    opened = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: opened.append(a[0]) or load(*a, **k))
    for row in range(100):
        store.frames(row)
        assert store._n_bytes_read <= 10_000 + 400 * N_CHANNELS * 4
    assert len(opened) > 10


def test_clips_without_audio_are_known_and_absent_ones_refused(tmp_path):
    store = write_store(tmp_path / "frames", [10, 0, 7])
    assert store.has_audio(["c000", "c001", "c002"]).tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"no shard has clip x \(1 such"):
        store.rows(["c000", "x"])
    with pytest.raises(ValueError, match="clip c000 is in more than one shard"):
        FrameStore([*store.shards, store.shards[0]])


def test_a_batch_holds_frames_zeros_lengths_and_labels(store, lengths):
    labels = labels_of(100)
    batch = TrainBatches(store, labels, batch_size=4, seed=0).epoch(1)[0]
    rows = batch.rows.numpy()
    assert batch.frames.shape == (4, lengths[rows].max(), N_CHANNELS) and batch.frames.dtype == torch.float32
    assert batch.lengths.tolist() == lengths[rows].tolist() and batch.lengths.dtype == torch.int64
    for frames, row in zip(batch.frames.numpy(), rows, strict=True):
        np.testing.assert_allclose(
            frames[: lengths[row], 3], 10 * row + np.arange(lengths[row]) / 100, rtol=1e-6
        )
        assert (frames[lengths[row] :] == 0).all()
    np.testing.assert_array_equal(batch.targets["age"].numpy(), labels.age[rows].astype(np.float32))
    np.testing.assert_array_equal(batch.targets["emotion"].numpy(), labels.emotion[rows].astype(np.float32))
    np.testing.assert_array_equal(batch.targets["country"].numpy(), labels.country[rows])
    assert batch.targets["country"].dtype == torch.int64
    known = {"emotion": True, "age": labels.age[rows] > 0, "country": labels.country[rows] >= 0}
    assert set(batch.labelled) == {task for task, values in known.items() if np.any(values)}
    assert next(iter(whole_batches(store, ["c001"], batch_size=4, max_batch_frames=10))).targets == {}


def test_batches_of_an_epoch_are_the_same_again_and_others_in_the_next(store):
    options = {
        "batch_size": 8,
        "spec_augment": SpecAugment(),
        "fill": np.zeros(N_CHANNELS),
        "crop_frames": 200,
    }
    first = TrainBatches(store, labels_of(100), seed=1, **options)
    again = TrainBatches(store, labels_of(100), seed=1, **options)
    list(again.epoch(1))  # what was read before has no part in it
    assert equal(first.epoch(2), again.epoch(2))
    assert not torch.equal(next(iter(first.epoch(2))).rows, next(iter(first.epoch(3))).rows)
    other = TrainBatches(store, labels_of(100), seed=2, **options)
    assert not torch.equal(next(iter(first.epoch(2))).rows, next(iter(other.epoch(2))).rows)
    rows = np.concatenate([batch.rows.numpy() for batch in first.epoch(2)])
    assert sorted(rows) == list(range(100))


def test_batches_hold_clips_of_like_length():
    lengths = np.random.default_rng(0).integers(20, 500, 2000)
    batches = like_length_batches(lengths, 32, rng=np.random.default_rng(1))
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert padded < 1.2 * lengths.sum()  # batches at random pad to about twice the frames
    assert max(map(len, batches)) <= 32 and min(map(len, batches)) >= 31
    first = [lengths[b].mean() for b in batches]
    assert abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.4  # short and long ones alternate
    epochs = [like_length_batches(lengths, 32, rng=np.random.default_rng(s)) for s in (1, 2)]
    neighbours = [next(set(b.tolist()) for b in epoch if 0 in b) for epoch in epochs]
    assert len(neighbours[0] & neighbours[1]) < 16


def test_batches_are_bounded_in_frames():
    lengths = np.array([10, 900, 30, 20, 40, 35, 2000, 25])
    for rng in (None, np.random.default_rng(0)):
        batches = like_length_batches(lengths, 3, max_batch_frames=100, rng=rng)
        assert sorted(np.concatenate(batches)) == list(range(8))
        assert all(len(b) * lengths[b].max() <= 100 or len(b) == 1 for b in batches)
        assert max(map(len, batches)) == 3
    assert like_length_batches(np.array([], int), 3) == []
    assert [len(b) for b in like_length_batches(np.full(65, 9), 32)] == [22, 22, 21]  # none alone


def test_a_long_clip_gives_a_random_stretch_in_training_and_all_of_it_otherwise(store, lengths):
    longest = int(lengths.argmax())
    labels = labels_of(100).take(np.array([longest]))
    batches = TrainBatches(store, labels, batch_size=1, seed=0, crop_frames=50)
    starts = set()
    for epoch in range(1, 9):
        frames = next(iter(batches.epoch(epoch))).frames[0, :, 0].numpy()
        assert len(frames) == 50
        np.testing.assert_allclose(np.diff(frames), 0.01, atol=1e-3)
        starts.add(round((float(frames[0]) - 10 * longest) * 100))
    assert len(starts) > 4 and min(starts) >= 0 and max(starts) <= lengths[longest] - 50
    whole = next(iter(whole_batches(store, labels.clip_id, batch_size=1, max_batch_frames=10)))
    assert whole.frames.shape[1] == lengths[longest]


def test_masks_depend_on_seed_epoch_and_clip_and_not_on_the_batch(store):
    fill = np.full(N_CHANNELS, -7.0, np.float32)
    options = {"seed": 3, "spec_augment": SpecAugment(max_channels=2), "fill": fill}

    def clips(batch_size, epoch, rows=slice(None)):
        labels = labels_of(100).take(np.arange(100)[rows])
        batches = TrainBatches(store, labels, batch_size=batch_size, **options).epoch(epoch)
        return {labels.clip_id[r]: f[:n] for b in batches for f, n, r in zip(*b[:2], b.rows, strict=True)}

    many, few = clips(16, 1), clips(1, 1, slice(0, 20))
    assert all(torch.equal(few[clip], many[clip]) for clip in few)
    later = clips(16, 2)
    assert any(not torch.equal(later[clip], many[clip]) for clip in later)
    masked = np.mean([(frames == -7).float().mean() for frames in many.values()])
    assert 0.1 < masked < 0.6


def test_masks_stay_within_their_bounds():
    augment = SpecAugment(time_masks=1, channel_masks=1, max_frames=30, max_share=0.5, max_channels=3)
    for n_frames in (1, 2, 20, 100):
        for seed in range(40):
            frames = np.ones((n_frames, N_CHANNELS), np.float32)
            augment.apply(frames, np.zeros(N_CHANNELS), np.random.default_rng(seed))
            whole_rows, whole_columns = (frames == 0).all(axis=1), (frames == 0).all(axis=0)
            assert whole_columns.sum() <= 3 or whole_rows.all()
            assert whole_rows.sum() <= min(30, n_frames // 2)


def test_each_epoch_takes_one_speed_of_a_clip(store, tmp_path, lengths):
    slow = write_store(tmp_path / "slow", (lengths / 0.9).astype(int), offset=2000)
    fast = write_store(
        tmp_path / "fast", np.where(np.arange(100) == 4, 0, lengths / 1.1).astype(int), offset=4000
    )
    batches = TrainBatches(store, labels_of(100), batch_size=8, seed=0, perturbed={0.9: slow, 1.1: fast})
    versions = np.zeros((12, 100), int)
    for epoch in range(12):
        for batch in batches.epoch(epoch):
            first = batch.frames[:, 0, 0].numpy() - 10 * batch.rows.numpy()
            version = np.rint(first / 2000).astype(int)
            versions[epoch, batch.rows] = version
            factor = np.array([1, 0.9, 1.1])[version]
            assert batch.lengths.tolist() == (lengths[batch.rows] / factor).astype(int).tolist()
    assert (np.bincount(versions.ravel(), minlength=3) / versions.size > 0.28).all()
    assert (versions[:, 4] != 2).all()  # a version without frames
    assert equal(batches.epoch(3), TrainBatches(**_same(batches)).epoch(3))


def _same(batches):
    return {
        "store": batches.stores[0],
        "labels": replace(batches.labels),
        "batch_size": 8,
        "seed": 0,
        "perturbed": {1.1: batches.stores[2], 0.9: batches.stores[1]},
    }
