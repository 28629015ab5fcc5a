"""Self-attentive pooling: the formula, and frames that do not belong to a clip."""

import math

import numpy as np
import pytest
import torch

from exvo.networks.pooling import SelfAttentivePooling, valid_frames


def make_pooling(d_in=5, d_attention=4):
    torch.manual_seed(0)
    return SelfAttentivePooling(d_in, d_attention)


def test_valid_frames_are_those_before_the_length():
    assert valid_frames(torch.tensor([1, 3]), 4).tolist() == [
        [True, False, False, False],
        [True] * 3 + [False],
    ]


def test_equals_an_example_by_hand():
    pooling = make_pooling(2, 2)
    with torch.no_grad():
        pooling.project.weight.copy_(torch.tensor([[1.0, 0.0], [0.5, -1.0]]))
        pooling.score.weight.copy_(torch.tensor([[2.0, 1.0]]))
    # Scores: 2 tanh(0) + tanh(0) = 0, and 2 tanh(1) + tanh(0.5 - 2).
    frames = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]])
    odds = math.exp(2 * math.tanh(1) + math.tanh(-1.5))
    share = odds / (1 + odds)
    pooled, weights = pooling(frames, torch.tensor([2]), return_weights=True)
    assert weights[0].tolist() == pytest.approx([1 - share, share])
    assert pooled[0].tolist() == pytest.approx([share, 2 * share])


def test_equals_the_formula_in_numpy():
    pooling = make_pooling()
    frames = torch.randn(3, 7, 5)
    w, v = pooling.project.weight.detach().numpy(), pooling.score.weight.detach().numpy()[0]
    lengths = [7, 1, 4]
    pooled, weights = pooling(frames, torch.tensor(lengths), return_weights=True)
    for row, n in enumerate(lengths):
        h = frames[row, :n].numpy()
        e = np.exp(np.tanh(h @ w.T) @ v)
        np.testing.assert_allclose(weights[row, :n].detach(), e / e.sum(), atol=1e-6)
        np.testing.assert_allclose(pooled[row].detach(), (e / e.sum()) @ h, atol=1e-6)
        assert (weights[row, n:] == 0).all()


@pytest.mark.parametrize("fill", [1e4, math.nan, math.inf])
def test_padding_has_no_effect_on_output_or_gradient(fill):
    pooling = make_pooling()
    clip = torch.randn(1, 6, 5)
    longer = torch.cat((clip, torch.full((1, 9, 5), fill)), dim=1).requires_grad_(True)
    gradients = []
    for frames in (clip, longer):
        pooling.zero_grad()
        pooled = pooling(frames, torch.tensor([6]))
        pooled.square().sum().backward()
        gradients.append([p.grad.clone() for p in pooling.parameters()])
        torch.testing.assert_close(pooled, pooling(clip, torch.tensor([6])))
    torch.testing.assert_close(*gradients)
    assert (longer.grad[:, 6:] == 0).all()


def test_a_clip_of_one_frame_gives_that_frame():
    frames = torch.randn(2, 8, 5)
    torch.testing.assert_close(make_pooling()(frames, torch.tensor([1, 1])), frames[:, 0])


def test_weights_stay_float32_under_autocast():
    pooling, frames = make_pooling(), torch.randn(2, 300, 5)
    lengths = torch.tensor([300, 20])
    exact, expected = pooling(frames, lengths, return_weights=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled, weights = pooling(frames, lengths, return_weights=True)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(weights, expected, rtol=0.05, atol=1e-3)
    torch.testing.assert_close(pooled.float(), exact, rtol=0.05, atol=0.02)
