import json
import tracemalloc
from dataclasses import replace

import numpy as np
import opensmile
import pyarrow.parquet as pq
import pytest
import torch
import torchaudio

from exvo.audio.store import Clip, read_shard, write_shard
from exvo.features.logmel import LogmelConfig, logmel, logmel_shard, logmel_statistics, mel_filters
from exvo.features.opensmile import MIN_SAMPLES, OpensmileConfig, opensmile_functionals, opensmile_shard
from exvo.features.store import (
    FeatureRow,
    read_sequences,
    read_utterances,
    write_frames,
    write_sequences,
    write_utterances,
)


def noise(n, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@pytest.fixture
def shard(tmp_path):
    clips = [
        Clip("a", noise(16000)),
        Clip("b", None, "missing", "no recording raw/b.*"),
        Clip("c", noise(500, 1)),
        Clip("d", np.zeros(8000, np.float32), "silent", "digital silence"),
        Clip("e", noise(24000, 2)),
    ]
    write_shard(tmp_path / "audio.parquet", clips, {}, bits=16)
    return tmp_path / "audio.parquet"


def test_opensmile_is_what_opensmile_gives(shard, tmp_path):
    opensmile_shard(shard, tmp_path / "f.parquet", OpensmileConfig(), n_threads=2)
    (features,) = read_utterances([tmp_path / "f.parquet"], [["a", "b", "c", "d", "e"]])
    extractor = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    audio = {clip.clip_id: clip.audio for clip in read_shard(shard)}
    expected = extractor.process_signal(audio["e"], 16000)
    assert features.values.shape == (5, 6373) and features.names == tuple(expected.columns)
    np.testing.assert_array_equal(features.values[4], expected.to_numpy()[0])
    assert list(features.status) == ["ok", "missing", "padded", "silent", "ok"]
    assert np.isfinite(features.values[[0, 2, 3, 4]]).all() and np.isnan(features.values[1]).all()


@pytest.mark.parametrize("feature_set", ["ComParE_2016", "eGeMAPSv02"])
def test_no_clip_leaves_a_trace_in_the_next_ones(feature_set):
    tone = np.sin(2 * np.pi * 300 / 16000 * np.arange(20000)).astype(np.float32) * 0.9
    signals = [
        noise(48000),
        noise(16000, 1),
        np.zeros(16000, np.float32),
        tone,
        noise(1000, 2),
        tone,
        noise(16000, 1),
    ]
    values, _ = opensmile_functionals(signals, OpensmileConfig(feature_set))
    level = opensmile.FeatureLevel.Functionals
    anew = opensmile.Smile(opensmile.FeatureSet[feature_set], level, sampling_rate=16000)
    np.testing.assert_array_equal(values, [anew(signal, 16000)[0, :, 0] for signal in signals])


def test_a_short_clip_is_lengthened_with_zeros():
    short = noise(500)
    values, _ = opensmile_functionals([short, np.pad(short, (0, MIN_SAMPLES - 500))], OpensmileConfig())
    np.testing.assert_array_equal(values[0], values[1])
    assert np.isfinite(opensmile_functionals([short[:1], short[:0]], OpensmileConfig())[0]).all()


def test_opensmile_of_nothing_keeps_its_columns(tmp_path):
    write_shard(tmp_path / "audio.parquet", [], {}, bits=16)
    opensmile_shard(tmp_path / "audio.parquet", tmp_path / "f.parquet", OpensmileConfig())
    assert len(pq.read_schema(tmp_path / "f.parquet").names) == 6373 + 3


def test_values_that_are_no_numbers_never_reach_a_feature_shard(tmp_path):
    rows = [FeatureRow("a", np.array([1.0, np.nan]), "ok", "")]
    with pytest.raises(ValueError, match="clip a: feature y"):
        write_utterances(tmp_path / "f.parquet", rows, ["x", "y"])


def test_groups_are_read_in_their_own_order_whatever_the_shards(tmp_path):
    for name, ids in (("0", "ac"), ("1", "bd")):
        rows = [FeatureRow(c, np.array([ord(c), 1.0]), "ok", "") for c in ids]
        write_utterances(tmp_path / name, rows, ["x", "y"])
    first, second = read_utterances([tmp_path / "0", tmp_path / "1"], [["d", "a"], ["b"]])
    assert first.values[:, 0].tolist() == [ord("d"), ord("a")] and second.values[:, 0].tolist() == [ord("b")]
    with pytest.raises(ValueError, match="no shard has clip z"):
        read_utterances([tmp_path / "0"], [["a", "z"]])
    write_utterances(tmp_path / "2", [], ["x", "z"])
    with pytest.raises(ValueError, match="its features differ"):
        read_utterances([tmp_path / "0", tmp_path / "2"], [["a"]])


@pytest.mark.parametrize("n", [1, 159, 160, 400, 16000, 12345])
def test_logmel_is_what_torchaudio_gives(n):
    signal = noise(n)
    mel = torchaudio.transforms.MelSpectrogram(
        16000, 512, 400, 160, n_mels=80, mel_scale="slaney", norm=None, pad_mode="constant"
    )(torch.from_numpy(signal))
    expected = np.log(np.maximum(mel.numpy().T, 1e-6))
    found = logmel(signal, LogmelConfig())
    assert found.shape == (1 + n // 160, 80) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_tone_peaks_in_its_channel_at_its_power():
    hz = 2000.0
    tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(16000) / 16000)
    channel = int(logmel(tone, LogmelConfig())[50].argmax())
    filters = mel_filters(16000, 512, 80)
    assert abs(int(filters[:, channel].argmax()) * 16000 / 512 - hz) < 100
    # The window sums to 200, so the line at bin 64 has the power (0.5 / 2 * 200)^2 before the filter's weight.
    power = (0.25 * 200) ** 2
    assert np.exp(logmel(tone, LogmelConfig(n_fft=512))[50]).max() >= power * filters[64].max() * 0.99


def test_no_mel_channel_is_empty_and_each_peaks_at_one():
    filters = mel_filters(16000, 512, 80)
    assert (filters.max(axis=0) > 0.3).all() and filters.max() <= 1.0


def test_silence_is_the_floor_and_no_infinity():
    np.testing.assert_allclose(logmel(np.zeros(1000), LogmelConfig()), np.log(1e-6), rtol=1e-6)
    assert logmel(np.zeros(0), LogmelConfig()).shape == (1, 80)


def test_a_window_longer_than_the_dft_is_refused():
    with pytest.raises(ValueError, match="n_fft"):
        logmel(noise(1000), LogmelConfig(n_fft=256))


def test_sequences_are_found_by_their_index(shard, tmp_path):
    logmel_shard(shard, tmp_path / "l.npy", tmp_path / "l.parquet", LogmelConfig(dtype="float32"))
    frames, index = read_sequences(tmp_path / "l.npy", tmp_path / "l.parquet")
    assert isinstance(frames, np.memmap) and frames.dtype == np.float32
    assert index["clip_id"].to_pylist() == list("abcde")
    assert index["n_frames"].to_pylist() == [101, 0, 4, 51, 151]
    assert index["start"].to_pylist() == [0, 101, 101, 105, 156] and len(frames) == 307
    audio = read_shard(shard)[4].audio
    np.testing.assert_array_equal(frames[156:], logmel(audio, LogmelConfig()))
    assert index["status"].to_pylist()[1] == "missing"


@pytest.mark.parametrize("n_rows", [0, 1, 300])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sequences_are_the_bytes_that_numpy_saves(tmp_path, n_rows, dtype):
    rng = np.random.default_rng(0)
    rows = [
        FeatureRow(f"{n}", None if n % 5 == 2 else rng.normal(size=(n % 90, 3)), "ok", "")
        for n in range(n_rows)
    ]
    # Rows may come one by one, and as views of any order.
    lazy = (
        replace(row, values=row.values if row.values is None else np.asfortranarray(row.values))
        for row in rows
    )
    write_sequences(tmp_path / "l.npy", tmp_path / "l.parquet", lazy, 3, dtype)
    values = [row.values for row in rows if row.values is not None]
    np.save(tmp_path / "saved.npy", np.concatenate([np.zeros((0, 3)), *values]).astype(dtype))
    assert (tmp_path / "l.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()
    assert read_sequences(tmp_path / "l.npy", tmp_path / "l.parquet")[1].num_rows == n_rows


def test_sequences_are_written_in_the_memory_of_a_row(tmp_path):
    def rows():
        for n in range(60):
            yield FeatureRow(f"{n}", np.full((1000, 80), n, np.float32), "ok", "")

    tracemalloc.start()
    write_sequences(tmp_path / "l.npy", tmp_path / "l.parquet", rows(), 80, "float32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 320_000 and (tmp_path / "l.npy").stat().st_size > 60 * 320_000


def test_frames_of_another_width_are_refused_and_leave_no_file(tmp_path):
    rows = [FeatureRow("a", np.zeros((2, 3)), "ok", ""), FeatureRow("b", np.zeros((2, 4)), "ok", "")]
    with pytest.raises(ValueError, match=r"clip b: \(2, 4\) is not \(n_frames, 3\)"):
        write_sequences(tmp_path / "l.npy", tmp_path / "l.parquet", rows, 3, "float16")
    assert list(tmp_path.iterdir()) == []


def test_sequences_refuse_what_the_type_cannot_hold(tmp_path):
    rows = [FeatureRow("a", np.full((2, 3), 1e6), "ok", "")]
    with pytest.raises(ValueError, match="float16"), np.errstate(over="ignore"):
        write_sequences(tmp_path / "l.npy", tmp_path / "l.parquet", rows, 3, "float16")


def test_statistics_are_of_train_only_and_do_not_depend_on_the_shards(tmp_path):
    rng = np.random.default_rng(0)
    rows = [FeatureRow(f"{n}", rng.normal(3, 2, (5 + n, 4)).astype(np.float32), "ok", "") for n in range(9)]
    train = {"1", "2", "5", "8"}

    def statistics(parts):
        shards = []
        for name, part in enumerate(parts):
            paths = tmp_path / f"{len(parts)}-{name}.npy", tmp_path / f"{len(parts)}-{name}.parquet"
            write_sequences(*paths, part, 4, "float32")
            shards.append(paths)
        logmel_statistics(shards, train, tmp_path / "s.json")
        return json.loads((tmp_path / "s.json").read_text())

    whole = statistics([rows])
    assert statistics([rows[::2], rows[1::2]]) == whole
    frames = np.concatenate([row.values for row in rows if row.clip_id in train]).astype(np.float64)
    np.testing.assert_allclose(whole["mean"], frames.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(whole["std"], frames.std(axis=0), rtol=1e-9)
    assert (whole["n_clips"], whole["n_frames"]) == (4, len(frames))
    with pytest.raises(ValueError, match="no Train clip"):
        logmel_statistics([], train, tmp_path / "s.json")


def test_frames_written_in_blocks_are_numpys_own_bytes(tmp_path):
    values = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float16)
    np.save(tmp_path / "numpy.npy", values)
    for blocks in ([values], [values[:20], values[20:20], values[20:]]):
        write_frames(tmp_path / "ours.npy", 50, blocks)
        assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    write_frames(tmp_path / "empty.npy", 0, [values[:0]])
    assert np.load(tmp_path / "empty.npy").shape == (0, 3)


def test_blocks_that_do_not_fit_together_leave_no_file(tmp_path):
    values = np.zeros((4, 3), np.float32)
    for n_rows, blocks in ((5, [values]), (7, [values, values]), (8, [values, values[:, :2]])):
        with pytest.raises(ValueError, match="rows"):
            write_frames(tmp_path / "a.npy", n_rows, blocks)
    with pytest.raises(ValueError, match="rows"):
        write_frames(tmp_path / "a.npy", 8, [values, values.astype(np.float64)])
    assert not list(tmp_path.iterdir())
