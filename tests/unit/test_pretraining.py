"""Masked prediction: what is masked, what is learned, what an interruption does to it, what it leaves."""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from exvo.audio.store import Clip, write_shard
from exvo.features.store import FeatureRow, write_sequences
from exvo.features.waveform import waveform_shard
from exvo.hubert.encoder import HubertConfig, build_hubert
from exvo.hubert.fft_positions import use_fourier_positions
from exvo.hubert.weights import load_hubert
from exvo.pretraining import loop as pretraining_loop
from exvo.pretraining.batches import HELD_OUT, MaskConfig, MaskedClips, Targets, span_mask
from exvo.pretraining.checkpoint import CHECKPOINT
from exvo.pretraining.loop import PretrainConfig, learning_rate
from exvo.pretraining.masked_prediction import MaskedPrediction
from exvo.pretraining.pretrain import held_out, pretrain
from exvo.pretraining.storage import export_float16, load_start, save_pretrained
from exvo.training.frames import FrameStore

N_MELS, K = 8, 4
SMALL = {
    "d_model": 32,
    "n_heads": 2,
    "ffn": 64,
    "n_layers": 2,
    "positional_kernel": 16,
    "positional_groups": 4,
}
TINY = HubertConfig(frontend="logmel", n_mels=N_MELS, dropout=0.1, layer_drop=0.1, **SMALL)
QUICK = PretrainConfig(
    max_steps=7, max_batch_frames=200, crop_frames=30, report_every=2, heldout_share=0.2, learning_rate=3e-3
)


def write_corpus(folder, n=24, seed=0):
    """Clips that go round four sounds, five frames of 20 ms each; the labels are the sounds, and their pairs."""
    rng = np.random.default_rng(seed)
    sounds = np.random.default_rng(99).standard_normal((K, N_MELS)) * 2
    folder.mkdir(parents=True, exist_ok=True)
    frames, labels, pairs = [], [], []
    for clip in range(n):
        sound = (np.arange(int(rng.integers(20, 50))) + int(rng.integers(5 * K))) // 5 % K
        noise = 0.3 * rng.standard_normal((2 * len(sound) + 1, N_MELS))
        values = sounds[np.append(np.repeat(sound, 2), sound[-1])] + noise - 8
        for rows, what in ((frames, values), (labels, sound[:, None]), (pairs, sound[:, None] // 2)):
            rows.append(FeatureRow(f"c{clip:02d}", what, "ok", ""))
    frames.append(FeatureRow("gone", None, "missing", "no file"))
    stores = []
    for name, rows, dtype in (
        ("frames", frames, "float16"),
        ("labels", labels, "int16"),
        ("pairs", pairs, "int16"),
    ):
        paths = (folder / f"{name}.npy", folder / f"{name}.parquet")
        write_sequences(*paths, rows, rows[0].values.shape[1], dtype)
        stores.append(FrameStore([paths]))
    ids = [f"c{clip:02d}" for clip in range(n)]
    return stores, ids, [f"s{clip % 6}" for clip in range(n)]


def arguments(folder, n=24):
    (frames, labels, pairs), ids, speakers = write_corpus(folder, n)
    return {
        "inputs": frames,
        "targets": {"sounds": Targets(labels, K), "pairs": Targets(pairs, 2)},
        "clip_ids": ids,
        "speakers": speakers,
        "encoder_config": TINY,
        "config": QUICK,
        "seed": 3,
        "statistics": {"mean": [-8.0] * N_MELS, "std": [2.0] * N_MELS},
    }


def same(first, second):
    first, second = first.network.state_dict(), second.network.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return arguments(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    return pretrain(**data, folder=tmp_path_factory.mktemp("pretrained"))


@pytest.mark.parametrize("share", [0.1, 0.65, 0.95])
@pytest.mark.parametrize("span", [1, 5, 10])
def test_mask_covers_its_share_and_never_all_or_none(share, span):
    rng = np.random.default_rng(0)
    for n_frames in [2, 3, 5, 9, 20, 90, 300]:
        for _ in range(20):
            mask = span_mask(n_frames, share, span, rng)
            assert 0 < mask.sum() < n_frames
            assert abs(mask.sum() - share * n_frames) <= 1
    with pytest.raises(ValueError, match="a clip of 1 frame"):
        span_mask(1, share, span, rng)


def test_mask_is_of_spans_and_no_place_is_spared():
    rng = np.random.default_rng(0)
    masks = np.stack([span_mask(100, 0.5, 10, rng) for _ in range(4000)])
    # Ends of spans: fewer than of a mask of single frames, which has 50; at most those of five spans, and one cut.
    assert np.abs(np.diff(masks.astype(int), axis=1)).sum(axis=1).max() <= 2 * 12
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.06)
    inner = masks[0].astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inner, [0]])))
    lengths = edges[1::2] - edges[::2]
    assert (
        sum(length >= 10 for length in lengths) >= len(lengths) - 3
    )  # two may run over the ends, one is cut


