"""The challenge organisers' multitask network on utterance-level features.

It follows the description of the ExVo 2022 Multitask baseline (Baird et al. 2022), not its code: shared layers, and one
small head per task. Its loss is `exvo.networks.losses.CombinedLoss` with ``uncertainty``, ``mse_sum`` for emotion and
``mse`` for age.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from exvo.corpus.labels import EMOTIONS, TASKS
from exvo.util.settings import NO_KEY, Count, Items, Positive, with_tuples

NEGATIVE_SLOPE = 0.01


@dataclass(frozen=True)
class MlpConfig:
    """Settings of the organisers' network.

    Attributes
    ----------
    tasks : tuple of str
        Of ``emotion``, ``age``, ``country``.
    hidden : tuple of int
        Widths of the shared layers.
    head : int
        Width of the hidden layer of each task's head.
    max_sd : float
        Standardised features are limited to +- this many SDs of the training set (ours), because a single feature of
        another clip can be thousands of SDs from the mean.
    """

    kind: ClassVar[str] = "mlp"
    reads_vectors: ClassVar[bool] = True

    tasks: Annotated[tuple[str, ...], NO_KEY] = TASKS
    hidden: Annotated[tuple[Count, ...], Items(at_least=1)] = (128, 64)
    head: Count = 32
    max_sd: Positive = 10.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MlpConfig":
        """Return the config from the dict of `dataclasses.asdict`, also after JSON; missing keys have defaults."""
        return cls(**with_tuples(values))

    def network(
        self,
        n_channels: int,
        n_countries: int,
        statistics: Mapping[str, Sequence[float]] | None,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> "MultitaskMlp":
        """Return a network with initial weights.

        Raises
        ------
        ValueError
            Without statistics.
        """
        if statistics is None:
            raise ValueError("statistics: this network needs mean and std of each feature over Train")
        mean, std = (torch.tensor(statistics[name], dtype=torch.float32) for name in ("mean", "std"))
        return MultitaskMlp(self, n_countries, mean, std, age_mean, seed)


class MultitaskMlp(nn.Module):
    """Shared Linear-LayerNorm-LeakyReLU layers; per task Linear-LeakyReLU-Linear.

    The initial age output is the mean age of Train (ours); with a learning rate of 0.001, it would otherwise take
    epochs to reach about 30 years. The weights of a feature that is constant in Train are 0 initially, and stay 0
    because their gradient is 0. Otherwise, such a feature would affect predictions through untrained weights.

    Parameters
    ----------
    config : MlpConfig
    n_countries : int
    mean, std : Tensor [shape=(n_features,)]
        Mean and SD of each feature in Train (6,373 for ComParE 2016), stored with the weights. A constant feature has
        an SD of 0.
    age_mean : float
        Mean age in Train, in years. Not used without the task ``age``.
    seed : int
        Seed of the initial weights, which are U(-1/sqrt(n_in), 1/sqrt(n_in)), PyTorch's default for a linear layer.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, config: MlpConfig, n_countries: int, mean: Tensor, std: Tensor, age_mean: float, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def linear(n_in: int, n_out: int) -> nn.Linear:
            layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -(n_in**-0.5), n_in**-0.5, generator=generator)
            return layer

        n_outputs = {"emotion": len(EMOTIONS), "age": 1, "country": n_countries}
        self.config = config
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(std > 0, std, 1.0))
        self.trunk = nn.Sequential()
        for n_in, n_out in zip((len(mean), *config.hidden[:-1]), config.hidden, strict=True):
            self.trunk.extend([linear(n_in, n_out), nn.LayerNorm(n_out), nn.LeakyReLU(NEGATIVE_SLOPE)])
        self.heads = nn.ModuleDict(
            {
                task: nn.Sequential(
                    linear(config.hidden[-1], config.head),
                    nn.LeakyReLU(NEGATIVE_SLOPE),
                    linear(config.head, n_outputs[task]),
                )
                for task in config.tasks
            }
        )
        with torch.no_grad():
            self.get_parameter("trunk.0.weight")[:, std == 0] = 0
            if "age" in config.tasks:
                self.get_parameter("heads.age.2.bias").fill_(age_mean)

    def forward(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a batch.

        Parameters
        ----------
        features : Tensor [shape=(batch, 1, n_features)]
            As stored: finite, and not standardised.
        lengths : Tensor [shape=(batch,), int64]
            All 1; not used.

        Returns
        -------
        dict of Tensor [float32]
            ``emotion`` (batch, 10) in [0, 1]; ``age`` (batch,) in years; ``country`` (batch, n_countries), logits.
        """
        shared = self.embed(features, lengths)
        outputs = {task: head(shared).float() for task, head in self.heads.items()}
        if "emotion" in outputs:
            outputs["emotion"] = torch.sigmoid(outputs["emotion"])
        if "age" in outputs:
            outputs["age"] = outputs["age"].squeeze(1)
        return outputs

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return the utterance embeddings: the outputs of the last shared layer (batch, ``hidden[-1]``)."""
        limit = self.config.max_sd
        standard = ((features.squeeze(1).float() - self.mean) / self.scale).clamp(-limit, limit)
        return self.trunk(standard)
