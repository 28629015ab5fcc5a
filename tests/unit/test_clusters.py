"""Targets of masked prediction: their vectors, their clusters, and where in time they stand."""

import json

import numpy as np
import pytest
import scipy.fft

from exvo.audio.store import Clip, write_shard
from exvo.features.logmel import LogmelConfig, logmel
from exvo.features.mfcc import deltas, mfcc
from exvo.features.store import FeatureRow, read_sequences, write_sequences
from exvo.features.waveform import waveform_shard
from exvo.hubert.encoder import HubertConfig, build_hubert, hidden_states
from exvo.pretraining.batches import MaskConfig, MaskedClips, encoder_frames
from exvo.pretraining.cluster_inputs import HiddenInputs, MfccInputs, TeacherInputs
from exvo.pretraining.clusters import (
    ClusterConfig,
    fit_clusters,
    label_shard,
    load_clusters,
    save_clusters,
    usage,
)
from exvo.training.frames import FrameStore

SMALL = {
    "d_model": 16,
    "n_heads": 2,
    "ffn": 32,
    "n_layers": 2,
    "positional_kernel": 8,
    "positional_groups": 2,
}


def store_of(folder, clips, name="frames", dtype="float32"):
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / f"{name}.npy", folder / f"{name}.parquet")
    rows = [FeatureRow(clip_id, values, "ok", "") for clip_id, values in clips.items()]
    write_sequences(*paths, rows, next(iter(clips.values())).shape[1], dtype)
    return FrameStore([paths])


def tone(seconds, hz, rate=16_000):
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def test_cepstra_are_the_lifted_dct_of_pairs_of_frames():
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((7, 80)).astype(np.float32)
    found = mfcc(frames)
    assert found.shape == (3, 39)
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    expected = scipy.fft.dct(frames[2:4].mean(axis=0), norm="ortho")[:13] * lifter
    np.testing.assert_allclose(found[1, :13], expected, rtol=1e-4, atol=1e-4)


def test_slope_of_a_line_is_constant_away_from_the_ends():
    line = np.stack([3.0 * np.arange(9), -0.5 * np.arange(9)], axis=1)
    np.testing.assert_allclose(deltas(line)[2:-2], np.tile([3.0, -0.5], (5, 1)))
    np.testing.assert_allclose(deltas(np.ones((1, 2))), 0)


@pytest.mark.parametrize("switch_ms", [600, 700])
def test_labels_switch_when_the_tone_does(tmp_path, switch_ms):
    audio = np.concatenate([tone(switch_ms / 1000, 300), tone(1 - switch_ms / 1000, 2500)])
    clips = {"a": logmel(audio, LogmelConfig()), "b": logmel(audio[::-1], LogmelConfig())}
    inputs = MfccInputs(store_of(tmp_path, clips))
    clusters = fit_clusters(inputs, ["a", "b"], ClusterConfig(k=2), seed=0)
    labels = {clip: clusters.labels(frames) for clip, frames in inputs.frames(["a", "b"])}
    frame = switch_ms // 20
    first, second = labels["a"][10], labels["a"][-10]
    assert first != second
    # Windows and slopes see the switch from up to 42 ms away.
    assert (labels["a"][: frame - 2] == first).all() and (labels["a"][frame + 2 :] == second).all()
    assert (labels["b"][: 50 - frame - 2] == second).all() and (labels["b"][50 - frame + 2 :] == first).all()
    assert len(labels["a"]) == len(clips["a"]) // 2 == 50


