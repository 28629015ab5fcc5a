import io
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from exvo.audio import store
from exvo.audio.store import Clip, decode, encode, iter_shard, read_shard, transform_shard, write_shard


def noise(n, seed=0):
    return (np.random.default_rng(seed).uniform(-1, 1, n)).astype(np.float32)


@pytest.mark.parametrize("bits", [16, 24])
def test_audio_survives_to_half_a_step(bits):
    audio = noise(5000)
    assert np.abs(decode(encode(audio, "x", bits)) - audio).max() <= 0.5 / 2 ** (bits - 1) + 1e-7


def test_sixteen_bits_are_bit_exact():
    audio = (np.random.default_rng(1).integers(-(2**15), 2**15, 3000) / 2**15).astype(np.float32)
    np.testing.assert_array_equal(decode(encode(audio, "x", 16)), audio)


def test_full_scale_is_written_and_beyond_it_is_refused():
    assert decode(encode(np.array([1.0, -1.0], np.float32), "x", 16)).tolist() == [1 - 2**-15, -1.0]
    for wrong in (1.001, -1.001, np.nan, np.inf):
        with pytest.raises(ValueError, match="clip x"):
            encode(np.array([0.0, wrong], np.float32), "x", 16)


def test_the_flac_is_one_that_other_programs_read():
    data = encode(noise(1234), "x", 16)
    info = soundfile.info(io.BytesIO(data))
    assert (info.format, info.subtype, info.samplerate, info.channels, info.frames) == (
        "FLAC",
        "PCM_16",
        16000,
        1,
        1234,
    )


def test_clips_can_be_read_in_the_memory_of_a_few(tmp_path):
    # A steady tone: its FLAC is small, so that what is decoded is what weighs.
    tone = (0.5 * np.sin(np.arange(80_000))).astype(np.float32)
    clips = [Clip(f"{n:03d}", tone if n % 9 else None, "ok" if n % 9 else "missing") for n in range(100)]
    write_shard(tmp_path / "s.parquet", clips, {}, bits=16)
    tracemalloc.start()
    found = [(clip.clip_id, clip.status, clip.audio is None) for clip in iter_shard(tmp_path / "s.parquet")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [(clip.clip_id, clip.status, clip.audio is None) for clip in clips]
    assert peak < 0.5 * len(clips) * tone.nbytes


def test_every_clip_keeps_its_row(tmp_path):
    clips = [
        Clip("a", noise(100), measures={"gain": 1.5}),
        Clip("b", None, store.MISSING, "no recording raw/b.*"),
        Clip("c", noise(50), store.SILENT, "digital silence", {"gain": float("nan")}),
    ]
    write_shard(tmp_path / "s.parquet", clips, {"gain": pa.float64()}, bits=16)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table["clip_id"].to_pylist() == ["a", "b", "c"]
    assert table["n_samples"].to_pylist() == [100, 0, 50]
    assert table["status"].to_pylist() == ["ok", "missing", "silent"]
    assert table["gain"].to_pylist() == [1.5, None, None]
    assert table["audio"][1].as_py() is None and table["audio"][0].as_py()["path"] == "a.flac"
    back = read_shard(tmp_path / "s.parquet")
    assert [clip.status for clip in back] == ["ok", "missing", "silent"] and back[1].audio is None


def test_audio_beyond_what_one_array_holds_is_in_several(tmp_path, monkeypatch):
    clips = [Clip(name, None if name == "c" else noise(1000, seed)) for seed, name in enumerate("abcdef")]
    write_shard(tmp_path / "one.parquet", clips, {}, bits=16)
    two_clips = 2 * max(len(encode(clip.audio, "", 16)) for clip in clips if clip.audio is not None)
    monkeypatch.setattr(store, "_BATCH_BYTES", two_clips)
    n_rows = []
    batch_of = store._batch
    monkeypatch.setattr(store, "_batch", lambda of, *rest: (n_rows.append(len(of)), batch_of(of, *rest))[1])
    write_shard(tmp_path / "several.parquet", clips, {}, bits=16)
    assert n_rows == [3, 2, 1]
    one, several = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "several"))
    assert several.equals(one)


def test_the_layout_is_that_of_hugging_face_datasets(tmp_path):
    write_shard(tmp_path / "s.parquet", [Clip("a", noise(10))], {"gain": pa.float64()}, bits=16)
    schema = pq.read_schema(tmp_path / "s.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["audio"] == {"sampling_rate": 16000, "_type": "Audio"}
    assert list(features) == schema.names
    assert features["gain"] == {"dtype": "float64", "_type": "Value"}
    assert schema.field("audio").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_a_shard_without_clips_has_all_columns(tmp_path):
    write_shard(tmp_path / "s.parquet", [], {"gain": pa.float64()}, bits=16)
    assert read_shard(tmp_path / "s.parquet") == []
    assert "gain" in pq.read_schema(tmp_path / "s.parquet").names


def test_a_stage_passes_clips_without_audio_on(tmp_path):
    clips = [Clip("a", noise(10)), Clip("b", None, store.EMPTY, "nothing in it"), Clip("c", noise(20))]
    write_shard(tmp_path / "s.parquet", clips, {}, bits=16)
    seen = []

    def halve(given):
        seen.extend(clip.clip_id for clip in given)
        return [Clip(clip.clip_id, clip.audio / 2, clip.status, clip.reason) for clip in given]

    transform_shard(tmp_path / "s.parquet", tmp_path / "t.parquet", halve, {})
    after = read_shard(tmp_path / "t.parquet")
    assert seen == ["a", "c"]
    assert [(clip.clip_id, clip.status, clip.reason) for clip in after][1] == ("b", "empty", "nothing in it")
    np.testing.assert_allclose(after[2].audio, clips[2].audio / 2, atol=2**-15)


def test_the_first_flag_stays_and_reasons_add_up():
    clip = Clip("a", noise(10)).flagged("truncated", "too long").flagged("no_voice", "no voice found")
    assert (clip.status, clip.reason) == ("truncated", "too long; no voice found")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "s.parquet"
    write_shard(path, [Clip("a", noise(10))], {}, bits=16)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="exceed full scale"):
        write_shard(path, [Clip("a", 2 * np.ones(3, np.float32))], {}, bits=16)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
