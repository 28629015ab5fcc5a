"""The decoder of networks on frames: attentive pooling and a small head for each task.

It follows any encoder with padded frames and their lengths as output.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from exvo.corpus.labels import EMOTIONS, TASKS
from exvo.networks.pooling import SelfAttentivePooling


class MultitaskDecoder(nn.Module):
    """For each task, attentive pooling and Linear-ReLU-dropout-Linear.

    Parameters
    ----------
    d_in : int
        Width of an encoded frame.
    tasks : sequence of str
        Of ``TASKS``, at least one.
    n_countries : int
    d_attention, head, dropout : int, int, float
        As in `ConformerNetworkConfig`.
    age_mean, age_std : float
        Mean and SD of age in years; an SD of 0 is replaced by 1. Not used without the task ``age``.

    Raises
    ------
    ValueError
        If a task is unknown or there is none, or if mean or SD are not finite with the task ``age``.
    """

    def __init__(
        self,
        d_in: int,
        tasks: Sequence[str],
        n_countries: int,
        *,
        d_attention: int = 128,
        head: int = 128,
        dropout: float = 0.1,
        age_mean: float = 0.0,
        age_std: float = 1.0,
    ) -> None:
        super().__init__()
        if not tasks or set(tasks) - set(TASKS):
            raise ValueError(f"tasks: {list(tasks)} should be one or more of {', '.join(TASKS)}")
        if "age" in tasks and not np.isfinite([age_mean, age_std]).all():
            raise ValueError(
                f"age: mean {age_mean} and SD {age_std} of Train; without labels, leave the task out"
            )
        n_outputs = {"emotion": len(EMOTIONS), "age": 1, "country": n_countries}
        self.tasks = tuple(tasks)
        self.poolings = nn.ModuleDict({task: SelfAttentivePooling(d_in, d_attention) for task in self.tasks})
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Linear(d_in, head), nn.ReLU(), nn.Dropout(dropout), nn.Linear(head, n_outputs[task])
                )
                for task in self.tasks
            }
        )
        if "age" in self.tasks:
            self.register_buffer("age_mean", torch.tensor(float(age_mean)))
            self.register_buffer("age_std", torch.tensor(float(age_std) or 1.0))

    def forward(self, frames: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the output of each task.

        Parameters
        ----------
        frames : Tensor [shape=(batch, n_frames, d_in)]
            Values beyond the length of a clip are ignored.
        lengths : Tensor [shape=(batch,), int64]
            At least 1 each.

        Returns
        -------
        dict of Tensor [float32]
            ``emotion`` (batch, 10) in [0, 1]; ``age`` (batch,) in years; ``country`` (batch, n_countries),
            logits.
        """
        # In float32 also with autocast, because bfloat16 has a resolution of a quarter of a year at 35 years.
        raw = {task: self.heads[task](pooled).float() for task, pooled in self.pool(frames, lengths).items()}
        if "emotion" in raw:
            raw["emotion"] = torch.sigmoid(raw["emotion"])
        if "age" in raw:
            raw["age"] = self.age_mean + self.age_std * raw["age"].squeeze(1)
        return raw

    def pool(self, frames: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return each task's vector after self-attentive pooling (batch, d_in); input as in `forward`."""
        return {task: self.poolings[task](frames, lengths) for task in self.tasks}

    def embed(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the utterance embeddings: the vectors of `pool` side by side (batch, n_tasks * d_in)."""
        return torch.cat(list(self.pool(frames, lengths).values()), dim=1)
