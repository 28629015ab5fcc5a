"""The STRF layer: kernels by their formula, the plain convolution's outputs, gradients by finite differences."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from exvo.networks.strf import Strf, StrfConfig


@pytest.fixture(autouse=True)
def one_thread():
    """Threads wait for each other when tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_layer(seed=0, dtype=torch.float32, **options):
    return Strf(StrfConfig(**options), generator=torch.Generator().manual_seed(seed)).to(dtype)


def tuned_layer(rates, scales, **options):
    layer = make_layer(n_kernels=len(rates), **options)
    with torch.no_grad():
        layer.rate.copy_(torch.as_tensor(rates))
        layer.scale.copy_(torch.as_tensor(scales))
    return layer


def make_logmel(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_convolution(layer, logmel):
    padding = (layer.config.support_frames // 2, layer.config.support_channels // 2)
    return functional.conv2d(logmel[:, None], layer.kernels()[:, None], padding=padding)


def naive_kernel(rate, scale, n_frames, n_channels):
    """One complex kernel, tap by tap."""
    kernel = np.zeros((n_frames, n_channels), complex)
    for i in range(n_frames):
        for j in range(n_channels):
            window = (0.5 - 0.5 * np.cos(2 * np.pi * (i + 1) / (n_frames + 1))) * (
                0.5 - 0.5 * np.cos(2 * np.pi * (j + 1) / (n_channels + 1))
            )
            kernel[i, j] = window * np.exp(1j * (rate * (i - n_frames // 2) + scale * (j - n_channels // 2)))
    return kernel


@pytest.mark.parametrize("support", [(31, 31), (11, 5), (1, 1)])
def test_kernels_are_the_formula_with_each_part_at_unit_norm(support):
    layer = make_layer(n_kernels=4, support_frames=support[0], support_channels=support[1])
    with torch.no_grad():
        kernels = layer.kernels().numpy()
    assert kernels.shape == (8, *support)
    for index, (rate, scale) in enumerate(zip(layer.rate.tolist(), layer.scale.tolist(), strict=True)):
        expected = naive_kernel(rate, scale, *support)
        for part, drawn in ((expected.real, kernels[index]), (expected.imag, kernels[4 + index])):
            norm = np.linalg.norm(part)
            np.testing.assert_allclose(drawn, part / norm if norm > 0 else part, atol=2e-6)


def test_the_only_parameters_are_rate_and_scale_within_their_ranges():
    layer = make_layer(n_kernels=500, rate_range=(0.2, 0.4), scale_range=(-0.3, 0.1))
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"rate": (500,), "scale": (500,)}
    assert set(layer.state_dict()) == {"rate", "scale"}
    for values, low, high in ((layer.rate, 0.2, 0.4), (layer.scale, -0.3, 0.1)):
        assert low <= values.min() < low + 0.02
        assert high - 0.02 < values.max() <= high


def test_initial_values_come_from_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = make_layer(1), make_layer(1), make_layer(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.rate, again.rate) and torch.equal(first.scale, again.scale)
    assert not torch.equal(first.rate, other.rate)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3, 220, 80), {}),
        ((1, 1, 80), {}),
        ((2, 7, 13), {}),  # shorter and narrower than half a kernel
        ((2, 53, 41), {"support_frames": 9, "support_channels": 21, "n_kernels": 11}),
        ((1, 40, 1), {"support_channels": 1}),
        ((2, 0, 20), {}),
    ],
)
def test_output_equals_a_plain_convolution(shape, options):
    layer, logmel = make_layer(**options), make_logmel(*shape)
    output = layer(logmel)
    assert output.shape == (shape[0], 2 * layer.config.n_kernels, *shape[1:])
    if output.numel():
        torch.testing.assert_close(output, plain_convolution(layer, logmel), atol=1e-5, rtol=0)


def test_gradients_equal_those_through_a_plain_convolution():
    layer, logmel = make_layer(), make_logmel(3, 90, 80).requires_grad_()
    weights = make_logmel(3, 60, 90, 80, seed=1)
    wanted = (layer.rate, layer.scale, logmel)
    ours = torch.autograd.grad((layer(logmel) * weights).sum(), wanted)
    theirs = torch.autograd.grad((plain_convolution(layer, logmel) * weights).sum(), wanted)
    for mine, plain in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-5 * plain.abs().max().item(), rtol=0)


def test_gradients_of_rate_scale_and_input_match_finite_differences():
    layer = make_layer(n_kernels=3, support_frames=7, support_channels=5, dtype=torch.float64)
    logmel = make_logmel(2, 9, 6, dtype=torch.float64).requires_grad_()

    def respond(rate, scale, logmel):
        return torch.func.functional_call(layer, {"rate": rate, "scale": scale}, (logmel,))

    assert torch.autograd.gradcheck(respond, (layer.rate, layer.scale, logmel))


def test_central_differences_of_a_loss_match_the_gradient_at_full_size():
    layer = make_layer(n_kernels=2, dtype=torch.float64)
    logmel = make_logmel(2, 60, 40, dtype=torch.float64)

    def loss():
        return layer(logmel).relu().square().mean()

    gradients = torch.autograd.grad(loss(), (layer.rate, layer.scale))
    for parameter, gradient in zip((layer.rate, layer.scale), gradients, strict=True):
        for kernel in range(2):
            ends = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[kernel] += step
                    ends.append(loss().item())
                    parameter[kernel] -= step
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient[kernel].item(), rel=1e-5)


