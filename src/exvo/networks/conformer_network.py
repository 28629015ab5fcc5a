"""The Conformer network: log-mel or its modulations by STRFs, a Conformer, and a decoder per task.

The decoder reads padded frames with their lengths, and works with any encoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from exvo.corpus.labels import TASKS
from exvo.networks.conformer import ConformerConfig, ConformerEncoder
from exvo.networks.heads import MultitaskDecoder
from exvo.networks.pooling import valid_frames
from exvo.networks.strf import Strf, StrfConfig
from exvo.networks.torch_setup import seeded_weights
from exvo.util.settings import NO_KEY, Count, Probability, with_tuples

# In nats. A channel with almost no variation in Train would otherwise have extreme values for other clips. Log-mel in
# float16 is rounded by up to 0.004.
LEAST_SD = 0.1


@dataclass(frozen=True)
class ConformerNetworkConfig:
    """Settings of a Conformer network.

    Attributes
    ----------
    tasks : tuple of str
        Of ``emotion``, ``age``, ``country``.
    frontend : {"logmel", "strf"}
        Input of the encoder: the standardised log-mel frames, or their modulations by learnable STRFs.
    strf : StrfConfig
        The STRF front end: Gabor kernels with learned rate and scale.
    blocks : ConformerConfig
        Size of the Conformer.
    d_attention : int
        Width of the attention in each task's pooling.
    head : int
        Width of the hidden layer of each task's head.
    head_dropout : float
        Dropout probability after the hidden layer of each head.
    """

    kind: ClassVar[str] = "conformer"
    reads_vectors: ClassVar[bool] = False

    tasks: Annotated[tuple[str, ...], NO_KEY] = TASKS
    frontend: Literal["logmel", "strf"] = "logmel"
    strf: StrfConfig = field(default_factory=StrfConfig)
    blocks: ConformerConfig = field(default_factory=ConformerConfig)
    d_attention: Count = 128
    head: Count = 128
    head_dropout: Probability = 0.1

    def __post_init__(self) -> None:
        if self.frontend not in ("logmel", "strf"):
            raise ValueError(f"frontend: {self.frontend!r} is neither logmel nor strf")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ConformerNetworkConfig":
        """Return the config from the dict of `dataclasses.asdict`, also after JSON; missing keys have defaults."""
        values = dict(values)
        for name, kind in (("strf", StrfConfig), ("blocks", ConformerConfig)):
            values[name] = kind(**with_tuples(values.get(name, {})))
        return cls(**{**values, "tasks": tuple(values.get("tasks", TASKS))})

    def network(
        self,
        n_channels: int,
        n_countries: int,
        statistics: Mapping[str, Sequence[float]] | None,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> "ConformerNetwork":
        """Return a network with initial weights.

        Raises
        ------
        ValueError
            Without statistics, and as `ConformerNetwork`.
        """
        if statistics is None:
            raise ValueError("statistics: a network on log-mel needs mean and std of each channel over Train")
        mean, std = (np.asarray(statistics[name], np.float32) for name in ("mean", "std"))
        return ConformerNetwork(self, n_channels, n_countries, mean, std, age_mean, age_std, seed)


class ConformerNetwork(nn.Module):
    """Network from log-mel frames to the outputs of the tasks.

    Parameters
    ----------
    config : ConformerNetworkConfig
    n_mels : int
    n_countries : int
    mean, std : np.ndarray or Tensor [shape=(n_mels,)]
        Mean and SD of each log-mel channel over the frames of Train, stored with the weights.
    age_mean, age_std : float
        Mean and SD of age in Train, in years, stored with the weights. The age head predicts standardised ages.
    seed : int
        Seed of the initial weights. The global random state is not changed. The initial weights of the encoder do not
        depend on the tasks.

    Raises
    ------
    ValueError
        If ``mean`` or ``std`` do not have ``n_mels`` finite numbers, or as in `MultitaskDecoder`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: ConformerNetworkConfig,
        n_mels: int,
        n_countries: int,
        mean: np.ndarray | Tensor,
        std: np.ndarray | Tensor,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.config = config
        for name, values in (("mean", mean), ("std", std)):
            values = torch.as_tensor(values, dtype=torch.float32).clone()
            if values.shape != (n_mels,) or not values.isfinite().all():
                raise ValueError(f"{name}: not {n_mels} finite numbers, one per mel channel")
            self.register_buffer(name, values.clamp(min=LEAST_SD) if name == "std" else values)
        with seeded_weights(seed):
            self.frontend = Strf(config.strf) if config.frontend == "strf" else None
            in_channels = 2 * config.strf.n_kernels if config.frontend == "strf" else 1
            self.encoder = ConformerEncoder(config.blocks, in_channels, n_mels)
            self.decoder = MultitaskDecoder(
                self.encoder.d_out,
                config.tasks,
                n_countries,
                d_attention=config.d_attention,
                head=config.head,
                dropout=config.head_dropout,
                age_mean=age_mean,
                age_std=age_std,
            )

    def forward(self, logmel: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a padded batch. The outputs of a clip do not depend on the batch.

        Parameters
        ----------
        logmel : Tensor [shape=(batch, n_frames, n_mels)]
            As stored, not standardised. Values beyond the length of a clip are ignored.
        lengths : Tensor [shape=(batch,), int64]
            Number of frames of each clip, at least 1.

        Returns
        -------
        dict of Tensor [float32]
            As `MultitaskDecoder.forward`.
        """
        return self.decoder(*self.encode(logmel, lengths))

    def embed(self, logmel: Tensor, lengths: Tensor) -> Tensor:
        """Return the utterance embeddings (batch, n_tasks * d_out), as `MultitaskDecoder.embed`."""
        return self.decoder.embed(*self.encode(logmel, lengths))

    def encode(self, logmel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return encoded frames (batch, n_out, d_out) and their lengths (batch,); input as in `forward`."""
        padding = ~valid_frames(lengths, logmel.shape[1])
        frames = ((logmel.float() - self.mean) / self.std).masked_fill(padding.unsqueeze(2), 0.0)
        # The responses of the kernels extend beyond the end of a clip; the encoder sets these frames to 0.
        channels = frames.unsqueeze(1) if self.frontend is None else self.frontend(frames)
        return self.encoder(channels, lengths)
