"""HuBERT embeddings of a shard: every clip has its row, as by itself."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.torch import save_file

from exvo.audio.store import Clip, read_shard, write_shard
from exvo.features.store import read_sequences
from exvo.hubert import checkpoint_files as hubert_files
from exvo.hubert.embeddings import Embedder, EmbeddingConfig, embed_shard
from exvo.hubert.encoder import HubertConfig, build_hubert, hidden_states

SMALL = HubertConfig(
    frontend="logmel", n_mels=20, d_model=32, n_heads=4, ffn=48, n_layers=3, positional_kernel=16
)
LENGTHS = {"a": 16000, "b": 160000, "c": 100, "e": 7001}


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    save_file(build_hubert(SMALL, seed=1).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(SMALL)))
    return folder


@pytest.fixture
def audio(tmp_path):
    rng = np.random.default_rng(0)
    clips = [Clip(name, (0.1 * rng.standard_normal(n)).astype(np.float32)) for name, n in LENGTHS.items()]
    clips.insert(3, Clip("d", None, "unreadable", "no stream"))
    write_shard(tmp_path / "audio.parquet", clips, {}, bits=16)
    return tmp_path / "audio.parquet"


def embedded(folder, audio, checkpoint, **options):
    config = EmbeddingConfig(source="checkpoint", checkpoint=str(checkpoint), device="cpu", **options)
    paths = folder / "frames.npy", folder / "index.parquet"
    embed_shard(audio, *paths, config)
    frames, index = read_sequences(*paths)
    rows = index.to_pylist()
    return {row["clip_id"]: frames[row["start"] : row["start"] + row["n_frames"]] for row in rows}, rows


@pytest.mark.parametrize("layers", [None, (1,), (0, 3)])
def test_every_clip_has_the_frames_of_the_clip_alone(tmp_path, audio, checkpoint, layers):
    found, rows = embedded(tmp_path, audio, checkpoint, layers=layers, dtype="float32")
    model = build_hubert(SMALL, seed=1)
    for clip in read_shard(audio):
        if clip.audio is None:
            continue
        alone = hidden_states(model, [clip.audio], layers or (3,))[0]
        # Channels are layer after layer.
        np.testing.assert_allclose(found[clip.clip_id], np.concatenate(list(alone), axis=1), atol=1e-4)
    assert [row["clip_id"] for row in rows] == list("abcde")
    assert [row["status"] for row in rows] == ["ok", "ok", "padded", "unreadable", "ok"]
    assert len(found["d"]) == 0 and "400" in rows[2]["reason"] and rows[3]["reason"] == "no stream"


def test_frames_are_stored_in_the_type_that_is_asked_for(tmp_path, audio, checkpoint):
    half, _ = embedded(tmp_path, audio, checkpoint)
    whole, _ = embedded(tmp_path, audio, checkpoint, dtype="float32")
    assert half["a"].dtype == np.float16
    np.testing.assert_array_equal(half["a"], whole["a"].astype(np.float16))


def test_bfloat16_is_near_float32_and_not_the_same(tmp_path, audio, checkpoint):
    exact, _ = embedded(tmp_path, audio, checkpoint, dtype="float32")
    rough, _ = embedded(tmp_path, audio, checkpoint, dtype="float32", precision="bf16")
    error = np.abs(exact["b"] - rough["b"]).mean() / np.abs(exact["b"]).mean()
    assert 1e-4 < error < 0.03


def test_a_shard_without_audio_has_no_frames(tmp_path, checkpoint):
    write_shard(tmp_path / "none.parquet", [Clip("d", None, "missing", "gone")], {}, bits=16)
    found, rows = embedded(tmp_path, tmp_path / "none.parquet", checkpoint, layers=(1, 2))
    assert found["d"].shape == (0, 64) and rows[0]["status"] == "missing"


@pytest.mark.parametrize("layers", [None, "frontend"])
def test_no_more_clips_are_held_than_go_through_the_encoder_at_once(checkpoint, layers):
    options = {"source": "checkpoint", "checkpoint": str(checkpoint), "device": "cpu", "layers": layers}
    # Of a second each, 50 frames: four in a pack.
    embedder = Embedder(EmbeddingConfig(max_batch_frames=200, **options))
    taken = []

    def clips():
        rng = np.random.default_rng(0)
        for n in range(20):
            taken.append(n)
            audio = None if n % 7 == 3 else (0.1 * rng.standard_normal(16000)).astype(np.float32)
            yield Clip(f"{n:02d}", audio)

    ahead = []
    for n, row in enumerate(embedder.rows(clips())):
        assert row.clip_id == f"{n:02d}" and (row.values is None) == (n % 7 == 3)
        ahead.append(len(taken) - n)
    # Those of a pack, the one that is too many for it, and one without audio.
    assert len(ahead) == 20 and max(ahead) <= (6 if layers is None else 2)


def test_the_bundled_encoder_is_found_by_its_name(tmp_path, audio, checkpoint, monkeypatch):
    monkeypatch.setattr(hubert_files, "BUNDLED", checkpoint)
    pin = hubert_files.file_sha256(checkpoint / "model.safetensors")
    monkeypatch.setattr(hubert_files, "BUNDLED_SHA256", pin)
    paths = tmp_path / "bundled.npy", tmp_path / "bundled.parquet"
    embed_shard(audio, *paths, EmbeddingConfig(device="cpu"))
    found, _ = embedded(tmp_path, audio, checkpoint)
    np.testing.assert_array_equal(read_sequences(*paths)[0][:50], found["a"])
