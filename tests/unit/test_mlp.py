"""The organisers' network: layers, initial weights, its loss, and a step of its training."""

import copy
import math

import numpy as np
import pytest
import torch

from exvo.networks.losses import CombinedLoss
from exvo.networks.mlp import MlpConfig
from exvo.training.batches import Batch

TASKS = ("emotion", "age", "country")
NAN = math.nan


def make_network(n_features=20, std=None, seed=0, **options):
    std = [1.0] * n_features if std is None else std
    statistics = {"mean": [0.0] * n_features, "std": std}
    return MlpConfig(**options).network(n_features, 4, statistics, 30.0, 5.0, seed)


def organisers_loss(tasks=TASKS):
    return CombinedLoss(tasks, combination="uncertainty", emotion_loss="mse_sum", age_loss="mse")


def make_batch(n, seed=0, without=()):
    rng = np.random.default_rng(seed)
    targets = {
        "emotion": torch.from_numpy(rng.uniform(size=(n, 10)).astype(np.float32)),
        "age": torch.from_numpy(rng.uniform(20, 39, n).astype(np.float32)),
        "country": torch.from_numpy(rng.integers(0, 4, n)),
    }
    for task in without:
        targets[task] = torch.full_like(targets[task], -1 if task == "country" else NAN)
    labelled = tuple(task for task in TASKS if task not in without)
    frames = torch.from_numpy(rng.standard_normal((n, 1, 20)).astype(np.float32))
    return Batch(frames, torch.ones(n, dtype=torch.int64), targets, labelled, torch.arange(n))


def test_network_has_the_layers_of_the_paper_and_831250_weights_on_compare():
    network, loss = make_network(6373), organisers_loss()
    shapes = [tuple(p.shape) for p in network.trunk.parameters()]
    assert shapes == [(128, 6373), (128,), (128,), (128,), (64, 128), (64,), (64,), (64,)]
    heads = {task: [tuple(p.shape) for p in head.parameters()] for task, head in network.heads.items()}
    for task, n_outputs in (("emotion", 10), ("age", 1), ("country", 4)):
        assert heads[task] == [(32, 64), (32,), (n_outputs, 32), (n_outputs,)]
    trunk = 6373 * 128 + 3 * 128 + 128 * 64 + 3 * 64
    per_head = 3 * (64 * 32 + 32) + 15 * 32 + 15
    n_weights = sum(p.numel() for module in (network, loss) for p in module.parameters())
    assert n_weights == trunk + per_head + 3 == 831250
    assert [type(layer).__name__ for layer in network.trunk] == ["Linear", "LayerNorm", "LeakyReLU"] * 2
    assert all(s.item() == pytest.approx(-0.33) for s in loss.log_variances.values())


def test_outputs_have_a_row_per_clip_and_emotions_lie_between_0_and_1():
    outputs = make_network()(100 * torch.randn(7, 1, 20), torch.ones(7))
    shapes = {task: tuple(o.shape) for task, o in outputs.items()}
    assert shapes == {"emotion": (7, 10), "age": (7,), "country": (7, 4)}
    assert ((outputs["emotion"] >= 0) & (outputs["emotion"] <= 1)).all()


def test_initial_weights_come_from_the_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, other = make_network(), make_network(), make_network(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    weight = first.trunk[0].weight
    assert not torch.equal(weight, other.trunk[0].weight)
    assert weight.abs().max() <= 20**-0.5 < 1.1 * weight.abs().max()


def test_features_are_standardised_limited_and_read_only_where_they_vary():
    statistics = {"mean": [1.0, -2.0, 5.0], "std": [2.0, 0.0, 1.0]}
    network = MlpConfig(max_sd=3.0).network(3, 4, statistics, 30.0, 5.0, 0)
    seen = []
    network.trunk.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    network(torch.tensor([[[3.0, 4.0, 1e9]]]), torch.ones(1))
    assert seen[0].tolist() == [[1.0, 3.0, 3.0]]
    assert (network.trunk[0].weight[:, 1] == 0).all() and (network.trunk[0].weight[:, 0] != 0).all()


def test_age_starts_near_the_mean_of_train():
    age = make_network()(torch.randn(50, 1, 20), torch.ones(50))["age"]
    assert (age - 30).abs().max() < 1


def test_loss_is_the_formula_of_the_baseline_by_hand():
    targets = {
        "emotion": torch.full((3, 10), NAN),
        "age": torch.tensor([NAN, 30.0, 20.0]),
        "country": torch.tensor([2, -1, -1]),
    }
    targets["emotion"][0, 0], targets["emotion"][2, 0], targets["emotion"][1, 9] = 0.5, 1.0, 0.25
    outputs = {
        "emotion": torch.full((3, 10), 0.75),
        "age": torch.tensor([1e6, 33.0, 25.0]),
        "country": torch.tensor([[0.0, 0.0, math.log(5), 0.0]] * 3),
    }
    loss = organisers_loss()
    with torch.no_grad():
        loss.log_variances["age"].fill_(1.5)
    total, losses = loss(outputs, targets)
    emotion, age, country = (0.25**2 + 0.25**2) / 2 + 0.5**2, (3**2 + 5**2) / 2, -math.log(5 / 8)
    assert losses["emotion"].item() == pytest.approx(emotion)
    assert losses["age"].item() == pytest.approx(age)
    assert losses["country"].item() == pytest.approx(country)
    expected = age / (2 * math.exp(1.5)) + 0.75 + (emotion + country) / (2 * math.exp(-0.33)) - 0.33
    assert total.item() == pytest.approx(expected)
    total.backward()
    assert loss.log_variances["age"].grad.item() == pytest.approx(0.5 - age * math.exp(-1.5) / 2)


def test_a_batch_without_ages_leaves_the_age_head_and_its_variance_untouched():
    network, loss = make_network(), organisers_loss()
    parameters = [*network.parameters(), *loss.parameters()]
    adam = torch.optim.Adam(parameters, lr=1e-2, weight_decay=1e-2, fused=True)

    def step(batch):
        adam.zero_grad(set_to_none=True)
        loss(network(batch.frames, batch.lengths), batch.targets, batch.labelled)[0].backward()
        adam.step()
        return copy.deepcopy(network.state_dict() | {f"s.{k}": v for k, v in loss.state_dict().items()})

    before = step(make_batch(8))  # momentum that could go on
    after = step(make_batch(8, seed=1, without=("age",)))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {name for name in after if "age" not in name} - {"mean", "scale"}
