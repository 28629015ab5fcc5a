"""The Conformer encoder: sizes, padding, independence of the batch, agreement with torchaudio's layer."""

import math

import pytest
import torch
from torchaudio.models import Conformer
from torchaudio.models.conformer import ConformerLayer

from exvo.networks.conformer import ConformerBlock, ConformerConfig, ConformerEncoder, sinusoids

N_MELS = 20
SMALL = {"d_model": 16, "n_heads": 2, "ffn": 24, "n_blocks": 2, "kernel": 7, "subsampling_channels": 4}


@pytest.fixture(autouse=True)
def one_thread():
    """Threads wait for each other when tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_encoder(in_channels=1, n_mels=N_MELS, **options):
    torch.manual_seed(0)
    encoder = ConformerEncoder(ConformerConfig(**{**SMALL, **options}), in_channels, n_mels)
    with torch.no_grad():
        for parameter in encoder.parameters():  # biases at 0 would hide what they do to padded frames
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


def padded(clips, n_frames=None, fill=1e3):
    """Clips (channels, n_frames, n_mels) as a batch; what stands in the padding should not matter."""
    lengths = torch.tensor([clip.shape[1] for clip in clips])
    batch = torch.full((len(clips), clips[0].shape[0], n_frames or int(lengths.max()), N_MELS), fill)
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    return batch, lengths


def random_clips(n_clips, n_channels=1, longest=70, seed=0):
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (n_clips,), generator=rng).tolist()
    return [torch.randn(n_channels, n, N_MELS, generator=rng) for n in lengths]


@pytest.mark.parametrize("n_frames", range(1, 11))
def test_a_clip_of_any_length_gives_a_quarter_of_its_frames(n_frames):
    frames, lengths = make_encoder()(torch.randn(1, 1, n_frames, N_MELS), torch.tensor([n_frames]))
    assert lengths.tolist() == [math.ceil(n_frames / 4)]
    assert frames.shape == (1, math.ceil(n_frames / 4), SMALL["d_model"])
    assert frames.isfinite().all()


@pytest.mark.parametrize("n_mels", [1, 7, 80])
def test_any_number_of_mel_channels_fits(n_mels):
    frames, _ = make_encoder(n_mels=n_mels)(torch.randn(2, 1, 9, n_mels), torch.tensor([9, 4]))
    assert frames.shape == (2, 3, SMALL["d_model"])


@pytest.mark.parametrize("positions", ["none", "sinusoidal"])
@pytest.mark.parametrize("n_channels", [1, 6])
@pytest.mark.parametrize("fill", [1e3, math.nan])
def test_a_clip_alone_gives_what_it_gives_in_any_batch(positions, n_channels, fill):
    encoder = make_encoder(n_channels, positions=positions)
    for seed in range(3):
        clips = random_clips(6, n_channels, seed=seed)
        with torch.no_grad():
            frames, lengths = encoder(*padded(clips, n_frames=83, fill=fill))
            for clip, row, n in zip(clips, frames, lengths.tolist(), strict=True):
                alone, _ = encoder(*padded([clip]))
                torch.testing.assert_close(row[:n], alone[0], rtol=0, atol=1e-5)
                assert (row[n:] == 0).all()


def test_training_mode_does_not_mix_clips_either():
    encoder = make_encoder(dropout=0.0).train()
    clips = random_clips(5)
    frames, lengths = encoder(*padded(clips))
    for clip, row, n in zip(clips, frames, lengths.tolist(), strict=True):
        torch.testing.assert_close(row[:n], encoder(*padded([clip]))[0][0], rtol=0, atol=1e-5)


def test_a_clips_gradient_stays_within_the_clip():
    encoder = make_encoder()
    batch, lengths = padded(random_clips(4), n_frames=80, fill=0.0)
    batch.requires_grad_(True)
    frames, _ = encoder(batch, lengths)
    frames[2].square().sum().backward()
    inside = batch.grad[2, :, : lengths[2]]
    assert inside.abs().sum() > 0
    assert batch.grad.abs().sum() == inside.abs().sum()


def test_without_its_norm_the_block_is_that_of_torchaudio():
    config = ConformerConfig(**SMALL)
    torch.manual_seed(1)
    reference = ConformerLayer(16, 24, 2, 7, 0.1).eval()
    block = ConformerBlock(config).eval()
    own = {k: v for k, v in reference.state_dict().items() if not k.startswith("conv_module")}
    assert not block.load_state_dict(own, strict=False).unexpected_keys
    theirs, ours = reference.conv_module.sequential, block.conv_module
    ours.layer_norm.load_state_dict(reference.conv_module.layer_norm.state_dict())
    with torch.no_grad():
        for mine, other in (
            (ours.pointwise_in, theirs[0]),
            (ours.depthwise, theirs[2]),
            (ours.pointwise_out, theirs[5]),
        ):
            mine.weight.copy_(other.weight.reshape(mine.weight.shape))
            mine.bias.copy_(other.bias)
    theirs[3], ours.frame_norm = torch.nn.Identity(), torch.nn.Identity()
    frames, padding = torch.randn(3, 12, 16), torch.zeros(3, 12, dtype=torch.bool)
    expected = reference(frames.transpose(0, 1), padding).transpose(0, 1)
    torch.testing.assert_close(block(frames, padding), expected, rtol=0, atol=1e-5)


def test_torchaudios_own_conformer_sees_padding():
    """Why the convolution module is not theirs; if this fails, it may be again."""
    lengths = torch.tensor([5, 30])
    for group_norm in (False, True):
        torch.manual_seed(0)
        conformer = Conformer(16, 2, 24, 1, 7, use_group_norm=group_norm).eval()
        frames = torch.randn(2, 30, 16)
        frames[0, 5:] = 0
        batched, _ = conformer(frames, lengths)
        alone, _ = conformer(frames[:1, :5], lengths[:1])
        assert (batched[0, :5] - alone[0]).abs().max() > 1e-3


def test_attention_and_convolution_both_carry_information():
    encoder = make_encoder(kernel=3, n_blocks=1)
    batch, lengths = padded(random_clips(1, longest=70, seed=3))
    changed = batch.clone()
    changed[:, :, -1] += 1.0
    first = [encoder(x, lengths)[0][0, 0] for x in (batch, changed)]
    assert (first[0] - first[1]).abs().max() > 1e-4  # far out of the convolutions' reach


def test_positions_tell_equal_frames_apart():
    lengths = torch.tensor([400])
    middle = {}
    for positions in ("none", "sinusoidal"):
        frames, _ = make_encoder(positions=positions)(torch.ones(1, 1, 400, N_MELS), lengths)
        middle[positions] = (frames[0, 40] - frames[0, 60]).abs().max()
    assert middle["none"] < 1e-5
    assert middle["sinusoidal"] > 1e-2


def test_sinusoids_are_those_of_the_formula():
    table = sinusoids(5, 6)
    for t in range(5):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_runs_under_autocast(dtype):
    encoder = make_encoder().train()
    batch, lengths = padded(random_clips(3), fill=0.0)
    with torch.autocast("cpu", dtype=dtype):
        frames, _ = encoder(batch, lengths)
    frames.float().square().mean().backward()
    assert frames.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("options", "key"), [({"kernel": 30}, "kernel"), ({"n_heads": 3}, "d_model"), ({"positions": "x"}, "pos")]
)
def test_impossible_sizes_are_refused_by_name(options, key):
    with pytest.raises(ValueError, match=key):
        ConformerConfig(**{**SMALL, **options})


def test_full_size_is_the_papers():
    config = ConformerConfig()
    assert (config.d_model, config.n_heads, config.ffn, config.n_blocks, config.kernel) == (
        256,
        4,
        2048,
        6,
        31,
    )
