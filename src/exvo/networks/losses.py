"""Losses of a multitask network with missing labels, and their combination.

``weighted`` is the loss of the paper, 1 * MAE(age) + 80 * MAE(emotion) + 8 * NLL(country). ``uncertainty`` learns a log
variance s per task (Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018). It
has the form of the challenge's baseline, sum_i L_i / (2 exp(s_i)) + s_i / 2 (Baird et al. 2022). The losses of that
baseline are ``mse_sum`` for emotion, ``mse`` for age and the cross-entropy of the country. For emotion, ``ccc`` is
1 - CCC over the clips of a batch (Trigeorgis et al., ICASSP 2016).

Each loss is a mean over the known labels of a batch. Nothing here waits for the device.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from exvo.corpus.labels import TASKS
from exvo.util.settings import NotNegative

EmotionLoss = Literal["mae", "mse", "mse_sum", "ccc"]
AgeLoss = Literal["mae", "mse"]
Combination = Literal["weighted", "uncertainty"]

_LEAST_SPREAD = 1e-6  # so that CCC is defined where all targets and predictions are equal


@dataclass(frozen=True)
class LossWeights:
    """Factor of each task's loss. Defaults: the paper's, for ages in years and the MAE of emotion.

    Attributes
    ----------
    age : float
        Factor of the MAE of age in years.
    emotion : float
        Factor of the loss of emotion.
    country : float
        Factor of the negative log-likelihood of the country.
    """

    age: NotNegative = 1.0
    emotion: NotNegative = 80.0
    country: NotNegative = 8.0


def known_labels(targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return which labels are known.

    Parameters
    ----------
    targets : mapping of task to Tensor
        ``emotion`` (batch, 10), NaN where unknown; ``age`` (batch,) in years, NaN where unknown; ``country``
        (batch,) int64 index of the country, -1 where unknown.

    Returns
    -------
    dict of Tensor [bool]
        In the shapes of the targets.
    """
    return {
        task: target >= 0 if task == "country" else ~torch.isnan(target) for task, target in targets.items()
    }


def task_losses(
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    *,
    emotion_loss: EmotionLoss = "mae",
    age_loss: AgeLoss = "mae",
) -> dict[str, Tensor]:
    """Return the loss of each task of the outputs.

    Parameters
    ----------
    outputs : mapping of task to Tensor
        ``emotion`` (batch, 10), ``age`` (batch,) in years, ``country`` (batch, n_countries), logits.
    targets : mapping of task to Tensor
        As in `known_labels`; it can have tasks without outputs.
    emotion_loss : {"mae", "mse", "mse_sum", "ccc"}
        Mean absolute or squared error over all known intensities; the sum over emotions of the mean squared error; or
        the mean of 1 - CCC over the emotions with at least two known intensities.
    age_loss : {"mae", "mse"}
        Mean absolute error in years, or mean squared error in years squared.

    Returns
    -------
    dict of Tensor [shape=(), float32]
        ``country``: mean negative log-likelihood, in nats. 0 for a task without a label in the batch, with a gradient
        of 0.

    Raises
    ------
    ValueError
        If a loss is unknown.
    """
    for name, value, known_values in (
        ("emotion_loss", emotion_loss, get_args(EmotionLoss)),
        ("age_loss", age_loss, get_args(AgeLoss)),
    ):
        if value not in known_values:
            raise ValueError(f"{name}: {value!r} is none of {', '.join(known_values)}")
    kinds = {"emotion": emotion_loss, "age": age_loss, "country": "nll"}
    known = known_labels({task: targets[task] for task in outputs})
    return {
        task: _loss(output.float(), targets[task], known[task], kinds[task])
        for task, output in outputs.items()
    }


def _loss(output: Tensor, target: Tensor, known: Tensor, kind: str) -> Tensor:
    """Return the loss of one task."""
    if kind == "nll":
        errors = functional.cross_entropy(output, target, ignore_index=-1, reduction="none")
        return _masked_mean(errors, known)
    # NaN is replaced before any arithmetic, because NaN times 0 is NaN, also in the gradient.
    target = target.nan_to_num(0.0).float()
    if kind == "ccc":
        return _masked_mean(1 - _batch_ccc(output, target, known), known.sum(dim=0) >= 2)
    errors = output - target
    if kind == "mse_sum":
        n_known = known.sum(dim=0).clamp(min=1)
        return (errors.square() * (known / n_known)).sum()
    return _masked_mean(errors.abs() if kind == "mae" else errors.square(), known)


