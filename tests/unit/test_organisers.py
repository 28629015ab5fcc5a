"""The organisers' network: shapes, masked losses, their combination, and the hand-written step."""

import copy
import math

import numpy as np
import pytest
import torch

from exvo.corpus.labels import Country, Labels
from exvo.networks.mlp import (
    MultitaskMlp,
    batch_weights,
    combined_loss,
    masked_losses,
    task_target,
)
from exvo.training.organisers_step import OrganisersStep


@pytest.fixture(autouse=True)
def one_thread():
    """Threads wait for each other when tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_network(n_features=20, tasks=("emotion", "age", "country"), **options):
    return MultitaskMlp(n_features, 4, tasks=tasks, generator=torch.Generator().manual_seed(0), **options)


def make_labels(n, seed=0, missing=0.4):
    rng = np.random.default_rng(seed)
    emotion = rng.uniform(size=(n, 10))
    emotion[rng.uniform(size=emotion.shape) < missing] = np.nan
    age = np.where(rng.uniform(size=n) < missing, np.nan, rng.uniform(20, 39, n))
    country = np.where(rng.uniform(size=n) < missing, -1, rng.integers(0, 4, n))
    names = ("China", "South Africa", "United States", "Venezuela")
    countries = tuple(Country(code, name) for code, name in enumerate(names))
    blank = np.full(n, "")
    return Labels(np.arange(n).astype(str), blank, blank, age, country, emotion, countries)


def tensors(labels, tasks=("emotion", "age", "country")):
    """All clips as one batch."""
    targets = {task: task_target(labels, task) for task in tasks}
    return {
        task: (torch.from_numpy(t.values), torch.from_numpy(batch_weights(t.known, max(len(labels), 1))))
        for task, t in targets.items()
    }


def present(targets):
    return {task: pair for task, pair in targets.items() if (pair[1] > 0).any()}


def take_step(step, features, targets):
    """Step on the tasks that ``targets`` has; the others get labels that must not matter."""
    whole = {
        task: targets.get(task, (torch.full((len(features), 1), 9.0), torch.zeros(1))) for task in step.tasks
    }
    return step(features, *step.stack(whole), list(targets))


def autograd_step(network, optimiser, features, targets):
    losses = masked_losses(network(features), targets)
    optimiser.zero_grad(set_to_none=True)
    combined_loss(losses, network.log_variances).backward()
    optimiser.step()
    return losses


def test_network_has_the_layers_of_the_paper_and_831250_weights_on_compare():
    network = make_network(6373)
    shapes = [tuple(p.shape) for p in network.trunk.parameters()]
    assert shapes == [(128, 6373), (128,), (128,), (128,), (64, 128), (64,), (64,), (64,)]
    heads = {task: [tuple(p.shape) for p in head.parameters()] for task, head in network.heads.items()}
    for task, n_outputs in (("emotion", 10), ("age", 1), ("country", 4)):
        assert heads[task] == [(32, 64), (32,), (n_outputs, 32), (n_outputs,)]
    trunk = 6373 * 128 + 3 * 128 + 128 * 64 + 3 * 64
    per_head = 3 * (64 * 32 + 32) + 15 * 32 + 15
    assert sum(p.numel() for p in network.parameters()) == trunk + per_head + 3 == 831250
    assert [type(layer).__name__ for layer in network.trunk] == ["Linear", "LayerNorm", "LeakyReLU"] * 2
    assert all(s.item() == pytest.approx(-0.33) for s in network.log_variances.values())


def test_outputs_have_a_row_per_clip_and_emotions_lie_between_0_and_1():
    outputs = make_network()(100 * torch.randn(7, 20))
    assert {task: tuple(o.shape) for task, o in outputs.items()} == {
        "emotion": (7, 10),
        "age": (7, 1),
        "country": (7, 4),
    }
    assert ((outputs["emotion"] >= 0) & (outputs["emotion"] <= 1)).all()


def test_initial_weights_come_from_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = make_network(), make_network()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    weight = first.trunk[0].weight
    assert weight.abs().max() <= 20**-0.5 < 1.1 * weight.abs().max()


def test_losses_are_means_over_the_labels_there_are():
    labels = make_labels(3)
    labels.emotion[:] = np.nan
    labels.emotion[0, 0], labels.emotion[2, 0], labels.emotion[1, 9] = 0.5, 1.0, 0.25
    labels.age[:] = (np.nan, 30.0, 20.0)
    labels.country[:] = (2, -1, -1)
    outputs = {
        "emotion": torch.full((3, 10), 0.75),
        "age": torch.tensor([[1e6], [33.0], [25.0]]),
        "country": torch.tensor([[0.0, 0.0, math.log(5), 0.0]] * 3),
    }
    losses = masked_losses(outputs, tensors(labels))
    assert losses["emotion"].item() == pytest.approx((0.25**2 + 0.25**2) / 2 + 0.5**2)
    assert losses["age"].item() == pytest.approx((3**2 + 5**2) / 2)
    assert losses["country"].item() == pytest.approx(-math.log(5 / 8))


def test_a_task_without_labels_has_no_loss():
    labels = make_labels(3)
    labels.age[:] = np.nan
    assert set(masked_losses(make_network()(torch.randn(3, 20)), tensors(labels))) == {"emotion", "country"}


def test_batch_weights_sum_to_one_in_every_batch_with_a_label():
    known = np.array([[1, 0], [1, 0], [0, 0], [1, 1], [0, 1]], dtype=bool)
    expected = [[0.5, 0], [0.5, 0], [0, 0], [1, 1], [0, 1]]
    np.testing.assert_allclose(batch_weights(known, 2), expected)


def test_combined_loss_and_its_gradients_are_the_formula():
    losses = {"emotion": torch.tensor(2.0, requires_grad=True), "age": torch.tensor(30.0, requires_grad=True)}
    s = {task: torch.tensor([v], requires_grad=True) for task, v in (("emotion", -0.33), ("age", 1.5))}
    total = combined_loss(losses, s)
    assert total.item() == pytest.approx(2 / (2 * math.exp(-0.33)) - 0.165 + 30 / (2 * math.exp(1.5)) + 0.75)
    total.backward()
    for task, loss in losses.items():
        assert loss.grad.item() == pytest.approx(math.exp(-s[task].item()) / 2)
        assert s[task].grad.item() == pytest.approx(0.5 - loss.item() * math.exp(-s[task].item()) / 2)


@pytest.mark.parametrize("tasks", [("emotion", "age", "country"), ("emotion",), ("age",), ("country",)])
@pytest.mark.parametrize("hidden", [(128, 64), (12,), (16, 12, 8)])
def test_written_gradients_are_those_of_autograd(tasks, hidden):
    reference = make_network(tasks=tasks, hidden=hidden)
    network = copy.deepcopy(reference)
    step = OrganisersStep(network, learning_rate=1e-3, weight_decay=1e-4)
    features, targets = torch.randn(8, 20), tensors(make_labels(8), tasks)
    losses = dict(zip(tasks, step.differentiate(features, *step.stack(targets)), strict=True))
    expected = masked_losses(reference(features), targets)
    combined_loss(expected, reference.log_variances).backward()
    for task in tasks:
        torch.testing.assert_close(losses[task], expected[task], rtol=1e-5, atol=1e-6)
    for (name, ours), theirs in zip(network.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad, theirs.grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_run_of_steps_is_that_of_torch_adam_also_where_tasks_are_missing():
    reference = make_network()
    network = copy.deepcopy(reference)
    step = OrganisersStep(network, learning_rate=1e-3, weight_decay=1e-2)
    optimiser = torch.optim.Adam(reference.parameters(), lr=1e-3, weight_decay=1e-2)
    seen = set()
    for i in range(30):
        features, targets = torch.randn(2, 20), present(tensors(make_labels(2, seed=i, missing=0.7)))
        if targets:
            seen.add(tuple(targets))
            take_step(step, features, targets)
            autograd_step(reference, optimiser, features, targets)
    assert len(seen) > 2
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_batch_without_ages_leaves_the_age_head_and_its_variance_untouched():
    network = make_network()
    step = OrganisersStep(network, learning_rate=1e-2, weight_decay=1e-2)
    features, targets = torch.randn(8, 20), tensors(make_labels(8))
    take_step(step, features, targets)  # momentum that could go on
    before = copy.deepcopy(network.state_dict())
    take_step(step, features, {task: pair for task, pair in targets.items() if task != "age"})
    after = network.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name for name in after if "age" in name}.isdisjoint(moved)
    assert moved == {name for name in after if "age" not in name}


@pytest.mark.parametrize("product_type", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss_scale", [1.0, 1e-6])
def test_mixed_precision_gradients_are_close_and_do_not_underflow(product_type, loss_scale):
    # Features at which rounding moves no unit across the kink of LeakyReLU: one that crosses changes the
    # gradient by several percent, rightly.
    torch.manual_seed(13)
    reference = make_network(400, tasks=("emotion",))
    network = copy.deepcopy(reference)
    exact = OrganisersStep(reference, learning_rate=1e-3, weight_decay=0)
    mixed = OrganisersStep(network, learning_rate=1e-3, weight_decay=0, product_type=product_type)
    values, weights = tensors(make_labels(8), ("emotion",))["emotion"]
    features, targets = torch.randn(8, 400), {"emotion": (values, weights * loss_scale)}
    exact.differentiate(features, *exact.stack(targets))
    mixed.differentiate(features.to(product_type), *mixed.stack(targets))
    ours, theirs = network.trunk[0].weight.grad, reference.trunk[0].weight.grad
    assert network.trunk[0].weight.dtype == torch.float32
    assert (ours - theirs).norm() < 0.02 * theirs.norm()