@pytest.mark.parametrize("standardise", [False, True])
def test_labels_are_the_nearest_centroids(tmp_path, standardise):
    rng = np.random.default_rng(1)
    # Far from zero, and dimensions of very different sizes.
    scales = np.array([1, 10, 100, 0.1])
    clips = {f"c{i}": (500 + scales * rng.standard_normal((40, 4))).astype(np.float32) for i in range(20)}
    logmels = store_of(tmp_path, {clip: np.zeros((80, 3)) for clip in clips}, "logmel")
    inputs = TeacherInputs(store_of(tmp_path, clips), logmels, frame_ms=20, first_ms=5)
    clusters = fit_clusters(inputs, list(clips), ClusterConfig(k=12, standardise=standardise), seed=3)
    values = np.concatenate(list(clips.values())).astype(np.float64)
    distance = np.square(
        ((values - clusters.mean) / clusters.scale)[:, None] - clusters.centroids.astype(np.float64)
    ).sum(axis=2)
    np.testing.assert_array_equal(
        np.concatenate([clusters.labels(frames) for _, frames in inputs.frames(clips)]),
        distance.argmin(axis=1),
    )
    report = clusters.report
    assert report["inertia"] == pytest.approx(distance.min(axis=1).mean(), rel=1e-4)
    assert report["n_frames"] == 800 and report["n_clips"] == 20
    variance = np.square((values - values.mean(axis=0)) / clusters.scale).sum(axis=1).mean()
    assert report["explained"] == pytest.approx(1 - report["inertia"] / variance, rel=1e-3)
    np.testing.assert_allclose(clusters.scale, values.std(axis=0) if standardise else 1, rtol=1e-4)
    # Centroids are where the mass is: a step of k-means would barely move them.
    labels = distance.argmin(axis=1)
    assert len(np.unique(labels)) == 12 and report["explained"] > (0.4 if standardise else 0.9)


def test_usage_counts_even_clusters():
    assert usage(np.array([5, 5, 5, 5]))["perplexity"] == pytest.approx(4)
    assert usage(np.array([9, 0, 9])) == {"perplexity": pytest.approx(2), "unused": 1}