def _masked_mean(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean of the known values, 0 if there are none."""
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


def _batch_ccc(output: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Return the CCC of each column over its known rows, with population moments.

    It is 0, with a gradient of 0, for a column with constant targets or with fewer than two known rows.
    """
    n_known = known.sum(dim=0).clamp(min=1)
    output_mean = torch.where(known, output, 0.0).sum(dim=0) / n_known
    target_mean = target.sum(dim=0) / n_known
    output_off = torch.where(known, output - output_mean, 0.0)
    target_off = torch.where(known, target - target_mean, 0.0)
    covariance = (output_off * target_off).sum(dim=0) / n_known
    spread = (output_off.square() + target_off.square()).sum(dim=0) / n_known
    return 2 * covariance / (spread + (output_mean - target_mean).square() + _LEAST_SPREAD)


class CombinedLoss(nn.Module):
    """Combination of the losses of the tasks.

    Parameters
    ----------
    tasks : sequence of str
        Tasks of the network.
    combination : {"weighted", "uncertainty"}
    weights : LossWeights
        Factors, for ``weighted``.
    emotion_loss : {"mae", "mse", "mse_sum", "ccc"}
    age_loss : {"mae", "mse"}
    initial_log_variance : float
        Initial s of each task, for ``uncertainty``. These are parameters of this module, which the optimizer updates.

    Raises
    ------
    ValueError
        If the combination is unknown.
    """

    def __init__(
        self,
        tasks: Sequence[str] = TASKS,
        *,
        combination: Combination = "weighted",
        weights: LossWeights = LossWeights(),
        emotion_loss: EmotionLoss = "mae",
        age_loss: AgeLoss = "mae",
        initial_log_variance: float = -0.33,
    ) -> None:
        super().__init__()
        if combination not in get_args(Combination):
            raise ValueError(f"combination: {combination!r} is none of {', '.join(get_args(Combination))}")
        self.tasks = tuple(tasks)
        self.combination = combination
        self.weights = weights
        self.emotion_loss = emotion_loss
        self.age_loss = age_loss
        learned = self.tasks if combination == "uncertainty" else ()
        self.log_variances = nn.ParameterDict(
            {task: nn.Parameter(torch.tensor(float(initial_log_variance))) for task in learned}
        )

    def forward(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        labelled: Collection[str] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the combined loss, and the loss of each task.

        Parameters
        ----------
        outputs, targets : mapping of task to Tensor
            As in `task_losses`.
        labelled : collection of str, optional
            Tasks with a label in the batch, at least one of ``tasks``. The other tasks are omitted: the gradient of
            their heads and log variances is None, and an optimizer does not change these.

        Returns
        -------
        total : Tensor [shape=(), float32]
            0, with a gradient of 0, for a batch without labels and without ``labelled``.
        losses : dict of Tensor [shape=(), float32]
            As `task_losses` returns them, without weights and detached.
        """
        outputs = {task: outputs[task] for task in self.tasks}
        losses = task_losses(outputs, targets, emotion_loss=self.emotion_loss, age_loss=self.age_loss)
        counted = {task: loss for task, loss in losses.items() if labelled is None or task in labelled}
        if self.combination == "weighted":
            total = torch.stack([getattr(self.weights, task) * loss for task, loss in counted.items()]).sum()
        else:
            s = torch.stack([self.log_variances[task] for task in counted])
            terms = torch.stack(list(counted.values())) * torch.exp(-s) / 2 + s / 2
            # A task without a loss is omitted, because s / 2 alone would only decrease s.
            if labelled is None or self.emotion_loss == "ccc":
                takes_part = self._takes_part(targets)
                terms = terms * torch.stack([takes_part[task] for task in counted])
            total = terms.sum()
        return total, {task: loss.detach() for task, loss in losses.items()}

    def _takes_part(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return whether each task has the labels that its loss needs, as boolean tensors."""
        known = known_labels({task: targets[task] for task in self.tasks})
        takes_part = {task: mask.any() for task, mask in known.items()}
        if "emotion" in known and self.emotion_loss == "ccc":
            takes_part["emotion"] = (known["emotion"].sum(dim=0) >= 2).any()
        return takes_part
