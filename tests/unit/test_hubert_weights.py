"""Weights in every layout against `transformers` itself; what is wrong is refused."""

import hashlib
import json
import shutil
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torchaudio.models.wav2vec2.utils import import_huggingface_model

from exvo.hubert import checkpoint_files as hubert_files
from exvo.hubert.checkpoint_files import BUNDLED, BUNDLED_SHA256, file_sha256, weights_digest, weights_files
from exvo.hubert.encoder import HubertConfig, build_hubert, hidden_states
from exvo.hubert.published import BASE, BUNDLES, LARGE, WAVLM
from exvo.hubert.weights import load_hubert

SMALL = {"conv_channels": 16, "d_model": 32, "n_heads": 4, "ffn": 48, "n_layers": 2, "positional_kernel": 16}


class Heads(transformers.Wav2Vec2PreTrainedModel):
    """An encoder with heads of names that nobody else has, as published models for age and gender are made."""

    def __init__(self, config):
        super().__init__(config)
        self.wav2vec2 = transformers.Wav2Vec2Model(config)
        self.age, self.projection = torch.nn.Linear(32, 1), torch.nn.Linear(32, 3)
        self.post_init()


PEERS = {
    "hubert": (transformers.HubertConfig, transformers.HubertModel, replace(BASE, **SMALL)),
    "hubert-large": (
        transformers.HubertConfig,
        transformers.HubertModel,
        replace(LARGE, **SMALL, conv_bias=True),
    ),
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2ForPreTraining, replace(BASE, **SMALL)),
    "wav2vec2-heads": (transformers.Wav2Vec2Config, Heads, replace(BASE, **SMALL)),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel, replace(WAVLM, **SMALL)),
}


def options(**changes):
    return {"source": "checkpoint", "checkpoint": None, "sha256": None, "bundle": "HUBERT_BASE"} | changes


@pytest.fixture(params=PEERS)
def peer(request):
    """A model of `transformers` with random weights, and our config of it."""
    config_type, model_type, config = PEERS[request.param]
    torch.manual_seed(4)
    peer = model_type(
        config_type(
            conv_dim=(config.conv_channels,) * 7,
            conv_bias=config.conv_bias,
            feat_extract_norm=config.conv_norm.removesuffix("_norm"),
            hidden_size=config.d_model,
            num_attention_heads=config.n_heads,
            intermediate_size=config.ffn,
            num_hidden_layers=config.n_layers,
            do_stable_layer_norm=config.layer_norm_first,
            num_conv_pos_embeddings=config.positional_kernel,
            num_conv_pos_embedding_groups=config.positional_groups,
            hidden_dropout=config.dropout,
            layerdrop=config.layer_drop,
        )
    ).eval()
    with torch.no_grad():
        for weight in peer.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return peer, config


def peer_states(peer, config, clip):
    """All hidden states as `transformers` computes them."""
    waveform = torch.from_numpy(clip)
    if config.normalise:
        waveform = torch.nn.functional.layer_norm(waveform, waveform.shape)
    base = getattr(peer, peer.base_model_prefix, peer)
    with torch.no_grad():
        states = base(waveform[None], output_hidden_states=True).hidden_states
    return torch.cat(states).numpy()


def clip():
    return np.random.default_rng(0).normal(scale=0.1, size=9000).astype(np.float32)


def same_as_peer(states, reference, config):
    last = config.n_layers + (not config.layer_norm_first)
    # With layer norm first, `transformers` applies the final layer norm to the last state, torchaudio does not.
    np.testing.assert_allclose(states[:last], reference[:last], atol=1e-4)
    assert np.abs(reference).max() > 0.5


