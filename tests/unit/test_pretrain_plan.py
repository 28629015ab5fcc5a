"""What the config may ask of pre-training, and which clips it touches."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from exvo.corpus.demo import make_demo_corpus
from exvo.corpus.table import CorpusError
from exvo.hubert import logmel_frontend as hubert_frontend
from exvo.hubert.encoder import HubertConfig
from exvo.pretraining.clusters import ClusterConfig
from exvo.pretraining.loop import PretrainConfig
from exvo.workflow.config import complete
from exvo.workflow.plan import Plan
from exvo.workflow.pretrain_plan import ENCODER_LOGMEL, PretrainPlan, pretraining_clips

REPOSITORY = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
TWO = {
    "clusters": {
        "mfcc": {"of": "mfcc"},
        "second": {"of": "hidden", "model": "first", "layer": 2},
        "teacher": {"of": "teacher", "folder": "results/features/whisper"},
    },
    "models": {
        "first": {"targets": ["mfcc"]},
        "second": {"targets": ["second", "teacher"], "start": "first"},
        "waves": {"targets": ["mfcc"], "encoder": {"frontend": "conv"}},
    },
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    make_demo_corpus(root, n_clips=36, n_speakers=12, seed=1, n_workers=1)
    return root


def plan_of(corpus, pretrain, **others):
    config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    config |= {"corpus": {"root": str(corpus), "shards": 2}, "pretrain": pretrain, **others}
    return PretrainPlan(Plan(complete(config, SCHEMA)))


def test_entries_without_settings_have_those_of_the_code_and_of_a_small_encoder():
    pretrain = SCHEMA["properties"]["pretrain"]["properties"]
    model = complete({"targets": ["mfcc"]}, pretrain["models"]["additionalProperties"])
    assert PretrainConfig.from_dict(model["training"]) == PretrainConfig()
    assert HubertConfig(**model["encoder"]).d_model == 256
    clusters = complete({"of": "mfcc"}, pretrain["clusters"]["additionalProperties"])
    assert {name: clusters[name] for name in asdict(ClusterConfig())} == asdict(ClusterConfig())


def test_nothing_is_asked_for_by_default(corpus):
    plan = plan_of(corpus, {})
    assert plan.clusters == plan.models == {}


def test_each_job_gets_the_files_that_it_needs(corpus):
    plan = plan_of(corpus, TWO)
    shards = list(plan.plan.shards)
    assert len(shards) == 2
    assert plan.inputs("first", "npy") == [f"results/features/logmel/raw/{s}.npy" for s in shards]
    assert plan.inputs("waves", "npy") == [f"results/features/waveform/raw/{s}.npy" for s in shards]
    assert plan.encoder_of("mfcc") == plan.others_of("second", "npy") == plan.start_of("first") == []
    assert plan.encoder_of("second") == ["results/pretrain/first/model.safetensors"]
    assert plan.others_of("teacher", "npy") == [f"results/features/whisper/{s}.npy" for s in shards]
    assert plan.labels_of("second", "parquet") == [
        f"results/clusters/{name}/{s}.parquet" for name in ("second", "teacher") for s in shards
    ]
    of_waves = {**TWO["clusters"], "second": {"of": "hidden", "model": "waves", "layer": 1}}
    assert plan_of(corpus, TWO | {"clusters": of_waves}).others_of("second", "npy") == plan.inputs(
        "waves", "npy"
    )


@pytest.mark.parametrize(
    ("kind", "name", "entry", "message"),
    [
        ("clusters", "second", {"of": "hidden", "layer": 2}, "clusters of hidden need the key model"),
        (
            "clusters",
            "second",
            {"of": "hidden", "model": "no", "layer": 2},
            "no is not one of pretrain.models",
        ),
        ("models", "first", {"targets": ["no"]}, "first.targets: no is not one of pretrain.clusters"),
        ("models", "second", {"targets": ["mfcc"], "start": "no"}, "no is not one of pretrain.models"),
        ("models", "first", {"targets": ["second"]}, r"needs itself: (second < )?first < (second < )?first"),
        ("models", "first", {"targets": ["mfcc"], "encoder": {"n_mels": 40}}, "features.logmel.n_mels is 80"),
    ],
)
def test_entries_that_cannot_be_are_refused(corpus, kind, name, entry, message):
    with pytest.raises(CorpusError, match=message):
        plan_of(corpus, TWO | {kind: {**TWO[kind], name: entry}})


@pytest.mark.parametrize(
    ("setting", "who"),
    [
        ({"window_ms": 20}, "first"),
        ({"n_fft": 1024}, "first"),
        ({"log_floor": 1e-5}, "first"),
        ({"hop_ms": 5}, "first"),
        ({"hop_ms": 5}, "waves"),
    ],
)
def test_log_mel_that_an_encoder_does_not_compute_later_is_refused(corpus, setting, who):
    """Else it would be trained on one spectrogram and used on another."""
    only = {"clusters": {"mfcc": {"of": "mfcc"}}, "models": {who: TWO["models"][who]}}
    (key,) = setting
    with pytest.raises(CorpusError, match=rf"models\.{who}: features\.logmel\.{key} is .* need "):
        features_plan(corpus, only, setting)


def test_what_the_encoder_does_not_look_at_may_be_set(corpus):
    waves = {"clusters": {"mfcc": {"of": "mfcc"}}, "models": {"waves": TWO["models"]["waves"]}}
    assert features_plan(corpus, waves, {"window_ms": 20, "n_fft": 1024, "log_floor": 1e-5}).models
    assert features_plan(corpus, TWO, {"dtype": "float32"}).models
    assert not features_plan(corpus, {}, {"window_ms": 20}).models


def features_plan(corpus, pretrain, logmel):
    return plan_of(corpus, pretrain, features={"logmel": logmel})


def test_the_plan_knows_the_log_mel_of_the_encoders():
    expected = asdict(hubert_frontend._LOGMEL)
    # Of these, the number of channels is the encoder's own, and the type that of storage.
    assert {key: expected.pop(key) for key in ("n_mels", "dtype")}
    assert expected == ENCODER_LOGMEL


def test_only_train_is_pretrained_on(corpus, tmp_path):
    plan = plan_of(corpus, TWO)
    labels = plan.plan.corpus.labels
    train = sorted(labels.clip_id[labels.split == "Train"])
    assert plan.clip_ids() == train
    by_shard = [clip_id for shard in plan.plan.shards for clip_id in plan.clips_of(shard)]
    assert sorted(by_shard) == train
    listed = tmp_path / "clips.txt"
    listed.write_text("\n".join([*train[1:4], "", train[1]]) + "\n")
    some = plan_of(corpus, TWO | {"clips": str(listed)})
    assert some.clip_ids() == train[1:4]
    assert some.clips != plan.clips and some.clips["list"] == str(listed)
    before = some.clips
    listed.write_text("\n".join(train[1:5]))
    assert plan_of(corpus, TWO | {"clips": str(listed)}).clips != before


@pytest.mark.parametrize(
    ("clip", "message"),
    [("Val", "is of Val"), ("Test", "is of Test"), ("nobody", "nobody is not in the corpus")],
)
def test_a_list_with_other_clips_is_refused(corpus, tmp_path, clip, message):
    labels = plan_of(corpus, {}).plan.corpus.labels
    ids = {
        split: str(labels.clip_id[np.flatnonzero(labels.split == split)[0]])
        for split in ("Train", "Val", "Test")
    }
    listed = tmp_path / "clips.txt"
    listed.write_text(f"{ids['Train']}\n{ids.get(clip, clip)}\n")
    plan = plan_of(corpus, TWO | {"clips": str(listed)})  # no effect until it is asked for
    with pytest.raises(CorpusError, match=rf"{message} \(1 such clips\), and only clips of Train"):
        plan.clip_ids()
    with pytest.raises(CorpusError, match="cannot be read"):
        plan_of(corpus, TWO | {"clips": str(tmp_path / "no.txt")}).clip_ids()
    listed.write_text(ids["Train"] + "\nnobody\n")
    corpus_of_plan = plan.plan.corpus
    # Of a limited corpus, a list may name more.
    assert pretraining_clips(corpus_of_plan, listed, limit=5) == [ids["Train"]]
