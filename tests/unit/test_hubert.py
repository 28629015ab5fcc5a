"""The HuBERT encoder against torchaudio's own, clip by clip."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchaudio.models import wav2vec2_model, wavlm_model
from torchaudio.pipelines import HUBERT_BASE, HUBERT_LARGE, WAV2VEC2_BASE, WAVLM_BASE_PLUS

from exvo.features.logmel import LogmelConfig, logmel
from exvo.hubert.encoder import HubertConfig, build_hubert, hidden_states
from exvo.hubert.packed import packs

SMALL = HubertConfig(conv_channels=16, d_model=32, n_heads=4, ffn=48, n_layers=3, positional_kernel=16)
LARGE = replace(SMALL, conv_norm="layer_norm", layer_norm_first=True, normalise=True)
WAVLM = replace(SMALL, attention="wavlm")
LOGMEL = replace(SMALL, frontend="logmel", n_mels=20)
CONFIGS = {"base": SMALL, "large": LARGE, "wavlm": WAVLM, "logmel": LOGMEL}


@pytest.fixture(params=CONFIGS)
def model(request):
    model = build_hubert(CONFIGS[request.param], seed=3).eval()
    # Standard initial weights make neighbouring frames much alike: spread them, and move every bias from 0.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
        if request.param == "logmel":
            model.feature_extractor.set_moments(np.linspace(-3, -5, 20), np.linspace(2, 3, 20))
    return model


@pytest.fixture
def clips():
    rng = np.random.default_rng(1)
    lengths = (160000, 16000, 100, 401, 35000, 36000, 719, 5000)
    # The envelope makes the group norm's statistics differ from clip to clip.
    return [
        (rng.normal(size=n) * rng.uniform(0.01, 0.5) * np.hanning(n + 2)[1:-1]).astype(np.float32)
        for n in lengths
    ]


def alone(model, clip):
    """Layers 1 to n by torchaudio's own `extract_features`, batch size 1."""
    waveform = torch.from_numpy(clip)
    if model.config.normalise:
        waveform = (waveform - waveform.mean()) / (waveform.var(unbiased=False) + 1e-5).sqrt()
    waveform = torch.nn.functional.pad(waveform, (0, max(0, 400 - len(clip))))
    with torch.inference_mode():
        return torch.cat(model.extract_features(waveform[None])[0]).numpy()


def test_hidden_states_equal_torchaudio_at_batch_size_1(model, clips):
    states = hidden_states(model, clips)
    for clip, state in zip(clips, states, strict=True):
        reference = alone(model, clip)
        assert state.shape == (4, *reference.shape[1:])
        np.testing.assert_allclose(state[1:], reference, atol=1e-4)
    assert np.abs(states[0][1:]).max() > 0.1


def test_a_clip_in_a_batch_is_as_by_itself_at_every_layer(model, clips):
    together = hidden_states(model, clips, max_frames=100_000)
    for clip, state in zip(clips, together, strict=True):
        np.testing.assert_allclose(state, hidden_states(model, [clip])[0], atol=1e-4)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_how_clips_are_packed_changes_no_bit(model, clips, one_thread):
    """As a shard may end with one short clip; two of these have a single frame, and one has two."""
    together = hidden_states(model, clips, max_frames=100_000)
    for clip, state in zip(clips, together, strict=True):
        np.testing.assert_array_equal(state, hidden_states(model, [clip])[0])
    for clip, state in zip(clips[2:4], hidden_states(model, clips[2:4]), strict=True):
        np.testing.assert_array_equal(state, hidden_states(model, [clip])[0])


def test_chosen_layers_are_those_of_all(model, clips):
    some, every = hidden_states(model, clips[1:3], [2, 0]), hidden_states(model, clips[1:3])
    for a, b in zip(some, every, strict=True):
        np.testing.assert_allclose(a, b[[2, 0]], atol=1e-6)
    with pytest.raises(ValueError, match="0 to 3"):
        hidden_states(model, clips[:1], [4])