def test_a_ripple_drives_the_kernel_tuned_to_it_hardest():
    # All pairs of rates (2, 6, 12 Hz at a 10 ms hop) and scales, upward and downward ripples among them.
    pairs = [(hz, cycles) for hz in (2.0, 6.0, 12.0) for cycles in (-0.12, -0.05, 0.05, 0.12)]
    rates = [2 * math.pi * hz / 100 for hz, _ in pairs]
    scales = [2 * math.pi * cycles for _, cycles in pairs]
    layer = tuned_layer(rates, scales)
    frames, channels = torch.arange(200.0)[:, None], torch.arange(80.0)
    ripples = torch.stack(
        [torch.cos(rate * frames + scale * channels) for rate, scale in zip(rates, scales, strict=True)]
    )
    with torch.no_grad():
        response = layer(ripples)[:, :, 40:160, 20:60]
    real, imaginary = response.split(len(pairs), dim=1)
    energy = (real.square() + imaginary.square()).mean(dim=(2, 3))
    assert energy.argmax(dim=1).tolist() == list(range(len(pairs)))
    # Two to one at least, against every other kernel.
    others = energy - torch.diag(torch.full((len(pairs),), torch.inf))
    assert (energy.diagonal() > 2 * others.max(dim=1).values).all()


def test_an_impulse_returns_the_kernel_mirrored_as_cross_correlation_does():
    layer = make_layer(n_kernels=2)
    logmel = torch.zeros(1, 61, 61)
    logmel[0, 30, 30] = 1
    with torch.no_grad():
        response = layer(logmel)[0, :, 15:46, 15:46]
        torch.testing.assert_close(response, layer.kernels().flip(1, 2), atol=1e-6, rtol=0)


def test_rates_and_scales_read_in_physical_units():
    layer = tuned_layer([2 * math.pi * 0.05, math.pi / 2], [2 * math.pi * 0.125, -math.pi / 2])
    assert layer.rates_hz().tolist() == pytest.approx([5, 25])
    assert layer.rates_hz(hop_ms=20).tolist() == pytest.approx([2.5, 12.5])
    assert layer.scales_cpc().tolist() == pytest.approx([0.125, -0.25])
    assert not layer.rates_hz().requires_grad and not layer.scales_cpc().requires_grad


@pytest.mark.parametrize("value", [0.0, 1e-9, math.pi])
def test_where_the_imaginary_part_vanishes_output_and_gradients_are_finite(value):
    layer = tuned_layer([value, 0.3], [value, -0.2])
    output = layer(make_logmel(2, 40, 80))
    gradients = torch.autograd.grad(output.square().sum(), (layer.rate, layer.scale))
    assert output.isfinite().all() and all(gradient.isfinite().all() for gradient in gradients)
    norms = layer.kernels().flatten(1).norm(dim=1)
    torch.testing.assert_close(norms[[0, 1, 3]], torch.ones(3))
    assert norms[2] < 1e-3


def test_parts_have_unit_norm_away_from_the_vanishing_point():
    layer = tuned_layer([1e-3, 0.0, 1.5, math.pi], [0.0, 1e-3, -1.5, 0.0])
    norms = layer.kernels().flatten(1).norm(dim=1)
    torch.testing.assert_close(norms[[0, 1, 2, 3, 4, 5, 6]], torch.ones(7))


def test_a_clip_gives_the_same_values_alone_and_filled_up_in_a_batch():
    layer = make_layer()
    clips = [make_logmel(1, n_frames, 80, seed=n_frames) for n_frames in (9, 64, 131)]
    batch = torch.cat([functional.pad(clip, (0, 0, 0, 200 - clip.shape[1])) for clip in clips])
    with torch.no_grad():
        together = layer(batch)
        for row, clip in zip(together, clips, strict=True):
            torch.testing.assert_close(row[:, : clip.shape[1]], layer(clip)[0], atol=1e-5, rtol=0)


def test_a_loud_neighbour_in_the_batch_changes_nothing():
    layer, clip = make_layer(), make_logmel(1, 50, 80)
    with torch.no_grad():
        alone = layer(clip)[0]
        for neighbour in (1e6, torch.nan):
            both = layer(torch.cat([torch.full_like(clip, neighbour), clip]))
            assert torch.equal(both[1], alone)


def test_two_runs_give_the_same_bits():
    layer, logmel = make_layer(), make_logmel(3, 70, 80)
    results = []
    for _ in range(2):
        layer.zero_grad()
        output = layer(logmel)
        output.tanh().sum().backward()
        results.append((output.detach(), layer.rate.grad.clone(), layer.scale.grad.clone()))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_under_autocast_the_layer_stays_in_float32():
    layer, logmel = make_layer(), make_logmel(2, 40, 80)
    expected = layer(logmel)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(logmel)
        output.float().sum().backward()
    assert output.dtype == torch.float32
    assert torch.equal(output, expected)
    assert layer(logmel.bfloat16()).dtype == torch.float32


def test_gradients_of_other_memory_layouts_are_taken():
    layer, logmel = make_layer(), make_logmel(2, 40, 80)
    weights = make_logmel(2, 60, 40, 80, seed=1)
    (expected,) = torch.autograd.grad(layer(logmel), layer.rate, weights)
    (last,) = torch.autograd.grad(layer(logmel), layer.rate, weights.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
    assert torch.autograd.grad(layer(logmel).sum(), layer.rate)[0].isfinite().all()  # an expanded one


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_kernels": 0}, "n_kernels"),
        ({"support_frames": 30}, "support_frames"),
        ({"support_channels": -1}, "support_channels"),
        ({"rate_range": (1.0, 0.0)}, "rate_range"),
        ({"scale_range": (0.0, math.inf)}, "scale_range"),
    ],
)
def test_a_choice_that_cannot_be_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        StrfConfig(**options)
