"""Steps of the training loop: mixed precision, the limit of the gradient, parameters without a gradient."""

import copy

import pytest
import torch
from torch import nn

from exvo.training.loop import Loop, parameter_groups

CPU = torch.device("cpu")


class Batch:
    """A factor of the loss."""

    def __init__(self, factor):
        self.factor = factor

    def to(self, device):
        return self


class Learner:
    """A linear layer whose loss is a factor times its outputs; a second layer takes no part."""

    def __init__(self, factors):
        torch.manual_seed(0)
        self.module = nn.ModuleDict({"used": nn.Linear(4, 3), "unused": nn.Linear(2, 2)})
        self.factors = factors
        self.types = []

    def batches(self, epoch):
        return [Batch(factor) for factor in self.factors]

    def before_step(self, loop):
        return 0.1

    def loss(self, batch):
        outputs = self.module["used"](torch.ones(2, 4))
        self.types.append(outputs.dtype)
        return outputs.float().square().sum() * batch.factor

    def report(self, loop):
        pass

    def finished(self, loop):
        return loop.epoch > 0

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def trained(factors, precision="fp32", gradient_clip=0.0, kind=torch.optim.AdamW):
    learner = Learner(factors)
    groups = parameter_groups(dict.fromkeys(learner.module.parameters(), 1.0), 0.1)
    options = {"fused": True} if kind is torch.optim.AdamW else {}
    loop = Loop(
        learner, kind(groups, lr=0.1, **options), device=CPU, precision=precision, gradient_clip=gradient_clip
    )
    states = []
    loop.run(lambda state: states.append(copy.deepcopy(state)))
    return learner, states[-1]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_matrix_products_have_the_precision_and_weights_stay_float32(precision):
    learner, _ = trained([1.0], precision)
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    assert learner.types == [types[precision]]
    assert {p.dtype for p in learner.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("gradient_clip", [0.0, 1e-3])
@pytest.mark.parametrize("factor", [1e-3, 1e-8])
def test_gradients_of_mixed_precision_are_those_of_float32(precision, gradient_clip, factor):
    """Without the scale of the loss, a small gradient would be 0 in float16; the limit is of unscaled gradients."""
    exact, mixed = (
        trained([factor], p, gradient_clip, torch.optim.SGD)[0].module["used"].weight.grad
        for p in ("fp32", precision)
    )
    assert (mixed - exact).norm() < 0.02 * exact.norm()


def test_the_gradient_is_limited_over_all_parameters():
    gradients = [p.grad for p in trained([10.0], gradient_clip=0.5)[0].module["used"].parameters()]
    assert torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item() == pytest.approx(0.5)


@pytest.mark.parametrize("gradient_clip", [0.0, 0.5])
def test_a_gradient_that_overflows_is_left_out_and_the_scale_lowered(gradient_clip):
    once, first = trained([1e-3], "fp16", gradient_clip)
    again, second = trained([1e-3, 1e38], "fp16", gradient_clip)
    for name, value in once.module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[name], value, rtol=0, atol=0)
    assert second["scaler"]["scale"] == first["scaler"]["scale"] / 2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_parameter_without_a_gradient_is_left_alone(precision):
    learner, state = trained([1e-3] * 3, precision, gradient_clip=0.5)
    assert torch.equal(learner.module["unused"].weight, Learner([]).module["unused"].weight)
    assert len(state["optimizer"]["state"]) == 2