@pytest.mark.parametrize(("kernel", "groups"), [(128, 16), (7, 4), (2, 1)])
@pytest.mark.parametrize("n_frames", [1, 3, 140])
def test_positions_by_fft_are_those_of_the_convolution(kernel, groups, n_frames):
    config = replace(TINY, positional_kernel=kernel, positional_groups=groups, dropout=0.0)
    encoder = build_hubert(config, seed=1).double()
    x = torch.randn(3, n_frames, config.d_model, dtype=torch.float64, requires_grad=True)
    positions = encoder.encoder.transformer.pos_conv_embed

    def values(module):
        y = module(x)
        weights = list(module.parameters())
        return [y, *torch.autograd.grad(y.square().sum(), [x, *weights])]

    expected, names = values(positions), set(encoder.state_dict())
    use_fourier_positions(encoder)
    assert set(encoder.state_dict()) == names
    for a, b in zip(values(encoder.encoder.transformer.pos_conv_embed), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


def masked_clips(data, **options):
    labels = [part.labels for part in data["targets"].values()]
    options = {"mask": MaskConfig(), "seed": 0, "max_batch_frames": 200, "crop_frames": 30} | options
    return MaskedClips(data["inputs"], labels, data["clip_ids"], frontend="logmel", **options)


def test_labels_of_a_stretch_are_those_of_its_frames(data):
    # The nearest sound to a frame is its label, wherever the stretch begins.
    sounds = np.random.default_rng(99).standard_normal((K, N_MELS)) * 2 - 8
    clips = masked_clips(data)
    seen = 0
    for epoch in (0, 1, HELD_OUT):
        for batch in clips.epoch(epoch):
            for clip, length, labels, pairs, mask in zip(
                batch.clips, batch.lengths.tolist(), *batch.labels, batch.mask, strict=True
            ):
                pair_means = clip.numpy().reshape(length, 2, N_MELS).mean(axis=1)
                nearest = np.square(pair_means[:, None] - sounds).sum(axis=2).argmin(axis=1)
                np.testing.assert_array_equal(labels[:length], nearest)
                np.testing.assert_array_equal(pairs[:length], nearest // 2)
                assert (labels[length:] == -1).all() and not mask[length:].any()
                assert int(mask.sum()) == round(0.65 * length)
                seen += 1
            assert batch.mask.numel() <= 200 and max(batch.lengths) <= 30
    assert seen == 3 * len(data["clip_ids"])


def test_epochs_differ_and_repeat(data):
    def content(epoch):
        return [torch.cat([c.flatten() for c in batch.clips]) for batch in masked_clips(data).epoch(epoch)]

    def equal(first, second):
        return len(first) == len(second) and all(map(torch.equal, first, second))

    assert equal(content(0), content(0)) and equal(content(HELD_OUT), content(HELD_OUT))
    assert not equal(content(0), content(1))


def test_clips_that_cannot_be_masked_or_lack_labels_are_refused(data, tmp_path):
    (frames, labels, _), _, _ = write_corpus(tmp_path)
    options = {"frontend": "logmel", "mask": MaskConfig(), "seed": 0, "max_batch_frames": 200}
    with pytest.raises(ValueError, match="clip gone: 0 frame"):
        MaskedClips(frames, [], ["c00", "gone"], **options)
    paths = (tmp_path / "short.npy", tmp_path / "short.parquet")
    values = labels.frames(1)[:-1]
    write_sequences(*paths, [FeatureRow("c01", values, "ok", "")], 1, "int16")
    with pytest.raises(ValueError, match=f"clip c01: {len(values)} labels for {len(values) + 1} frames"):
        MaskedClips(frames, [FrameStore([paths])], ["c01"], **options)


def test_masked_frames_are_hidden_from_the_encoder(data):
    network = MaskedPrediction(
        build_hubert(replace(TINY, layer_drop=0.0)), {"sounds": K, "pairs": 2}, 0
    ).eval()
    batch = masked_clips(data).epoch(0)[0]
    loss, sums = network(batch)
    changed = [clip.clone() for clip in batch.clips]
    for clip, mask, length in zip(changed, batch.mask, batch.lengths.tolist(), strict=True):
        clip.view(length, 2, N_MELS)[mask[:length]] += 100.0
    torch.testing.assert_close(network(batch._replace(clips=changed))[0], loss)
    seen = [clip.clone() for clip in batch.clips]
    seen[0].view(-1, 2, N_MELS)[~batch.mask[0, : batch.lengths[0]]] += 1.0
    assert not torch.equal(network(batch._replace(clips=seen))[0], loss)
    n_masked, n_valid = int(batch.mask.sum()), int(batch.lengths.sum())
    assert sums[:, 3].tolist() == [n_masked] * 2 and sums[:, 4].tolist() == [n_valid - n_masked] * 2
    # Before any step, each set is guessed as by chance, and the losses are added.
    assert float(loss.detach()) == pytest.approx(np.log(K) + np.log(2), rel=0.3)
    assert float(sums[:, 0].sum() / n_masked) == pytest.approx(float(loss.detach()), rel=1e-5)
    others = network(batch, unmasked_weight=1.0)[0] - loss
    assert float(others.detach()) == pytest.approx(np.log(K) + np.log(2), rel=0.3)


def test_learns_to_predict_what_is_masked(tmp_path):
    data = arguments(tmp_path, 60)
    config = replace(QUICK, max_steps=150, max_batch_frames=600, report_every=150, learning_rate=4e-3)
    quiet = replace(TINY, dropout=0.0, layer_drop=0.0)
    last = pretrain(**data | {"config": config, "encoder_config": quiet}, folder=tmp_path).curves[-1]
    # By chance 1/4 and 1/2; a sound lasts five frames, and about every second one is hidden whole.
    assert last["heldout_sounds_masked_accuracy"] > 0.6 and last["sounds_masked_accuracy"] > 0.6
    assert last["heldout_pairs_masked_accuracy"] > 0.75
    assert last["heldout_sounds_loss"] < 0.8 * np.log(K)
    assert (last["step"], last["epoch"]) == (150, 50)


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(data, pretrained, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = pretrain(**data, folder=tmp_path / "a")
    assert same(pretrained, again) and pretrained.curves == again.curves
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(pretrained, pretrain(**data | {"seed": 4}, folder=tmp_path / "b"))
    assert [row["step"] for row in again.curves] == [2, 4, 6, 7]
    assert again.n_clips + again.n_heldout == 24 and again.n_heldout == 4


def test_killed_process_resumes_to_the_same_bits(data, pretrained, tmp_path):
    child = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_pretraining import arguments, pretrain
from exvo.training.loop import Loop

step = Loop._take_step
def dies_in_the_sixth_step(loop, batches):
    if loop.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(loop, batches)

Loop._take_step = dies_in_the_sixth_step
pretrain(**arguments(Path({str(tmp_path / "corpus")!r})), folder={str(tmp_path)!r})
"""
    process = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["state"]["step"] == 4
    steps = []
    real = pretraining_loop.seed_torch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining_loop, "seed_torch", lambda s, step: (steps.append(step), real(s, step)))
        resumed = pretrain(**data, folder=tmp_path)
    assert steps == [4, 5, 6]
    assert same(pretrained, resumed) and pretrained.curves == resumed.curves


@pytest.mark.parametrize("what", ["damaged", "foreign", "other settings", "other labels"])
def test_checkpoint_that_does_not_fit_is_refused_and_kept(data, tmp_path, what):
    pretrain(**data, folder=tmp_path)
    path = tmp_path / CHECKPOINT
    if what == "damaged":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "foreign":
        path.write_bytes(pickle.dumps(Evil(tmp_path / "executed"), protocol=2))
    elif what == "other settings":
        data = data | {"config": replace(QUICK, weight_decay=0.5)}
    else:
        data = data | {"targets": {"sounds": data["targets"]["sounds"]}}
    size = path.stat().st_size
    with pytest.raises(ValueError, match=r"remove it to start again"):
        pretrain(**data, folder=tmp_path)
    assert path.stat().st_size == size and not (tmp_path / "executed").exists()


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_speakers_are_held_out_whole(data):
    held = held_out(data["speakers"], 0.3, seed=0)
    by_speaker = {
        s: {bool(h) for t, h in zip(data["speakers"], held, strict=True) if t == s} for s in data["speakers"]
    }
    assert all(len(values) == 1 for values in by_speaker.values())
    assert sum(values == {True} for values in by_speaker.values()) == 2
    assert held_out(["a", "b"], 0.01, seed=0).sum() == 1
    with pytest.raises(ValueError, match=r"1 of 1 speaker\(s\) would be held out"):
        held_out(["a", "a"], 0.01, seed=0)


def test_learning_rate_rises_and_falls_linearly():
    config = PretrainConfig(max_steps=100, learning_rate=2.0, warmup_fraction=0.1)
    rates = [learning_rate(step, config) for step in (0, 4, 9, 10, 55, 99)]
    np.testing.assert_allclose(rates, [0.2, 1.0, 2.0, 2.0, 1.0, 2 / 90])


def test_stored_encoder_is_read_by_the_loader_of_weights(data, pretrained, tmp_path):
    pretrain(**data, folder=tmp_path)
    save_pretrained(tmp_path, pretrained, {"seed": 3})
    options = {"source": "checkpoint", "sha256": None}
    loaded = load_hubert(options | {"checkpoint": str(tmp_path)})
    assert loaded.model.config == TINY
    assert all(
        torch.equal(v, pretrained.encoder.state_dict()[n]) for n, v in loaded.model.state_dict().items()
    )
    recipe = json.loads((tmp_path / "pretraining.json").read_text())
    assert recipe["sha256"] == loaded.sha256 and recipe["n_clips"] == 20 and recipe["seed"] == 3
    assert not (tmp_path / CHECKPOINT).exists()
    header, *rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert "heldout_pairs_unmasked_accuracy" in header and len(rows) == 4
    sha256 = export_float16(tmp_path, tmp_path / "half")
    half = load_hubert(options | {"checkpoint": str(tmp_path / "half")})
    assert half.sha256 == sha256
    assert {v.dtype for v in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.float16}
    for name, value in half.model.state_dict().items():
        torch.testing.assert_close(value, loaded.model.state_dict()[name], atol=1e-5, rtol=1e-3)


def test_start_takes_over_all_but_the_heads(data, pretrained, tmp_path):
    save_pretrained(tmp_path, pretrained, {})
    start = load_start(tmp_path)
    only = {"targets": {"sounds": data["targets"]["sounds"]}, "config": replace(QUICK, learning_rate=0.0)}
    still = pretrain(**data | only, folder=tmp_path / "a", start=start)
    for name, value in still.encoder.state_dict().items():
        torch.testing.assert_close(value, pretrained.encoder.state_dict()[name])
    assert torch.equal(still.network.mask_embedding, pretrained.network.mask_embedding)
    assert not torch.equal(still.network.heads["sounds"].weight, pretrained.network.heads["sounds"].weight)
    other = replace(TINY, n_layers=1)
    with pytest.raises(ValueError, match="the weights belong to another encoder"):
        pretrain(**data | {"encoder_config": other}, folder=tmp_path / "b", start=start)


def test_convolutions_read_stretches_of_the_samples(data, tmp_path):
    rng = np.random.default_rng(0)
    n_frames = {c: int(data["inputs"].n_frames[row]) // 2 for row, c in enumerate(data["clip_ids"])}
    clips = [Clip(c, rng.uniform(-1, 1, 320 * n + 80 + 7).astype(np.float32)) for c, n in n_frames.items()]
    write_shard(tmp_path / "a.parquet", clips, {}, bits=16)
    paths = (tmp_path / "w.npy", tmp_path / "w.parquet")
    waveform_shard(tmp_path / "a.parquet", *paths)
    conv = HubertConfig(conv_channels=4, **SMALL)
    options = {"inputs": FrameStore([paths]), "encoder_config": conv, "statistics": None}
    network = pretrain(**data | options, folder=tmp_path)
    assert all(np.isfinite(list(row.values())).all() for row in network.curves)
    clips = MaskedClips(
        options["inputs"], [], data["clip_ids"], frontend="conv", mask=MaskConfig(), seed=0,
        max_batch_frames=200, crop_frames=25,
    )  # fmt: skip
    np.testing.assert_array_equal(clips.n_frames, list(n_frames.values()))
    batch = clips.epoch(0)[0]
    assert [len(clip) for clip in batch.clips] == [320 * n + 80 for n in batch.lengths.tolist()]


def test_what_the_device_or_the_data_cannot_give_is_said(data, tmp_path):
    with pytest.raises(ValueError, match="bf16 needs a CUDA device, not cpu"):
        replace(QUICK, device="cpu", precision="bf16").placement()
    with pytest.raises(ValueError, match="needs the mean and SD"):
        pretrain(**data | {"statistics": None}, folder=tmp_path)
    with pytest.raises(ValueError, match="no targets"):
        pretrain(**data | {"targets": {}}, folder=tmp_path)
    assert PretrainConfig.from_dict(json.loads(json.dumps(asdict(QUICK)))) == QUICK
