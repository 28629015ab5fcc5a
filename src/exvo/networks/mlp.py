"""The challenge organisers' multitask network on utterance-level features, and its loss.

Written from the description of the ExVo 2022 Multitask baseline (Baird et al. 2022), not from its code. A
shared trunk, one small head per task, and one learned log variance per task that weighs its loss (Kendall,
Gal and Cipolla, CVPR 2018: "Multi-Task Learning Using Uncertainty to Weigh Losses").

A label may be missing for any clip. Each loss is a mean over the labels a batch has; a task without any label
in the batch takes no part in it, its ``s / 2`` included: alone in the sum, that term would only push ``s``
down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exvo.corpus.labels import EMOTIONS, TASKS, Labels

NEGATIVE_SLOPE = 0.01


class MultitaskMlp(nn.Module):
    """Trunk of Linear-LayerNorm-LeakyReLU layers; per task Linear-LeakyReLU-Linear.

    Parameters
    ----------
    n_features : int
        6,373 for ComParE 2016.
    n_countries : int
    hidden : sequence of int
        Widths of the trunk's layers.
    head : int
        Width of a head's hidden layer.
    tasks : sequence of str
        Tasks that get a head, of ``TASKS``.
    initial_log_variance : float
        Where every task's ``s`` starts.
    generator : torch.Generator, optional
        Source of the initial weights: PyTorch's default for a linear layer, U(-1/sqrt(n_in), 1/sqrt(n_in)).
    """

    def __init__(
        self,
        n_features: int,
        n_countries: int,
        *,
        hidden: Sequence[int] = (128, 64),
        head: int = 32,
        tasks: Sequence[str] = TASKS,
        initial_log_variance: float = -0.33,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()

        def linear(n_in: int, n_out: int) -> nn.Linear:
            layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=generator)
            return layer

        n_outputs = {"emotion": len(EMOTIONS), "age": 1, "country": n_countries}
        self.tasks = tuple(tasks)
        self.trunk = nn.Sequential()
        for n_in, n_out in zip((n_features, *hidden[:-1]), hidden, strict=True):
            self.trunk.extend([linear(n_in, n_out), nn.LayerNorm(n_out), nn.LeakyReLU(NEGATIVE_SLOPE)])
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    linear(hidden[-1], head), nn.LeakyReLU(NEGATIVE_SLOPE), linear(head, n_outputs[task])
                )
                for task in self.tasks
            }
        )
        self.log_variances = nn.ParameterDict(
            {task: nn.Parameter(torch.full((1,), float(initial_log_variance))) for task in self.tasks}
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return the output of each task.

        Parameters
        ----------
        features : Tensor [shape=(n, n_features)]
            Standardised.

        Returns
        -------
        dict of Tensor
            ``emotion`` (n, 10) in [0, 1]; ``age`` (n, 1) in years; ``country`` (n, n_countries), logits.
        """
        shared = self.trunk(features)
        outputs = {task: self.heads[task](shared) for task in self.tasks}
        if "emotion" in outputs:
            outputs["emotion"] = torch.sigmoid(outputs["emotion"])
        return outputs


@dataclass(frozen=True)
class Target:
    """Labels of one task as a loss reads them.

    Attributes
    ----------
    values : np.ndarray [shape=(n, n_outputs), float32]
        Intensities, years, or one 1 in the country's column; 0 where the label is not known.
    known : np.ndarray [shape=(n, n_losses), bool]
        Which labels are known: one column per emotion, one for age, one for country.
    """

    values: np.ndarray
    known: np.ndarray


def task_target(labels: Labels, task: str) -> Target:
    """Return the labels of one task as values and a mask."""
    if task == "country":
        codes = np.arange(len(labels.countries))
        return Target((labels.country[:, None] == codes).astype(np.float32), (labels.country >= 0)[:, None])
    values = labels.emotion if task == "emotion" else labels.age[:, None]
    known = ~np.isnan(values)
    return Target(np.where(known, values, 0).astype(np.float32), known)


def batch_weights(known: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the weight of each label in the mean over the labels of its batch.

    Parameters
    ----------
    known : np.ndarray [shape=(n, n_losses), bool]
        In the order of training; batches are consecutive rows, the last one may be shorter.
    batch_size : int

    Returns
    -------
    np.ndarray [shape=(n, n_losses), float32]
        1 / (labels of that column in the batch), 0 where the label is not known: every column with a label
        sums to 1 over a batch.
    """
    counts = np.add.reduceat(known, np.arange(0, len(known), batch_size), axis=0, dtype=np.int64)
    counts = np.repeat(np.maximum(counts, 1), batch_size, axis=0)[: len(known)]
    return (known / counts).astype(np.float32)


def masked_losses(
    outputs: Mapping[str, Tensor], targets: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Return the loss of each task that has a label.

    Parameters
    ----------
    outputs : mapping of task to Tensor
        As the network gives them.
    targets : mapping of task to (values, weights)
        Values as in `Target`, weights as `batch_weights` gives them.

    Returns
    -------
    dict of Tensor [shape=()]
        ``emotion``: sum over the emotions of their mean squared errors; ``age``: mean squared error, in years
        squared; ``country``: mean cross-entropy, in nats. A task without a label is not in it.
    """
    losses = {}
    for task, (values, weights) in targets.items():
        if bool((weights > 0).any()):
            if task == "country":
                errors = -(values * functional.log_softmax(outputs[task], dim=1)).sum(dim=1, keepdim=True)
            else:
                errors = (outputs[task] - values).square()
            losses[task] = (weights * errors).sum()
    return losses


def combined_loss(losses: Mapping[str, Tensor], log_variances: Mapping[str, Tensor]) -> Tensor:
    """Return ``sum_i L_i / (2 exp(s_i)) + s_i / 2`` over the tasks in ``losses``.

    Returns
    -------
    Tensor [shape=()]
    """
    terms = [
        loss / (2 * torch.exp(log_variances[task])) + log_variances[task] / 2 for task, loss in losses.items()
    ]
    return torch.cat(terms).sum()
