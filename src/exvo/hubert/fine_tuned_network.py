"""A fine-tuned HuBERT encoder with a decoder and a frozen front end.

The frames of the frozen front end are computed once and stored, like any feature. The network starts with the
projection and the transformer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from exvo.corpus.labels import TASKS
from exvo.hubert.encoder import Hubert, HubertConfig, build_hubert
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.util.settings import NotNegative, Share


@dataclass(frozen=True)
class FineTune:
    """How the encoder is fine-tuned.

    Attributes
    ----------
    learning_rate_share : float
        Learning rate of the encoder as a share of ``learning_rate``.
    layer_drop : float
        Probability that a layer is skipped in a training step.
    """

    learning_rate_share: NotNegative = 0.05
    layer_drop: Share = 0.1


@dataclass(frozen=True)
class FineTunedConfig:
    """Settings of a fine-tuned network.

    Attributes
    ----------
    hubert : HubertConfig
        Of the encoder, as its weights give it.
    weights : str
        SHA-256 of the weights from which training starts.
    layers : tuple of int
        Hidden states that the decoder reads, as a learned weighted sum.
    fine_tune : FineTune
    tasks, projection, dropout, d_attention, head, head_dropout
        As in `exvo.networks.embedding_network.EmbeddingNetworkConfig`.
    """

    kind: ClassVar[str] = "fine_tuned"
    reads_vectors: ClassVar[bool] = False

    hubert: HubertConfig
    weights: str
    layers: tuple[int, ...]
    fine_tune: FineTune = field(default_factory=FineTune)
    tasks: tuple[str, ...] = TASKS
    projection: int | None = None
    dropout: float = 0.1
    d_attention: int = 128
    head: int = 128
    head_dropout: float = 0.1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FineTunedConfig":
        """Return the config from the dict of `dataclasses.asdict`, also after JSON; missing keys have defaults."""
        parts = {
            "hubert": HubertConfig(**values["hubert"]),
            "fine_tune": FineTune(**values.get("fine_tune", {})),
            "layers": tuple(values["layers"]),
            "tasks": tuple(values.get("tasks", TASKS)),
        }
        return cls(**{**values, **parts})

    def network(
        self,
        n_channels: int,
        n_countries: int,
        statistics: Mapping[str, Sequence[float]] | None,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> "FineTunedNetwork":
        """Return a network with random weights, including the encoder. ``statistics`` are not used."""
        return FineTunedNetwork(self, n_channels, n_countries, age_mean, age_std, seed)


class FineTunedNetwork(nn.Module):
    """Network from frames of the front end to the outputs of the tasks.

    Parameters
    ----------
    config : FineTunedConfig
    n_channels : int
        Channels of a frame of the front end.
    n_countries : int
    age_mean, age_std : float
        Mean and SD of age in Train, in years, stored with the weights.
    seed : int
        Seed of the initial weights. The global random state is not changed.

    Raises
    ------
    ValueError
        If the encoder expects frames of another width, or lacks a layer.
    """

    def __init__(
        self,
        config: FineTunedConfig,
        n_channels: int,
        n_countries: int,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> None:
        super().__init__()
        config.hubert.check_layers(config.layers)
        self.config = config
        self.hubert = build_hubert(config.hubert, seed)
        self.hubert.feature_extractor = nn.Identity()
        self.hubert.encoder.transformer.layer_drop = config.fine_tune.layer_drop
        width = self.hubert.encoder.feature_projection.projection.in_features
        if n_channels != width:
            raise ValueError(
                f"frames have {n_channels} channels, but the encoder expects {width}; extract the features again"
            )
        decoder = EmbeddingNetworkConfig(
            tasks=config.tasks,
            n_layers=len(config.layers),
            projection=config.projection,
            dropout=config.dropout,
            d_attention=config.d_attention,
            head=config.head,
            head_dropout=config.head_dropout,
        )
        d_embedding = len(config.layers) * config.hubert.d_model
        self.decoder = decoder.network(d_embedding, n_countries, None, age_mean, age_std, seed)

    def load_encoder(self, pretrained: Hubert) -> None:
        """Copy the weights of an encoder with the same config."""
        self.hubert.encoder.load_state_dict(pretrained.encoder.state_dict())

    def learning_rate_shares(self) -> dict[nn.Parameter, float]:
        """Return the parameters with a reduced learning rate, and their share of the learning rate."""
        return dict.fromkeys(self.hubert.parameters(), self.config.fine_tune.learning_rate_share)

    def forward(self, frames: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the outputs of a padded batch. The outputs of a clip do not depend on the batch.

        Parameters
        ----------
        frames : Tensor [shape=(batch, n_frames, n_channels)]
            Frames of the front end, with finite padding beyond the length of a clip.
        lengths : Tensor [shape=(batch,), int64]
            Frames of each clip, at least 1.

        Returns
        -------
        dict of Tensor [float32]
            As for `exvo.networks.heads.MultitaskDecoder.forward`.
        """
        return self.decoder(self.encode(frames, lengths), lengths)

    def embed(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the utterance embeddings (batch, n_tasks * d), as for `MultitaskDecoder.embed`."""
        return self.decoder.embed(self.encode(frames, lengths), lengths)

    def encode(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the concatenated hidden states for the decoder (batch, n_frames, n_layers * d_model)."""
        layers = self.config.layers
        outputs = self.hubert.layer_outputs(frames.float(), lengths, max(layers))
        return torch.cat([outputs[layer] for layer in layers], dim=2)
