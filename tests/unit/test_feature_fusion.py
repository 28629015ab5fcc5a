"""Feature fusion: utterance embeddings of trained systems, how they are combined, and what a fusion learns."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from exvo.corpus.labels import TASKS, Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.metrics import mae, predicted_class, uar
from exvo.evaluation.predictions import read_predictions
from exvo.features.store import FeatureRow, read_sequences, write_sequences, write_utterances
from exvo.features.vectors import as_shards, feature_vectors, write_vectors
from exvo.hubert.encoder import HubertConfig
from exvo.hubert.fine_tuned_network import FineTunedConfig
from exvo.networks.conformer import ConformerConfig
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.networks.fusion_network import FeatureFusionConfig
from exvo.networks.mlp import MlpConfig
from exvo.systems.feature_fusion import train_feature_fusion
from exvo.systems.load import KINDS, load_system
from exvo.systems.utterance_embeddings import embed, utterance_embeddings_by
from exvo.training.clip_vectors import UtteranceStore
from exvo.training.frames import FrameStore
from exvo.training.predict import predict_arrays, prediction_batches
from exvo.training.storage import save_trained
from exvo.training.train import train_network
from exvo.training.trained import Trained, TrainingConfig
from exvo.training.vectors import VectorStore

COUNTRIES = (Country(0, "Here"), Country(3, "There"))
N_CHANNELS = 12
STATISTICS = {"mean": np.linspace(-1, 1, N_CHANNELS).tolist(), "std": np.linspace(1, 2, N_CHANNELS).tolist()}
ENCODER = HubertConfig(
    frontend="logmel", n_mels=N_CHANNELS // 2, d_model=16, n_heads=2, ffn=8, n_layers=2, positional_kernel=4
)
NETWORKS = {
    "conformer": ConformerNetworkConfig(
        blocks=ConformerConfig(d_model=8, n_heads=2, ffn=8, n_blocks=1, kernel=3, subsampling_channels=2),
        d_attention=4,
        head=4,
    ),
    "embedding": EmbeddingNetworkConfig(n_layers=2, projection=5, d_attention=4, head=4, tasks=TASKS[1:]),
    "fine_tuned": FineTunedConfig(ENCODER, "0" * 64, (0, 2), d_attention=4, head=4),
}


def index_of(path):
    return {row["clip_id"]: row for row in read_sequences(path.with_suffix(".npy"), path)[1].to_pylist()}


def vector(path, clip_id):
    frames, index = read_sequences(path.with_suffix(".npy"), path)
    (row,) = (row for row in index.to_pylist() if row["clip_id"] == clip_id)
    return frames[row["start"] : row["start"] + row["n_frames"]]


@pytest.fixture
def shards(tmp_path):
    """Two shards of frames; the second clip of the first has no audio."""
    rng = np.random.default_rng(0)
    rows = [
        FeatureRow(f"c{i}", None if i == 1 else rng.standard_normal((n, N_CHANNELS)), "ok", "")
        for i, n in enumerate((40, 0, 17, 63, 30))
    ]
    rows[1] = replace(rows[1], status="missing", reason="no file")
    for shard, part in enumerate((rows[:3], rows[3:])):
        paths = (tmp_path / f"{shard}.npy", tmp_path / f"{shard}.parquet")
        write_sequences(*paths, part, N_CHANNELS, "float16")
    # As Snakemake gives them: all frames, then all indices.
    files = [tmp_path / f"{shard}.{ending}" for ending in ("npy", "parquet") for shard in range(2)]
    return as_shards(map(str, files))


def test_frames_become_their_mean_and_sd_and_every_clip_keeps_a_row(shards, tmp_path):
    target = tmp_path / "all.parquet"
    write_vectors(shards, feature_vectors, target.with_suffix(".npy"), target)
    store = FrameStore(shards)
    index = index_of(target)
    assert list(index) == ["c0", "c1", "c2", "c3", "c4"]
    assert (index["c1"]["n_frames"], index["c1"]["status"], index["c1"]["reason"]) == (
        0,
        "missing",
        "no file",
    )
    for clip_id in ("c0", "c2", "c3", "c4"):
        frames = store.frames(store.rows([clip_id])[0]).astype(np.float64)
        centred = frames - frames.sum(axis=0) / len(frames)
        expected = np.concatenate(
            [frames.sum(axis=0) / len(frames), np.sqrt((centred**2).sum(axis=0) / len(frames))]
        )
        np.testing.assert_allclose(vector(target, clip_id)[0], expected, rtol=1e-5, atol=1e-6)


def test_functionals_are_taken_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    rows = [FeatureRow(f"c{i}", rng.standard_normal(3).astype(np.float32), "ok", "") for i in range(4)]
    rows[2] = FeatureRow("c2", None, "unreadable", "noise")
    write_utterances(tmp_path / "0.parquet", rows, "xyz")
    target = tmp_path / "all.parquet"
    write_vectors(as_shards([tmp_path / "0.parquet"]), feature_vectors, target.with_suffix(".npy"), target)
    for row in rows:
        expected = np.empty((0, 3)) if row.values is None else row.values[None]
        np.testing.assert_array_equal(vector(target, row.clip_id), expected)


def test_a_corpus_without_audio_has_nothing_to_represent(tmp_path):
    write_utterances(tmp_path / "0.parquet", [FeatureRow("c", None, "missing", "")], "x")
    with pytest.raises(ValueError, match="no clip has audio"):
        write_vectors(
            as_shards([tmp_path / "0.parquet"]), feature_vectors, tmp_path / "v.npy", tmp_path / "v.parquet"
        )


def by_hand(kind, network, frames):
    """The vectors that each task pools from the frames of one clip: softmax over v tanh(W h)."""
    lengths = torch.tensor([len(frames)])
    x = torch.from_numpy(frames).float()[None]
    if kind == "conformer":
        encoded, decoder = network.encode(x, lengths)[0][0], network.decoder
    else:
        decoder = network.decoder
        if kind == "fine_tuned":
            outputs = network.hubert.layer_outputs(x, lengths, 2)
            x, decoder, network = torch.cat([outputs[0], outputs[2]], dim=2), decoder.decoder, decoder
        encoded = network.layers(x.unflatten(2, (2, -1)))[0]
        if network.projection is not None:
            encoded = torch.relu(network.projection(encoded))
    vectors = []
    for task in decoder.tasks:
        pooling = decoder.poolings[task]
        score = torch.tanh(encoded @ pooling.project.weight.T) @ pooling.score.weight[0]
        vectors.append(torch.softmax(score, dim=0) @ encoded)
    return torch.cat(vectors)


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_embeddings_are_the_vectors_that_the_heads_read_whatever_the_batch(kind, shards, tmp_path):
    config = NETWORKS[kind]
    network = config.network(N_CHANNELS, len(COUNTRIES), STATISTICS, 30.0, 5.0, seed=1).eval()
    trained = Trained(
        network_config=config,
        training_config=TrainingConfig(device="cpu"),
        seed=1,
        countries=COUNTRIES,
        state=network.state_dict(),
        n_channels=N_CHANNELS,
        history=[{"epoch": 1}],
        best_epoch=1,
        priors={},
        n_labelled={},
        untrained=(),
    )
    save_trained(tmp_path / "model", trained)
    target = tmp_path / "pooled.parquet"
    write_vectors(
        shards, utterance_embeddings_by(tmp_path / "model", KINDS), target.with_suffix(".npy"), target
    )
    assert len(vector(target, "c1")) == 0
    by_itself = utterance_embeddings_by(tmp_path / "model", KINDS)
    for shard, ids in ((shards[0], ["c0", "c2"]), (shards[1], ["c3", "c4"])):
        for clip_id in ids:
            np.testing.assert_array_equal(vector(target, clip_id), by_itself(shard, [clip_id]))
    store = FrameStore(shards)
    ids = ["c4", "c0", "c3", "c2"]
    together = torch.from_numpy(embed(network, prediction_batches(store, ids)))
    for row, clip_id in enumerate(ids):
        frames = np.array(store.frames(store.rows([clip_id])[0]), dtype=np.float32)
        expected = by_hand(kind, network, frames)
        np.testing.assert_allclose(vector(target, clip_id)[0], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(together[row], expected, rtol=1e-4, atol=1e-5)
    # The answers of the heads on these vectors are the network's.
    _, age, _ = predict_arrays(trained, store, ids)
    decoder = network.decoder.decoder if kind == "fine_tuned" else network.decoder
    parts = dict(zip(decoder.tasks, together.chunk(len(decoder.tasks), dim=1), strict=True))
    years = decoder.age_mean + decoder.age_std * decoder.heads["age"](parts["age"])[:, 0]
    np.testing.assert_allclose(age, years, rtol=1e-5)


def test_the_organisers_network_gives_its_last_shared_layer(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 5)).astype(np.float32) * 3 + 1
    labels = corpus_of(rng, 6, 3, 3).labels
    rows = [FeatureRow(f"c{i}", v, "ok", "") for i, v in enumerate(values)]
    write_utterances(tmp_path / "0.parquet", rows, "abcde")
    shard = as_shards([tmp_path / "0.parquet"])
    store = VectorStore(shard, labels.clip_id)
    moments, config = store.moments(labels.clip_id), TrainingConfig(max_epochs=1, device="cpu")
    network = MlpConfig(hidden=(7, 4))
    trained = train_network(store, labels, labels, network, config, moments, 0, tmp_path / "s/0")
    save_trained(tmp_path / "model", trained)
    target = tmp_path / "pooled.parquet"
    embeddings = utterance_embeddings_by(tmp_path / "model", KINDS)
    write_vectors(shard, embeddings, target.with_suffix(".npy"), target)
    x = (values.astype(np.float64) - values.mean(axis=0)) / values.std(axis=0)
    state = {name: value.double().numpy() for name, value in trained.state.items()}
    for layer in (0, 3):
        x = x @ state[f"trunk.{layer}.weight"].T + state[f"trunk.{layer}.bias"]
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        x = x * state[f"trunk.{layer + 1}.weight"] + state[f"trunk.{layer + 1}.bias"]
        x = np.where(x > 0, x, 0.01 * x)
    for i in range(6):
        np.testing.assert_allclose(vector(target, f"c{i}")[0], x[i], rtol=1e-3, atol=1e-4)
    write_utterances(tmp_path / "0.parquet", rows, "edcba")
    with pytest.raises(ValueError, match="not those the model was trained on"):
        embeddings(shard[0], ["c0"])


def corpus_of(rng, n, n_train, n_val):
    """Two factors a clip: age is the sum of both, the country whether they have the same sign."""
    split = np.array(["Train"] * n_train + ["Val"] * n_val + ["Test"] * (n - n_train - n_val))
    ids = np.array([f"c{i}" for i in range(n)], dtype=object)
    factors = rng.uniform(-1, 1, (n, 2))
    labels = Labels(
        ids,
        split,
        np.full(n, ""),
        30 + 5 * factors.sum(axis=1),
        (factors.prod(axis=1) > 0).astype(np.int64),
        np.clip(0.5 + 0.2 * factors.sum(axis=1, keepdims=True) + np.zeros((n, 10)), 0, 1),
        COUNTRIES,
    )
    corpus = Corpus(None, ids, labels)
    object.__setattr__(corpus, "factors", factors)
    return corpus


# The two systems lack audio of other clips, one clip is without any; Val has one of each.
GONE = ({3, 250, 252}, {4, 251, 252})
TRAINING = {"max_epochs": 12, "batch_size": 16, "learning_rate": 2e-2, "dropout": 0.05, "device": "cpu"}
FEATURE_FUSION = {"systems": ["a", "b"], "inputs": "embeddings", "tasks": list(TASKS), "training": TRAINING}


@pytest.fixture(scope="module")
def complementary(tmp_path_factory):
    """Vectors of two systems, each of which sees one of the two factors, at scales far apart."""
    folder = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(0)
    corpus = corpus_of(rng, 360, 240, 60)
    files = []
    for i, (gone, scale) in enumerate(zip(GONE, (1000.0, 0.01), strict=True)):
        mixing = rng.standard_normal((1, 6))
        values = scale * (
            corpus.factors[:, [i]] @ mixing + 0.05 * rng.standard_normal((360, 6)) + rng.standard_normal(6)
        )
        values[:, 5] = scale  # constant
        rows = [
            FeatureRow(name, None, "missing", "") if n in gone else FeatureRow(name, v[None], "ok", "")
            for n, (name, v) in enumerate(zip(corpus.labels.clip_id, values, strict=True))
        ]
        # The order of the clips is each system's own.
        files.append((folder / f"{i}.npy", folder / f"{i}.parquet"))
        write_sequences(*files[-1], rows[::-1] if i else rows, 6, "float32")
    return corpus, files


@pytest.fixture(scope="module")
def trained(complementary, tmp_path_factory):
    corpus, files = complementary
    folder = tmp_path_factory.mktemp("feature_fusion")
    train_feature_fusion(files, corpus, FEATURE_FUSION, 0, folder)
    return folder


def test_a_feature_fusion_beats_each_of_two_complementary_systems(complementary, trained, tmp_path):
    corpus, files = complementary
    labels = corpus.labels.take(corpus.labels.split == "Test")
    found = {"both": read_predictions(trained / "test.parquet")}
    for i, pair in enumerate(files):
        train_feature_fusion([pair], corpus, FEATURE_FUSION, 0, tmp_path / f"{i}")
        found[i] = read_predictions(tmp_path / f"{i}/test.parquet")
    error = {name: mae(labels.age, answer.age) for name, answer in found.items()}
    recall = {name: uar(labels.country, predicted_class(answer.country)) for name, answer in found.items()}
    assert error["both"] < 0.5 * min(error[0], error[1]), error
    # No average of answers could tell: either factor alone says nothing of the country.
    assert recall["both"] > 0.9 and max(recall[0], recall[1]) < 0.65, recall


def test_clips_that_a_system_or_all_lack_are_predicted(complementary, trained):
    corpus, _ = complementary
    val = read_predictions(trained / "val.parquet")
    priors = json.loads((trained / "config.json").read_text())["priors"]
    row = {clip_id: place for place, clip_id in enumerate(val.clip_id)}
    train = corpus.labels.take(corpus.labels.split == "Train")
    assert priors["age"] == np.median(train.age)
    assert val.age[row["c252"]] == priors["age"] and val.country[row["c252"]].tolist() == priors["country"]
    for clip_id, factor in (("c250", 1), ("c251", 0)):
        # From the other system alone: half of what there is to know.
        place = int(clip_id[1:])
        expected = 30 + 5 * corpus.factors[place, factor]
        assert abs(val.age[row[clip_id]] - expected) < 2.5 and val.age[row[clip_id]] != priors["age"]


def test_the_same_seed_gives_the_same_bytes(complementary, tmp_path):
    corpus, files = complementary
    short = {**FEATURE_FUSION, "training": {**TRAINING, "max_epochs": 2}}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        train_feature_fusion(files, corpus, short, seed, tmp_path / name)
    contents = {
        name: {file.name: file.read_bytes() for file in (tmp_path / name).iterdir() if file.is_file()}
        for name in ("first", "again", "other")
    }
    assert contents["first"] == contents["again"]
    assert contents["first"]["model.safetensors"] != contents["other"]["model.safetensors"]


def test_files_stand_side_by_side_and_moments_are_of_train_where_there_is_a_vector(complementary):
    corpus, files = complementary
    store = UtteranceStore(files)
    assert store.widths == (6, 6) and store.n_channels == 12
    alone = [FrameStore([pair]) for pair in files]
    row = store.rows(["c7"])[0]
    parts = [part.frames(part.rows(["c7"])[0]) for part in alone]
    np.testing.assert_array_equal(store.frames(row), np.concatenate(parts, axis=1))
    assert np.isnan(store.frames(store.rows(["c3"])[0])[0]).tolist() == [True] * 6 + [False] * 6
    assert store.has_audio(["c3", "c4", "c252"]).tolist() == [True, True, False]
    train = corpus.labels.clip_id[corpus.labels.split == "Train"]
    moments = store.moments(train)
    for i, part in enumerate(alone):
        values = np.concatenate([part.frames(r) for r in part.rows(train)]).astype(np.float64)
        assert len(values) == 239
        columns = slice(6 * i, 6 * i + 5)
        np.testing.assert_allclose(moments["mean"][columns], values.mean(axis=0)[:5], rtol=1e-5)
        np.testing.assert_allclose(moments["std"][columns], values.std(axis=0)[:5], rtol=1e-4)
        assert moments["std"][6 * i + 5] == 0


def network(**options):
    config = FeatureFusionConfig(widths=(2, 3), projection=4, head=5, **options)
    statistics = {"mean": [1.0, 2, 3, 4, 5], "std": [1.0, 2, 1, 0, 2]}
    return config.network(5, 2, statistics, 30.0, 5.0, seed=0)


@torch.no_grad()
def test_the_network_standardises_projects_and_predicts():
    net = network(max_sd=3).eval()
    vectors = torch.tensor([[[2.0, 2, 3, 99, 1000]], [[1.0, 0, 2, 4, 5]]])
    standard = torch.tensor([[1.0, 0, 0, 0, 3], [0, -1, -1, 0, 0]])
    parts = [
        torch.relu(part @ layer.weight.T + layer.bias)
        for part, layer in zip((standard[:, :2], standard[:, 2:]), net.projections, strict=True)
    ]
    hidden = torch.cat(parts, dim=1)
    outputs = net(vectors, torch.ones(2, dtype=torch.int64))
    torch.testing.assert_close(outputs["age"], 30 + 5 * net.decoder.heads["age"](hidden)[:, 0])
    torch.testing.assert_close(outputs["country"], net.decoder.heads["country"](hidden))
    # Without its second system, nothing is left of that one.
    vectors[0, 0, 2:] = torch.nan
    hidden[0, 4:] = 0
    outputs = net(vectors, torch.ones(2, dtype=torch.int64))
    torch.testing.assert_close(outputs["country"], net.decoder.heads["country"](hidden))


@torch.no_grad()
def test_in_training_a_clip_may_lose_a_system_but_never_all():
    net = network(system_dropout=0.5).train()
    vectors = torch.ones(4000, 5)
    vectors[:1000, :2] = torch.nan
    read = net._systems_read(vectors)
    assert read.any(dim=1).all() and not read[:1000, 0].any() and read[:1000, 1].all()
    # Of four outcomes at one half, that without any counts as that with both.
    share = read[1000:].float().mean(dim=0)
    assert (share - 0.75).abs().max() < 0.03
    assert net.eval()._systems_read(vectors)[1000:].all()


def test_vectors_of_another_width_are_refused(complementary, trained):
    corpus, files = complementary
    model = load_system(trained)
    with pytest.raises(ValueError, match="6 channels"):
        predict_arrays(model, UtteranceStore(files[:1]), ["c0"])
    with pytest.raises(ValueError, match="encoder feature_fusion has no key depth"):
        train_feature_fusion(files, corpus, {**FEATURE_FUSION, "training": {"depth": 3}}, 0, trained)
