"""Every kind of writer on a disk that fills up, at whichever of its files, or that may only be read."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_disk import small_disk

from exvo.audio.highpass import HighpassConfig
from exvo.audio.quality import summarise_quality
from exvo.audio.store import Clip, write_shard
from exvo.corpus.labels import Country, Labels
from exvo.evaluation.predictions import Predictions
from exvo.features.store import FeatureRow, write_sequences, write_utterances
from exvo.features.vectors import as_shards, write_vectors
from exvo.networks.conformer import ConformerConfig
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.networks.mlp import MlpConfig
from exvo.pretraining.clusters import ClusterConfig, Clusters, save_clusters
from exvo.report.figures.highpass import plot_highpass_response
from exvo.training.results import write_results
from exvo.training.storage import save_trained
from exvo.training.trained import Trained, TrainingConfig

N_CLIPS = 200
IDS = [f"c{i:03d}" for i in range(N_CLIPS)]
COUNTRIES = (Country(0, "Here"), Country(3, "There"))


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def audio(folder, made_run):
    sounds = random(N_CLIPS, 400) / 10
    write_shard(folder / "0000.parquet", [Clip(*pair) for pair in zip(IDS, sounds, strict=True)], {}, bits=16)


def functionals(folder, made_run):
    names = [f"f{i}" for i in range(100)]
    rows = [
        FeatureRow(name, values, "ok", "") for name, values in zip(IDS, random(N_CLIPS, 100), strict=True)
    ]
    write_utterances(folder / "0000.parquet", rows, names)


def frames(folder, made_run):
    rows = [FeatureRow(name, v, "ok", "") for name, v in zip(IDS, random(N_CLIPS, 10, 20), strict=True)]
    write_sequences(folder / "0000.npy", folder / "0000.parquet", rows, 20, "float16")


def vectors(folder, made_run):
    functionals(made_run.root, made_run)
    shard = as_shards([made_run.root / "0000.parquet"])
    write_vectors(shard, lambda _, ids: random(len(ids), 100), folder / "v.npy", folder / "v.parquet")


def labels_of(split):
    n = len(split)
    return Labels(
        np.array(IDS[:n], dtype=object),
        np.array(split),
        np.full(n, ""),
        np.linspace(20, 40, n),
        np.arange(n) % 2,
        np.full((n, 10), 0.5),
        COUNTRIES,
    )


def network_of_functionals(folder, made_run):
    config = MlpConfig(hidden=(64, 32))
    network = config.network(30, 2, {"mean": [0.0] * 30, "std": [1.0] * 30}, 30.0, 5.0, seed=1)
    save_trained(folder, trained_of(config, network, 30, [{"epoch": 1, "loss": 0.5}]))


def network_of_frames(folder, made_run):
    torch.manual_seed(0)
    conformer = ConformerConfig(d_model=16, n_heads=2, ffn=16, n_blocks=1, kernel=3, subsampling_channels=2)
    config = ConformerNetworkConfig(blocks=conformer, d_attention=4, head=4)
    network = config.network(12, 2, {"mean": [0.0] * 12, "std": [1.0] * 12}, 30.0, 5.0, seed=1)
    history = [{"epoch": epoch, "loss": 0.5} for epoch in range(300)]
    trained = trained_of(config, network, 12, history)
    save_trained(folder, replace(trained, strf_history={"rate": random(301, 4)}))


def trained_of(config, network, n_channels, history):
    return Trained(
        network_config=config,
        training_config=TrainingConfig(device="cpu"),
        seed=1,
        countries=COUNTRIES,
        state=network.state_dict(),
        n_channels=n_channels,
        history=history,
        best_epoch=1,
        priors={},
        n_labelled={},
        untrained=(),
    )


def answers(folder, made_run):
    folder.mkdir(exist_ok=True)
    half = N_CLIPS // 2
    values = np.abs(random(N_CLIPS, 13)).astype(np.float64)
    emotion, country = values[:, 3:].clip(0, 1), values[:, :2] / values[:, :2].sum(axis=1, keepdims=True)
    predictions = Predictions(np.array(IDS, dtype=object), 30 + values[:, 2], country, emotion, (0, 3))
    write_results(folder, labels_of(["Val"] * half + ["Test"] * half), predictions, best_epoch=1, n_epochs=1)


def clusters(folder, made_run):
    fitted = Clusters(random(50, 39), random(39), random(39), ClusterConfig(50), 0, {"n_clips": 1})
    save_clusters(folder / "clusters.safetensors", fitted)


def quality(folder, made_run):
    summarise_quality(made_run.audio, made_run.corpus.labels, folder / "clips.parquet", folder / "summary.md")


def figure(folder, made_run):
    plot_highpass_response(HighpassConfig(), 16_000, folder / "highpass.png")


def outcome(folder, made_run):
    made_run.write_outcome(folder)


def report(folder, made_run):
    made_run.write(folder / "report.html")


WRITERS = (
    audio,
    functionals,
    frames,
    vectors,
    network_of_functionals,
    network_of_frames,
    answers,
    clusters,
    quality,
    figure,
    outcome,
    report,
)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def complaint(write, *arguments):
    """Return the words of the error with which a writer ends, and of those that it came from."""
    try:
        write(*arguments)
    except Exception as error:
        words = []
        while error is not None:
            words.append(str(error))
            error = error.__cause__ or error.__context__
        return " ".join(words)
    return ""


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_disk_that_is_full_or_read_only_is_reported_and_leaves_whole_files(write, made_run, tmp_path):
    """Whichever file finds the disk full; a second try with more room ends as if nothing had been."""
    write(tmp_path / "undisturbed", made_run)
    expected = contents(tmp_path / "undisturbed")
    pages = sum(-(-len(content) // 4096) for content in expected.values())
    (tmp_path / "small").mkdir()
    left = set()
    with small_disk(tmp_path / "small", f"{4 * pages + 400}k") as disk:
        folder = disk.folder / "results"
        folder.mkdir()
        # What else is on the disk leaves room for a part of the files, and of the last of them.
        several = {0, pages // 4, pages // 2, pages - 2}
        for n_free in sorted({pages - 1} | (several if len(expected) > 1 else set())):
            (disk.folder / "other").write_bytes(bytes(4096 * (pages + 100 - n_free)))
            assert "No space left on device" in complaint(write, folder, made_run)
            found = contents(folder)
            assert found == {path: expected[path] for path in found} and len(found) < len(expected)
            left.add(len(found))
            (disk.folder / "other").unlink()
        disk.remount("ro")
        assert "Read-only file system" in complaint(write, folder, made_run)
        assert contents(folder) == found
        disk.remount("rw")
        write(folder, made_run)
        assert contents(folder) == expected
    assert 0 in left and (len(expected) == 1 or max(left) > 0)


WRITE = """
import sys
from pathlib import Path
import numpy as np
from exvo.features.store import FeatureRow, write_utterances
from exvo.features.vectors import write_vectors
folder, n_shards = Path(sys.argv[1]), int(sys.argv[2])
shards = [(folder / f"{i}.parquet",) for i in range(n_shards)]
for i, (path,) in enumerate(shards):
    write_utterances(path, [FeatureRow(f"{i}-{j}", np.ones(1), "ok", "") for j in range(100)], ["f"])
write_vectors(shards, lambda _, ids: np.ones((len(ids), 25_000), np.float32), folder / "v.npy", folder / "v.parquet")
# Not getrusage, whose maximum is the parent's where that was larger.
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def test_memory_is_that_of_a_shard_and_not_of_all_vectors(tmp_path):
    def megabytes(n_shards):
        folder = tmp_path / str(n_shards)
        folder.mkdir()
        command = [sys.executable, "-c", WRITE, folder, str(n_shards)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # 10 MB a shard: 180 MB more on disk.
    assert megabytes(20) - megabytes(2) < 30
    assert Path(tmp_path, "20/v.npy").stat().st_size > 200e6