def test_transformers_folder_gives_what_transformers_gives(peer, tmp_path):
    model, config = peer
    model.save_pretrained(tmp_path)
    weights = load_hubert(options(checkpoint=str(tmp_path)))
    assert weights.model.config == config
    assert weights.sha256 == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    (states,) = hidden_states(weights.model, [clip()])
    same_as_peer(states, peer_states(model, config, clip()), config)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_both_layouts_give_the_same_embeddings(peer, tmp_path, ending):
    theirs, config = peer
    theirs.save_pretrained(tmp_path / "folder")
    one = load_hubert(options(checkpoint=str(tmp_path / "folder"))).model
    # torchaudio's own importer writes the other layout.
    base = getattr(theirs, theirs.base_model_prefix, theirs)
    imported = import_huggingface_model(base)
    path = tmp_path / f"weights.{ending}"
    (save_file if ending == "safetensors" else torch.save)(imported.state_dict(), path)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    two = load_hubert(options(checkpoint=str(path))).model
    for a, b in zip(*(hidden_states(m, [clip()]) for m in (one, two)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_old_names_of_weight_norm_are_read_in_both_layouts(tmp_path):
    config = PEERS["hubert"][2]
    model = build_hubert(config, seed=5)

    def old(name):
        for number, letter in enumerate("gv"):
            name = name.replace(f"parametrizations.weight.original{number}", f"weight_{letter}")
        return name

    state = OrderedDict((old(name), value) for name, value in model.state_dict().items())
    assert any(name.endswith("weight_g") for name in state)
    torch.save(state, tmp_path / "model.pth")
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    theirs = {
        name.replace("encoder.transformer.", "encoder.").replace("encoder.feature_p", "feature_p"): value
        for name, value in state.items()
    }
    folder = tmp_path / "theirs"
    folder.mkdir()
    torch.save(theirs | {"masked_spec_embed": torch.zeros(32)}, folder / "pytorch_model.bin")
    record = {"model_type": "hubert", "conv_dim": [16] * 7, "hidden_size": 32, "num_attention_heads": 4}
    record |= {"intermediate_size": 48, "num_hidden_layers": 2, "num_conv_pos_embeddings": 16}
    (folder / "config.json").write_text(json.dumps(record))
    for path in (tmp_path / "model.pth", folder):
        found = load_hubert(options(checkpoint=str(path))).model.state_dict()
        assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_hubert_base_at_its_true_size_is_the_same_by_both_roads(tmp_path):
    """95 million weights, as published but for their values; one copy at a time, for they take 380 MB."""
    torch.manual_seed(4)
    theirs = transformers.HubertModel(transformers.HubertConfig()).eval()
    assert sum(weight.numel() for weight in theirs.parameters()) > 94e6
    sound = clip()[:4800]
    reference = peer_states(theirs, BASE, sound)
    folder, file = tmp_path / "hubert-base-ls960", tmp_path / "hubert_fairseq_base_ls960.pth"
    theirs.save_pretrained(folder)
    # Without a config.json beside it, as torchaudio publishes it.
    torch.save(import_huggingface_model(theirs).state_dict(), file)
    del theirs
    found = []
    for checkpoint in (folder, file):
        model = load_hubert(options(checkpoint=str(checkpoint))).model
        # Of training alone, and another in each layout.
        assert replace(model.config, layer_drop=BASE.layer_drop) == BASE
        found.append(hidden_states(model, [sound])[0])
        del model
    # Nobody keeps them.
    shutil.rmtree(folder)
    file.unlink()
    assert found[0].shape == (13, 14, 768)
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    same_as_peer(found[1], reference, BASE)


def test_weights_of_unknown_shapes_need_a_config(tmp_path):
    small = build_hubert(replace(BASE, **SMALL))
    torch.save(small.state_dict(), tmp_path / "small.pt")
    with pytest.raises(ValueError, match=r"config\.json in the same folder"):
        load_hubert(options(checkpoint=str(tmp_path / "small.pt")))


class Code:
    def __reduce__(self):
        return (Path.write_text, (Path(self.target), "executed"))


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path):
    code, target = Code(), tmp_path / "executed"
    code.target = str(target)
    torch.save({"weight": code}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="other content is refused"):
        load_hubert(options(checkpoint=str(tmp_path / "model.pt")))
    assert not target.exists()
    torch.save({"epoch": 3, "weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="must contain named tensors only"):
        load_hubert(options(checkpoint=str(tmp_path / "model.pt")))


def test_sha256_is_checked(tmp_path):
    config = replace(BASE, **SMALL)
    save_file(build_hubert(config).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    right = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert load_hubert(options(checkpoint=str(tmp_path), sha256=right)).sha256 == right
    with pytest.raises(ValueError, match=f"SHA-256 is {right}"):
        load_hubert(options(checkpoint=str(tmp_path), sha256="0" * 64))
    with pytest.raises(ValueError, match="64 digits"):
        load_hubert(options(checkpoint=str(tmp_path), sha256="abc"))


def test_the_encoder_of_this_repository_its_card_and_its_pin_agree():
    path = BUNDLED / "model.safetensors"
    assert file_sha256(path) == BUNDLED_SHA256
    assert f"SHA-256 `{BUNDLED_SHA256}`" in (BUNDLED / "README.md").read_text()
    assert path.stat().st_size <= 12e6
    assert load_hubert(options(source="bundled")).sha256 == BUNDLED_SHA256


def warnings_of(caplog, **changes):
    """Load weights twice, and return what was warned of."""
    caplog.clear()
    for _ in range(2):
        load_hubert(options(**changes), "features.variants.hubert-x")
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("source", ["checkpoint", "bundle"])
def test_weights_without_a_sha256_are_warned_of_once(tmp_path, caplog, monkeypatch, source):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(BUNDLES, "HUBERT_BASE", ("base.pth", replace(BASE, **SMALL)))
    path = tmp_path / "checkpoints/base.pth"
    path.parent.mkdir()
    (path.parent / "config.json").write_text(json.dumps(asdict(replace(BASE, **SMALL))))
    torch.save(build_hubert(replace(BASE, **SMALL)).state_dict(), path)
    right = file_sha256(path)
    (warning,) = warnings_of(caplog, source=source, checkpoint=str(path))
    assert f"if {right} is right, set features.variants.hubert-x.sha256 to it" in warning
    assert warnings_of(caplog, source=source, checkpoint=str(path), sha256=right) == []
    with pytest.raises(ValueError, match=rf"is {right}, but features\.variants\.hubert-x\.sha256 is 0000"):
        warnings_of(caplog, source=source, checkpoint=str(path), sha256="0" * 64)
    assert warnings_of(caplog, source="bundled") == []


def test_small_files_are_checked_before_any_job(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"one")
    weights_digest(options(checkpoint=str(path), sha256=file_sha256(path)))
    with pytest.raises(ValueError, match=r"features\.variants\.hubert-x\.sha256 is 0000"):
        weights_digest(options(checkpoint=str(path), sha256="0" * 64), "features.variants.hubert-x")


@pytest.mark.parametrize("change", ["missing", "more"])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change):
    config = replace(BASE, **SMALL)
    state = build_hubert(config).state_dict()
    name = "encoder.transformer.layers.1.final_layer_norm.bias"
    if change == "missing":
        del state[name]
    else:
        name = "encoder.transformer.layers.2.final_layer_norm.bias"
        state[name] = torch.zeros(32)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    with pytest.raises(ValueError, match=name):
        load_hubert(options(checkpoint=str(tmp_path)))


@pytest.mark.parametrize(
    "record", [{"model_type": "bert"}, {"model_type": "hubert", "hidden_act": "relu"}, {"d_modell": 3}]
)
def test_configs_that_are_not_known_are_refused(tmp_path, record):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"model_type|hidden_act|d_modell"):
        load_hubert(options(checkpoint=str(tmp_path)))


def test_a_missing_checkpoint_says_what_to_fetch_and_where_to_put_it(tmp_path):
    for checkpoint in (None, str(tmp_path / "nothing.pt"), str(tmp_path)):
        with pytest.raises(ValueError, match=r"hubert_fairseq_base_ls960.pth.*Set `checkpoint`"):
            load_hubert(options(checkpoint=checkpoint))


def test_a_bundle_is_taken_from_torchs_cache_or_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(BUNDLES, "HUBERT_BASE", ("base.pth", replace(BASE, **SMALL)))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"models/base.pth .* save it as .*checkpoints/base.pth"):
        load_hubert(options(source="bundle"))
    model = build_hubert(replace(BASE, **SMALL), seed=2)
    torch.save({**model.state_dict(), "aux.weight": torch.zeros(2)}, tmp_path / "checkpoints/base.pth")
    found = load_hubert(options(source="bundle"))
    assert all(map(torch.equal, found.model.parameters(), model.parameters()))
    assert weights_files(options(source="bundle")) == []


def test_the_control_has_other_weights_and_the_same_moments(tmp_path, monkeypatch):
    monkeypatch.setattr(hubert_files, "BUNDLED", tmp_path)
    with pytest.raises(ValueError, match=r"model.safetensors is missing"):
        load_hubert(options(source="bundled"))
    config = HubertConfig(
        frontend="logmel", n_mels=20, **{k: v for k, v in SMALL.items() if k != "conv_channels"}
    )
    model = build_hubert(config, seed=9)
    model.feature_extractor.set_moments(np.arange(20.0), np.arange(1.0, 21.0))
    save_file({k: v.half() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    for source in ("bundled", "random"):
        with pytest.raises(ValueError, match=r"the encoder of this version has 60bfeaf6"):
            load_hubert(options(source=source))
        with pytest.raises(
            ValueError, match=r"another one with features\.variants\.hubert-x\.source: checkpoint"
        ):
            weights_digest(options(source=source), "features.variants.hubert-x")
    monkeypatch.setattr(hubert_files, "BUNDLED_SHA256", file_sha256(tmp_path / "model.safetensors"))
    own, control = (load_hubert(options(source=source)).model for source in ("bundled", "random"))
    assert torch.equal(own.feature_extractor.mean, torch.arange(20.0))
    for name, value in control.state_dict().items():
        moment = name.startswith("feature_extractor")
        assert torch.equal(value, own.state_dict()[name]) == (
            moment or name.endswith(("norm.weight", "norm.bias"))
        ), name


def test_the_digest_follows_the_content_of_the_weights(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    path.write_bytes(b"one")
    first = weights_digest(options(checkpoint=str(path)))
    copy = tmp_path / "copy.pt"
    copy.write_bytes(b"one")
    assert weights_digest(options(checkpoint=str(copy))) == first
    path.write_bytes(b"two")
    assert weights_digest(options(checkpoint=str(path))) != first
    # Larger files: the stated SHA-256 decides, else size and time of change.
    monkeypatch.setattr(hubert_files, "_READ_BYTES", 1)
    stated = [options(checkpoint=str(p), sha256="0" * 64) for p in (path, copy)]
    assert weights_digest(stated[0]) == weights_digest(stated[1])
    loose = weights_digest(options(checkpoint=str(path)))
    path.write_bytes(b"three")
    assert weights_digest(options(checkpoint=str(path))) != loose
