"""How a corpus is cut changes no clip: all stages and features of one shard against shards of a few clips each."""

import numpy as np
import pytest
import soundfile

from exvo.audio.convert import ConvertConfig, convert_shard
from exvo.audio.stage_dc import HighpassConfig, dc_shard
from exvo.audio.stage_denoised import DenoiseConfig, denoised_shard
from exvo.audio.stage_vad import VadConfig, vad_shard
from exvo.audio.store import read_shard
from exvo.features.logmel import LogmelConfig, logmel_shard
from exvo.features.opensmile import OpensmileConfig, opensmile_shard
from exvo.features.store import read_sequences, read_utterances

IDS = [f"{n:02d}" for n in range(11)]


def laugh(n):
    """Bursts of a gliding tone with harmonics over noise, of another length and pitch for each ``n``."""
    rng = np.random.default_rng(n)
    time = np.arange(round(16000 * rng.uniform(0.3, 2.5))) / 16000
    pitch = rng.uniform(120, 400) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 4) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * (np.sin(2 * np.pi * 4 * time) > 0)
    return 0.2 * voice + 0.01 * rng.standard_normal(len(time)) + 0.02


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    (root / "raw").mkdir()
    for n, clip_id in enumerate(IDS):
        soundfile.write(root / "raw" / f"{clip_id}.wav", laugh(n), 16000)

    def run(name, ids):
        paths = {
            stage: root / f"{name}-{stage}.parquet"
            for stage in ("raw", "dc", "denoised", "vad", "opensmile", "index")
        }
        convert_shard(root / "raw", {i: f"{i}.wav" for i in ids}, paths["raw"], ConvertConfig(), bits=24)
        dc_shard(paths["raw"], paths["dc"], HighpassConfig())
        denoised_shard(paths["dc"], paths["denoised"], DenoiseConfig())
        vad_shard(paths["denoised"], paths["vad"], VadConfig())
        opensmile_shard(paths["vad"], paths["opensmile"], OpensmileConfig())
        logmel_shard(paths["vad"], root / f"{name}.npy", paths["index"], LogmelConfig())
        return paths | {"frames": root / f"{name}.npy"}

    return run("whole", IDS), [run(f"part{k}", IDS[k::4]) for k in range(4)]


@pytest.mark.parametrize("stage", ["raw", "dc", "denoised", "vad"])
def test_audio_is_the_same_to_the_bit(outputs, stage):
    whole, parts = outputs
    expected = {clip.clip_id: clip for clip in read_shard(whole[stage])}
    found = {clip.clip_id: clip for part in parts for clip in read_shard(part[stage])}
    assert sorted(found) == IDS
    for clip_id, clip in found.items():
        assert clip.status == expected[clip_id].status
        np.testing.assert_array_equal(clip.audio, expected[clip_id].audio)


def test_features_are_the_same_to_the_bit(outputs):
    whole, parts = outputs
    (expected,) = read_utterances([whole["opensmile"]], [IDS])
    (found,) = read_utterances([part["opensmile"] for part in parts], [IDS])
    np.testing.assert_array_equal(found.values, expected.values)
    frames, index = read_sequences(whole["frames"], whole["index"])
    rows = {
        row["clip_id"]: frames[row["start"] : row["start"] + row["n_frames"]] for row in index.to_pylist()
    }
    for part in parts:
        frames, index = read_sequences(part["frames"], part["index"])
        for row in index.to_pylist():
            mine = frames[row["start"] : row["start"] + row["n_frames"]]
            np.testing.assert_array_equal(mine, rows[row["clip_id"]])
