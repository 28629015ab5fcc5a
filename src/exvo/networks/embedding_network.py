"""The network on frozen embeddings: a weighted sum over the layers of an encoder, and a decoder per task.

Source of the sum: Peters et al., "Deep contextualized word representations", NAACL 2018, Eq. 1, without its scale. The
frames of each layer are normalised first, because the layers differ in level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from exvo.corpus.labels import TASKS
from exvo.networks.heads import MultitaskDecoder
from exvo.networks.pooling import valid_frames
from exvo.networks.torch_setup import seeded_weights
from exvo.util.settings import NO_KEY, Count, Probability


@dataclass(frozen=True)
class EmbeddingNetworkConfig:
    """Settings of a network on embeddings.

    Attributes
    ----------
    tasks : tuple of str
        Of ``emotion``, ``age``, ``country``.
    n_layers : int
        Number of layers in a frame, side by side, as the feature was computed.
    projection : int or None
        Width to which a linear layer and ReLU bring each frame before the decoder; null leaves the frame unchanged.
    dropout : float
        Dropout probability on the frames that the decoder reads.
    d_attention : int
        Width of the attention in each task's pooling.
    head : int
        Width of the hidden layer of each task's head.
    head_dropout : float
        Dropout probability after the hidden layer of each head.
    """

    kind: ClassVar[str] = "embedding"
    reads_vectors: ClassVar[bool] = False

    tasks: Annotated[tuple[str, ...], NO_KEY] = TASKS
    n_layers: Annotated[int, NO_KEY] = 1
    projection: Count | None = None
    dropout: Probability = 0.1
    d_attention: Count = 128
    head: Count = 128
    head_dropout: Probability = 0.1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EmbeddingNetworkConfig":
        """Return the config from the dict of `dataclasses.asdict`, also after JSON; missing keys have defaults."""
        return cls(**{**values, "tasks": tuple(values.get("tasks", TASKS))})

    def network(
        self,
        n_channels: int,
        n_countries: int,
        statistics: Mapping[str, Sequence[float]] | None,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> "EmbeddingNetwork":
        """Return a network with initial weights. ``statistics`` are not used: each frame is normalised by itself."""
        return EmbeddingNetwork(self, n_channels, n_countries, age_mean, age_std, seed)


class EmbeddingNetwork(nn.Module):
    """Network from frames of embeddings to the outputs of the tasks.

    Parameters
    ----------
    config : EmbeddingNetworkConfig
    n_channels : int
        Number of channels of a frame: ``n_layers`` times the width of a layer.
    n_countries : int
    age_mean, age_std : float
        Mean and SD of age in Train, in years, stored with the weights.
    seed : int
        Seed of the initial weights. The global random state is not changed.

    Raises
    ------
    ValueError
        If ``n_channels`` is not a multiple of ``n_layers``, or as in `MultitaskDecoder`.
    """

    def __init__(
        self,
        config: EmbeddingNetworkConfig,
        n_channels: int,
        n_countries: int,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> None:
        super().__init__()
        if n_channels % config.n_layers:
            raise ValueError(
                f"frames of {n_channels} channels do not hold {config.n_layers} layers of one width; "
                "extract the features again"
            )
        self.config = config
        width = n_channels // config.n_layers
        with seeded_weights(seed):
            self.layers = LayerSum(config.n_layers)
            self.projection = None if config.projection is None else nn.Linear(width, config.projection)
            self.dropout = nn.Dropout(config.dropout)
            self.decoder = MultitaskDecoder(
                config.projection or width,
                config.tasks,
                n_countries,
                d_attention=config.d_attention,
                head=config.head,
                dropout=config.head_dropout,
                age_mean=age_mean,
                age_std=age_std,
            )

    def forward(self, frames: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a padded batch. The outputs of a clip do not depend on the batch.

        Parameters
        ----------
        frames : Tensor [shape=(batch, n_frames, n_channels)]
            As stored. Values beyond the length of a clip are ignored.
        lengths : Tensor [shape=(batch,), int64]
            Number of frames of each clip, at least 1.

        Returns
        -------
        dict of Tensor [float32]
            As `MultitaskDecoder.forward`.
        """
        return self.decoder(self.encode(frames, lengths), lengths)

    def embed(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the utterance embeddings (batch, n_tasks * d), as `MultitaskDecoder.embed`."""
        return self.decoder.embed(self.encode(frames, lengths), lengths)

    def encode(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the frames that the decoder reads (batch, n_frames, d); input as in `forward`."""
        padding = ~valid_frames(lengths, frames.shape[1])
        frames = frames.float().masked_fill(padding.unsqueeze(2), 0.0)
        x = self.layers(frames.unflatten(2, (self.config.n_layers, -1)))
        if self.projection is not None:
            x = functional.relu(self.projection(x))
        return self.dropout(x)


class LayerSum(nn.Module):
    """Sum over layers with normalised frames and learned weights ``softmax(w)``.

    Parameters
    ----------
    n_layers : int
        With one layer there are no weights, and frames are only normalised.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        # Initially equal weights.
        self.weight = nn.Parameter(torch.zeros(n_layers)) if n_layers > 1 else None

    def forward(self, layers: Tensor) -> Tensor:
        """Return frames (..., d) for layers (..., n_layers, d)."""
        layers = functional.layer_norm(layers, layers.shape[-1:])
        if self.weight is None:
            return layers.squeeze(-2)
        return torch.softmax(self.weight, dim=0) @ layers
