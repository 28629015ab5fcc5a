"""The network of a feature fusion: from one vector of each system to the outputs of all tasks.

Embeddings of training clips are over-confident, because the networks were trained on those clips. The network is
therefore regularised by dropout on the vectors, a narrow projection of each, weight decay, and dropout of complete
systems. The last follows Neverova et al., "ModDrop", TPAMI 2016.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from exvo.corpus.labels import TASKS
from exvo.networks.heads import MultitaskDecoder
from exvo.networks.torch_setup import seeded_weights
from exvo.util.settings import NO_KEY, Count, Positive, Probability


@dataclass(frozen=True)
class FeatureFusionConfig:
    """Settings of a feature-fusion network.

    Attributes
    ----------
    widths : tuple of int
        Widths of the systems' vectors, which are side by side.
    tasks : tuple of str
        Of ``emotion``, ``age``, ``country``.
    max_sd : float
        Standardised vectors are limited to +- this many SDs of the training set.
    dropout : float
        Dropout probability on the standardised vectors.
    projection : int
        Width to which a linear layer and ReLU bring each system's vector.
    system_dropout : float
        Probability that a training step omits a system of a clip; at least one is kept.
    head : int
        Width of the hidden layer of each task's head.
    head_dropout : float
        Dropout probability after the hidden layer of each head.
    """

    kind: ClassVar[str] = "feature_fusion"
    reads_vectors: ClassVar[bool] = False

    widths: Annotated[tuple[int, ...], NO_KEY]
    tasks: Annotated[tuple[str, ...], NO_KEY] = TASKS
    max_sd: Positive = 10.0
    dropout: Probability = 0.3
    projection: Count = 64
    system_dropout: Probability = 0.2
    head: Count = 64
    head_dropout: Probability = 0.2

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FeatureFusionConfig":
        """Return the config from the dict of `dataclasses.asdict`, also after JSON; missing keys have defaults."""
        return cls(
            **{**values, "widths": tuple(values["widths"]), "tasks": tuple(values.get("tasks", TASKS))}
        )

    def network(
        self,
        n_channels: int,
        n_countries: int,
        statistics: Mapping[str, Sequence[float]] | None,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> "FeatureFusionNetwork":
        """Return a network with initial weights.

        Raises
        ------
        ValueError
            Without statistics, and as `FeatureFusionNetwork`.
        """
        if statistics is None:
            raise ValueError(
                "statistics: a feature-fusion network needs mean and std of each channel over Train"
            )
        if n_channels != sum(self.widths):
            raise ValueError(f"vectors of {n_channels} channels, but the systems have {sum(self.widths)}")
        mean, std = (torch.tensor(statistics[name], dtype=torch.float32) for name in ("mean", "std"))
        return FeatureFusionNetwork(self, n_countries, mean, std, age_mean, age_std, seed)


class FeatureFusionNetwork(nn.Module):
    """Network from the vectors of several systems to the outputs of the tasks.

    Parameters
    ----------
    config : FeatureFusionConfig
    n_countries : int
    mean, std : Tensor [shape=(n_channels,)]
        Mean and SD of each channel in Train, stored with the weights. A channel with an SD of 0 is not used.
    age_mean, age_std : float
        Mean and SD of age in Train, in years, stored with the weights.
    seed : int
        Seed of the initial weights. The global random state is not changed.
    """

    mean: Tensor
    gain: Tensor

    def __init__(
        self,
        config: FeatureFusionConfig,
        n_countries: int,
        mean: Tensor,
        std: Tensor,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", mean)
        self.register_buffer("gain", torch.where(std > 0, 1 / std, 0.0))
        with seeded_weights(seed):
            self.dropout = nn.Dropout(config.dropout)
            self.projections = nn.ModuleList(nn.Linear(width, config.projection) for width in config.widths)
            # A clip is one frame, which the pooling does not change.
            self.decoder = MultitaskDecoder(
                len(config.widths) * config.projection,
                config.tasks,
                n_countries,
                d_attention=1,
                head=config.head,
                dropout=config.head_dropout,
                age_mean=age_mean,
                age_std=age_std,
            )

    def forward(self, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a batch.

        Parameters
        ----------
        vectors : Tensor [shape=(batch, 1, n_channels)]
            Concatenated vectors of the systems; the part of a system without a vector of a clip is NaN.
        lengths : Tensor [shape=(batch,), int64]
            All 1.

        Returns
        -------
        dict of Tensor [float32]
            As `exvo.networks.heads.MultitaskDecoder.forward`.
        """
        values = (vectors.float().squeeze(1) - self.mean) * self.gain
        limit = self.config.max_sd
        # NaN is replaced first, because a factor of 0 would not remove it.
        values = values.masked_fill(values.isnan(), 0.0).clamp(-limit, limit)
        parts = self.dropout(values).split(self.config.widths, dim=1)
        encoded = [functional.relu(layer(part)) for layer, part in zip(self.projections, parts, strict=True)]
        read = self._systems_read(vectors.squeeze(1)).unsqueeze(2)
        combined = (torch.stack(encoded, dim=1) * read).flatten(1)
        return self.decoder(combined.unsqueeze(1), lengths)

    def _systems_read(self, vectors: Tensor) -> Tensor:
        """Return which systems are used for each clip [shape=(batch, n_systems), bool]."""
        there = torch.stack([~part[:, 0].isnan() for part in vectors.split(self.config.widths, dim=1)], dim=1)
        if not self.training:
            return there
        kept = there & (torch.rand(there.shape, device=there.device) >= self.config.system_dropout)
        return torch.where(kept.any(dim=1, keepdim=True), kept, there)