def test_fit_does_not_depend_on_the_order_of_the_clips_and_is_stored_whole(tmp_path):
    rng = np.random.default_rng(2)
    clips = {f"c{i}": rng.standard_normal((60, 20)) for i in range(9)}
    inputs = MfccInputs(store_of(tmp_path, clips))
    config = ClusterConfig(k=8, n_frames=150)
    first = fit_clusters(inputs, list(clips), config, seed=0)
    again = fit_clusters(inputs, list(clips)[::-1], config, seed=0)
    np.testing.assert_array_equal(first.centroids, again.centroids)
    assert first.report["n_frames"] == 150 and first.report["n_clips"] == 5
    assert not np.array_equal(first.mean, fit_clusters(inputs, list(clips), config, seed=1).mean)
    save_clusters(tmp_path / "c.safetensors", first)
    loaded = load_clusters(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(loaded.centroids, first.centroids)
    assert (loaded.config, loaded.report) == (config, first.report)
    assert json.loads((tmp_path / "c.json").read_text())["report"] == dict(first.report)
    with pytest.raises(ValueError, match="30 frames in 1 clips are fewer than k"):
        fit_clusters(inputs, ["c0"], ClusterConfig(k=31), seed=0)


def test_label_shard_has_the_layout_of_features(tmp_path):
    rng = np.random.default_rng(2)
    clips = {f"c{i}": rng.standard_normal((20 + i, 20)) for i in range(4)}
    inputs = MfccInputs(store_of(tmp_path, clips))
    clusters = fit_clusters(inputs, list(clips), ClusterConfig(k=4), seed=0)
    paths = (tmp_path / "l.npy", tmp_path / "l.parquet")
    label_shard(clusters, inputs, ["c1", "c3"], *paths)
    labels, index = read_sequences(*paths)
    assert labels.dtype == np.int16 and index["clip_id"].to_pylist() == ["c1", "c3"]
    assert index["n_frames"].to_pylist() == [10, 11]
    store = FrameStore([paths])
    expected = clusters.labels(mfcc(clips["c3"].astype(np.float32)))
    np.testing.assert_array_equal(store.frames(store.rows(["c3"])[0])[:, 0], expected)


@pytest.mark.parametrize(
    ("frame_ms", "first_ms", "expected"),
    [
        (20, 5, [0, 1, 2, 3, 4, 5]),
        (40, 15, [0, 0, 1, 1, 2, 2]),  # two frames of 20 ms under each of 40
        (10, 0, [1, 3, 5, 7, 9, 11]),  # between two of 10 ms: the later
    ],
)
def test_teacher_is_read_at_the_nearest_frame(tmp_path, frame_ms, first_ms, expected):
    n_teacher = 120 // frame_ms
    teacher = store_of(tmp_path, {"a": np.arange(float(n_teacher))[:, None]}, "teacher")
    logmels = store_of(tmp_path, {"a": np.zeros((13, 2))}, "logmel")
    (_, frames), *_ = TeacherInputs(teacher, logmels, frame_ms, first_ms).frames(["a"])
    np.testing.assert_array_equal(frames[:, 0], expected)


def test_teacher_of_another_rate_is_refused(tmp_path):
    teacher = store_of(tmp_path, {"a": np.zeros((50, 1))}, "teacher")
    logmels = store_of(tmp_path, {"a": np.zeros((200, 2))}, "logmel")
    with pytest.raises(
        ValueError, match="clip a: its duration is 2000 ms, but the teacher's frames last 1000 ms"
    ):
        list(TeacherInputs(teacher, logmels, frame_ms=20).frames(["a"]))


@pytest.mark.parametrize("frontend", ["logmel", "conv"])
def test_hidden_layer_is_that_of_the_encoder_itself(tmp_path, frontend):
    rng = np.random.default_rng(4)
    audio = {f"c{i}": rng.uniform(-0.5, 0.5, 4000 + 700 * i) for i in range(3)}
    encoder = build_hubert(HubertConfig(frontend=frontend, conv_channels=8, **SMALL))
    if frontend == "logmel":
        store = store_of(tmp_path, {c: logmel(a, LogmelConfig()) for c, a in audio.items()})
    else:
        clips = [Clip(clip_id, samples.astype(np.float32)) for clip_id, samples in audio.items()]
        write_shard(tmp_path / "a.parquet", [*clips, Clip("gone", None, "missing", "no file")], {}, bits=24)
        paths = (tmp_path / "w.npy", tmp_path / "w.parquet")
        waveform_shard(tmp_path / "a.parquet", *paths)
        store = FrameStore([paths])
        np.testing.assert_allclose(
            store.frames(store.rows(["c1"])[0])[:, 0] / 2**15, audio["c1"], atol=0.51 / 2**15
        )
        assert not store.has_audio(["gone"])[0]
    found = dict(HiddenInputs(encoder, store, 2).frames(audio))
    for clip_id, (expected,) in zip(audio, hidden_states(encoder, list(audio.values()), [2]), strict=True):
        assert len(found[clip_id]) == len(logmel(audio[clip_id], LogmelConfig())) // 2
        # A frame that convolutions lack is that before it.
        np.testing.assert_array_equal(found[clip_id][len(expected) :], found[clip_id][len(expected) - 1 : -1])
        found[clip_id] = found[clip_id][: len(expected)]
        np.testing.assert_allclose(found[clip_id], expected, atol=2e-3 if frontend == "conv" else 1e-4)
    assert encoder.training
    with pytest.raises(ValueError, match="layer: 3 is not one of 0 to 2"):
        HiddenInputs(encoder, store, 3)


def test_clusters_of_an_encoder_with_convolutions_label_every_frame_of_one_on_log_mel(tmp_path):
    lengths = [160, 399, 400, 479, 480, 719, 720, 799, 800, 1039, 1040, 3999, 4000, 9999, 16_000]
    rng = np.random.default_rng(5)
    audio = {f"c{n:05d}": rng.uniform(-0.5, 0.5, n).astype(np.float32) for n in lengths}
    write_shard(tmp_path / "a.parquet", [Clip(*clip) for clip in audio.items()], {}, bits=24)
    waves, labels = ((tmp_path / f"{name}.npy", tmp_path / f"{name}.parquet") for name in ("waves", "labels"))
    waveform_shard(tmp_path / "a.parquet", *waves)
    inputs = HiddenInputs(
        build_hubert(HubertConfig(frontend="conv", conv_channels=8, **SMALL)), FrameStore([waves]), 2
    )
    clusters = fit_clusters(inputs, list(audio), ClusterConfig(k=4), seed=0)
    label_shard(clusters, inputs, audio, *labels)
    logmels = store_of(tmp_path, {c: logmel(a, LogmelConfig()) for c, a in audio.items()}, "logmel")
    n_frames = {kind: encoder_frames(store, list(audio), kind) for kind, store in
                (("logmel", logmels), ("conv", FrameStore([waves])))}  # fmt: skip
    n_labels = FrameStore([labels]).n_frames
    np.testing.assert_array_equal(n_labels, n_frames["logmel"])
    lacking = n_frames["logmel"] - n_frames["conv"]
    assert set(lacking.tolist()) == {0, 1} and (n_labels >= n_frames["conv"]).all()
    long = [clip for clip, n in zip(audio, n_frames["logmel"], strict=True) if n >= 2]
    options = {"mask": MaskConfig(), "seed": 0, "max_batch_frames": 100}
    assert (
        len(MaskedClips(logmels, [FrameStore([labels])], long, frontend="logmel", **options))
        == len(long)
        == 11
    )
