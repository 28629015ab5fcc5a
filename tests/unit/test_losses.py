"""Losses of the tasks and their sum: values by hand, missing labels, gradients."""

import math

import numpy as np
import pytest
import torch

from exvo.evaluation.metrics import ccc
from exvo.networks.losses import CombinedLoss, LossWeights, task_losses

NAN = math.nan
TASKS = ("emotion", "age", "country")
EMOTION_LOSSES = ("mae", "mse", "ccc")


def make_outputs(n=6, n_countries=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    outputs = {
        "emotion": torch.rand(n, 10, generator=rng),
        "age": 25 + 5 * torch.randn(n, generator=rng),
        "country": torch.randn(n, n_countries, generator=rng),
    }
    return {task: output.requires_grad_(True) for task, output in outputs.items()}


def make_targets(n=6, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return {
        "emotion": torch.rand(n, 10, generator=rng),
        "age": 20 + 19 * torch.rand(n, generator=rng),
        "country": torch.randint(0, 4, (n,), generator=rng),
    }


def unlabelled(targets, task):
    missing = torch.full_like(targets[task], -1 if task == "country" else NAN)
    return {**targets, task: missing}


def example():
    """Two clips; the second one's country, and all but one of its intensities, are unknown."""
    outputs = {
        "emotion": torch.full((2, 10), 0.5),
        "age": torch.tensor([30.0, 20.0]),
        "country": torch.tensor([[0.0, math.log(3.0)], [5.0, 0.0]]),
    }
    intensities = torch.full((2, 10), NAN)
    intensities[0], intensities[1, 0] = 1.0, 0.4
    return outputs, {
        "emotion": intensities,
        "age": torch.tensor([27.0, NAN]),
        "country": torch.tensor([1, -1]),
    }


def test_losses_equal_an_example_by_hand():
    losses = task_losses(*example())
    assert losses["emotion"].item() == pytest.approx((10 * 0.5 + 0.1) / 11)
    assert losses["age"].item() == pytest.approx(3.0)
    assert losses["country"].item() == pytest.approx(math.log(4 / 3))
    assert task_losses(*example(), emotion_loss="mse")["emotion"].item() == pytest.approx(
        (10 * 0.25 + 0.01) / 11
    )


def test_weighted_sum_is_that_of_the_paper():
    total, _ = CombinedLoss()(*example())
    assert total.item() == pytest.approx(3 + 80 * 5.1 / 11 + 8 * math.log(4 / 3))
    total, _ = CombinedLoss(weights=LossWeights(age=2, emotion=0, country=1))(*example())
    assert total.item() == pytest.approx(6 + math.log(4 / 3))


def test_learned_weights_equal_the_organisers():
    loss = CombinedLoss(combination="uncertainty", initial_log_variance=0.7)
    with torch.no_grad():
        loss.log_variances["age"].fill_(-0.4)
    total, losses = loss(*example())
    by_hand = losses["age"] / (2 * math.exp(-0.4)) - 0.2
    by_hand = by_hand + (losses["emotion"] + losses["country"]) / (2 * math.exp(0.7)) + 0.7
    assert total.item() == pytest.approx(by_hand.item())


@pytest.mark.parametrize("emotion_loss", EMOTION_LOSSES)
@pytest.mark.parametrize("task", TASKS)
def test_masked_loss_is_that_of_the_labelled_clips(task, emotion_loss):
    outputs, targets = make_outputs(), make_targets()
    keep = torch.tensor([0, 2, 3])
    missing = torch.tensor([1, 4, 5])
    targets[task][missing] = -1 if task == "country" else NAN
    loss = task_losses(outputs, targets, emotion_loss=emotion_loss)[task]
    labelled = [{task: values[task][keep]} for values in (outputs, targets)]
    subset = task_losses(*labelled, emotion_loss=emotion_loss)[task]
    assert loss.item() == pytest.approx(subset.item(), rel=1e-6)
    (masked,) = torch.autograd.grad(loss, outputs[task])
    (alone,) = torch.autograd.grad(subset, outputs[task])
    torch.testing.assert_close(masked, alone)
    assert (masked[missing] == 0).all()
    assert (masked[keep] != 0).any()


@pytest.mark.parametrize("combination", ["weighted", "uncertainty"])
@pytest.mark.parametrize("emotion_loss", EMOTION_LOSSES)
@pytest.mark.parametrize("task", TASKS)
def test_a_task_without_labels_takes_no_part(task, emotion_loss, combination):
    options = {"combination": combination, "emotion_loss": emotion_loss}
    outputs, targets = make_outputs(), unlabelled(make_targets(), task)
    loss = CombinedLoss(**options)
    total, losses = loss(outputs, targets)
    total.backward()
    assert losses[task] == 0
    assert (outputs[task].grad == 0).all()
    others = tuple(other for other in TASKS if other != task)
    assert total.item() == pytest.approx(CombinedLoss(others, **options)(outputs, targets)[0].item())
    assert all(outputs[other].grad.isfinite().all() for other in others)
    if combination == "uncertainty":
        assert loss.log_variances[task].grad == 0
        assert all(loss.log_variances[other].grad != 0 for other in others)


@pytest.mark.parametrize("combination", ["weighted", "uncertainty"])
@pytest.mark.parametrize("emotion_loss", EMOTION_LOSSES)
def test_a_batch_without_any_label_gives_zero_and_no_gradient(combination, emotion_loss):
    outputs, targets = make_outputs(), make_targets()
    for task in TASKS:
        targets = unlabelled(targets, task)
    total, _ = CombinedLoss(combination=combination, emotion_loss=emotion_loss)(outputs, targets)
    total.backward()
    assert total == 0
    assert all((output.grad == 0).all() for output in outputs.values())


def test_ccc_loss_is_one_minus_the_metric():
    outputs, targets = make_outputs(40), make_targets(40)
    targets["emotion"][::3, 4] = NAN
    expected = []
    for column in range(10):
        known = ~torch.isnan(targets["emotion"][:, column])
        pair = (values["emotion"][known, column].detach().double().numpy() for values in (targets, outputs))
        expected.append(1 - ccc(*pair))
    loss = task_losses(outputs, targets, emotion_loss="ccc")["emotion"]
    assert loss.item() == pytest.approx(np.mean(expected), abs=2e-5)


def test_ccc_loss_leaves_out_emotions_with_fewer_than_two_labels():
    outputs, targets = make_outputs(), make_targets()
    targets["emotion"][1:, 3] = NAN
    targets["emotion"][:, 7] = NAN
    loss = task_losses(outputs, targets, emotion_loss="ccc")["emotion"]
    columns = [c for c in range(10) if c not in (3, 7)]
    expected = [
        1 - ccc(targets["emotion"][:, c].double().numpy(), outputs["emotion"][:, c].detach().double().numpy())
        for c in columns
    ]
    assert loss.item() == pytest.approx(np.mean(expected), abs=2e-4)
    (gradient,) = torch.autograd.grad(loss, outputs["emotion"])
    assert gradient.isfinite().all()
    assert (gradient[:, [3, 7]] == 0).all()


def test_ccc_loss_of_one_clip_is_zero_with_a_zero_gradient():
    outputs, targets = make_outputs(1), make_targets(1)
    total, _ = CombinedLoss(("emotion",), emotion_loss="ccc", combination="uncertainty")(outputs, targets)
    total.backward()
    assert total == 0
    assert (outputs["emotion"].grad == 0).all()


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_ccc_loss_is_one_where_targets_do_not_vary(level):
    constant = torch.full((5, 10), level)
    for prediction in (constant.clone(), torch.rand(5, 10), torch.full((5, 10), 0.9)):
        output = prediction.requires_grad_(True)
        loss = task_losses({"emotion": output}, {"emotion": constant}, emotion_loss="ccc")["emotion"]
        loss.backward()
        assert loss.item() == pytest.approx(1.0, abs=1e-5)
        assert output.grad.isfinite().all()


def test_perfect_predictions_cost_nothing():
    targets = make_targets()
    outputs = {"emotion": targets["emotion"].clone(), "age": targets["age"].clone()}
    for emotion_loss in EMOTION_LOSSES:
        losses = task_losses(outputs, targets, emotion_loss=emotion_loss)
        assert losses["age"] == 0
        assert losses["emotion"].item() == pytest.approx(0, abs=1e-4)


def test_tasks_without_outputs_are_not_read():
    outputs = {"age": make_outputs()["age"]}
    targets = {"age": make_targets()["age"]}
    assert set(task_losses(outputs, targets)) == {"age"}
    assert set(CombinedLoss(("age",))(outputs, targets)[1]) == {"age"}


def test_losses_are_float32_whatever_comes_in():
    outputs = {task: output.detach().bfloat16() for task, output in make_outputs().items()}
    targets = {task: t.double() if t.is_floating_point() else t for task, t in make_targets().items()}
    for emotion_loss in EMOTION_LOSSES:
        losses = task_losses(outputs, targets, emotion_loss=emotion_loss)
        assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_losses_of_the_tasks_are_for_reading_only():
    total, losses = CombinedLoss()(make_outputs(), make_targets())
    assert total.requires_grad
    assert not any(loss.requires_grad for loss in losses.values())


def test_only_learned_weights_are_parameters():
    assert list(CombinedLoss().parameters()) == []
    learned = CombinedLoss(combination="uncertainty").log_variances
    assert {task: value.item() for task, value in learned.items()} == pytest.approx(
        dict.fromkeys(TASKS, -0.33)
    )


def test_unknown_choices_are_refused_by_name():
    with pytest.raises(ValueError, match="emotion_loss"):
        task_losses(make_outputs(), make_targets(), emotion_loss="rmse")
    with pytest.raises(ValueError, match="combination"):
        CombinedLoss(combination="sum")