def test_training_mode_and_random_numbers_are_left_as_they_were(clips):
    state = torch.random.get_rng_state()
    model = build_hubert(SMALL, seed=0).train()
    hidden_states(model, clips[1:2])
    assert model.training and torch.equal(state, torch.random.get_rng_state())
    same = build_hubert(SMALL, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_conv_frame_counts(model, clips):
    lengths = [state.shape[1] for state in hidden_states(model, clips, [0])]
    if model.config.frontend == "logmel":
        assert lengths == [(1 + max(len(clip), 400) // 160) // 2 for clip in clips]
    else:
        assert lengths == [(max(len(clip), 400) - 400) // 320 + 1 for clip in clips]


def test_logmel_front_end_computes_the_features_of_the_workflow(clips):
    frontend = build_hubert(LOGMEL).feature_extractor
    clip = clips[4]
    frames, lengths = frontend(
        torch.from_numpy(np.stack([clip, np.full_like(clip, 0.9)])), torch.tensor([35000, 1000])
    )
    expected = logmel(clip, LogmelConfig(n_mels=20))
    n = len(expected) // 2
    assert frames.shape == (2, n, 40) and lengths.tolist() == [n, 3]
    np.testing.assert_allclose(frames[0].numpy(), expected[: 2 * n].reshape(n, 40), atol=2e-3)
    short = logmel(np.full(1000, 0.9, np.float32), LogmelConfig(n_mels=20))
    np.testing.assert_allclose(frames[1, :3].numpy(), short[:6].reshape(3, 40), atol=2e-3)


def test_logmel_front_end_starts_from_frames_too(clips):
    frontend = build_hubert(LOGMEL).feature_extractor
    mean, std = np.linspace(-3, -5, 20), np.linspace(2, 3, 20)
    frontend.set_moments(mean, std)
    stored = np.stack([logmel(clips[4], LogmelConfig(n_mels=20))])
    frames, lengths = frontend(torch.from_numpy(stored), torch.tensor([stored.shape[1]]))
    n = stored.shape[1] // 2
    expected = ((stored[0] - mean) / std)[: 2 * n].reshape(n, 40)
    np.testing.assert_allclose(frames[0].numpy(), expected, atol=1e-5)
    assert lengths.tolist() == [n]
    with pytest.raises(ValueError, match="20 finite"):
        frontend.set_moments(mean, 0 * std)


@pytest.mark.parametrize(
    ("bundle", "config"),
    [
        (HUBERT_BASE, HubertConfig()),
        (WAV2VEC2_BASE, HubertConfig()),
        (WAVLM_BASE_PLUS, HubertConfig(attention="wavlm")),
        (
            HUBERT_LARGE,
            HubertConfig(
                conv_norm="layer_norm", d_model=1024, n_heads=16, ffn=4096, n_layers=24, layer_norm_first=True
            ),
        ),
    ],
    ids=["hubert-base", "wav2vec2-base", "wavlm-base-plus", "hubert-large"],
)
def test_true_shapes_and_names_are_those_of_the_named_bundles(bundle, config):
    # The bundle's parameters are what torchaudio builds it from; two layers stand for all.
    assert config.n_layers == bundle._params["encoder_num_layers"]
    build = wavlm_model if config.attention == "wavlm" else wav2vec2_model
    with torch.device("meta"):
        model = build(**{**bundle._params, "encoder_num_layers": 2})
    expected = {name: tuple(v.shape) for name, v in model.state_dict().items()}
    small = build_hubert(replace(config, n_layers=2))
    assert {name: tuple(v.shape) for name, v in small.state_dict().items()} == expected


def test_layers_are_dropped_in_training_only():
    model = build_hubert(replace(SMALL, layer_drop=1.0, dropout=0.0), seed=0)
    frames, lengths = torch.randn(1, 9, 16), torch.tensor([9])
    outputs = model.train().layer_outputs(frames, lengths)
    assert torch.equal(outputs[2], outputs[1]) and torch.equal(outputs[3], outputs[1])
    assert not torch.equal(*model.eval().layer_outputs(frames, lengths)[2:])


def test_training_batches_give_a_clip_what_it_gets_alone(model, clips):
    frames = [model.clip_frames(torch.from_numpy(clip)) for clip in clips]
    lengths = torch.tensor([len(f) for f in frames])
    with torch.inference_mode():
        # What follows a clip's last frame takes no part.
        padded = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True, padding_value=7.0)
        outputs = model.layer_outputs(padded, lengths)
    for row, alone_states in enumerate(hidden_states(model, [clip])[0] for clip in clips):
        for output, expected in zip(outputs, alone_states, strict=True):
            np.testing.assert_allclose(output[row, : lengths[row]], expected, atol=1e-4)


def test_packs_hold_all_clips_in_order_and_are_bounded():
    clips = [torch.zeros(n, 3) for n in (5, 900, 7, 7, 6, 30, 31)]
    found = [[len(clip) for clip in pack] for pack in packs(clips, 50)]
    assert found == [[5], [900], [7, 7, 6, 30], [31]]
    assert list(packs([], 50)) == []


def test_config_says_what_is_wrong():
    with pytest.raises(ValueError, match="n_heads"):
        HubertConfig(d_model=100, n_heads=12)
    with pytest.raises(ValueError, match="frontend"):
        HubertConfig(frontend="stft")
