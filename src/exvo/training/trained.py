"""The choices of a training, and a trained network with all that prediction needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from exvo.corpus.labels import Country
from exvo.networks.losses import AgeLoss, Combination, EmotionLoss, LossWeights
from exvo.networks.torch_setup import device_name
from exvo.training.batches import SpecAugment
from exvo.training.loop import Precision

Optimizer = Literal["adamw", "adam"]
Schedule = Literal["cosine", "constant"]


class NetworkConfig(Protocol):
    """What training asks of the config of a network, a frozen dataclass.

    Attributes
    ----------
    kind : str
        Name of the class, for storage.
    reads_vectors : bool
        Whether a clip is one vector (`exvo.training.vectors.VectorStore`), not a number of frames.
    tasks : tuple of str
    """

    kind: ClassVar[str]
    reads_vectors: ClassVar[bool]
    tasks: tuple[str, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the config that `dataclasses.asdict` wrote, also by way of JSON."""

    def network(
        self,
        n_channels: int,
        n_countries: int,
        statistics: Mapping[str, Sequence[float]] | None,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> nn.Module:
        """Return a network before its first step.

        It maps frames (batch, n_frames, n_channels) and lengths (batch,) to the outputs of the tasks, as
        `exvo.networks.heads.MultitaskDecoder`.

        Parameters
        ----------
        n_channels, n_countries : int
        statistics : mapping or None
            ``mean`` and ``std`` of every channel over the frames of Train, for a network that reads them.
        age_mean, age_std : float
            Of Train, in years.
        seed : int
            Of the initial weights.
        """


@dataclass(frozen=True)
class LossGrid:
    """Loss weights to choose from on Val: every combination is tried with a short training.

    Attributes
    ----------
    age, emotion, country : tuple of float
        Values to try; only those of tasks that the system does and Train has labels of count.
    max_epochs : int
        Of each trial.
    """

    age: tuple[float, ...] = (1.0,)
    emotion: tuple[float, ...] = (40.0, 80.0, 160.0)
    country: tuple[float, ...] = (4.0, 8.0, 16.0)
    max_epochs: int = 5


@dataclass(frozen=True)
class TrainingConfig:
    """Choices of a training; each is a key of the config file.

    Attributes
    ----------
    batch_size : int
        Clips a step, at most.
    max_batch_frames : int or None
        Frames a step, padding included, at most; None sets no such bound.
    crop_frames : int or None
        Of a longer clip, training takes a random stretch of so many frames each epoch; validation and prediction
        take all of it.
    max_epochs : int
    patience : int
        Epochs without a better validation before training stops.
    optimizer : {"adamw", "adam"}
        AdamW, whose weight decay is decoupled and holds for matrices and kernels only, or Adam, whose weight decay is
        an L2 penalty on all parameters.
    learning_rate : float
        Highest learning rate.
    schedule : {"cosine", "constant"}
        The learning rate rises linearly and falls to 0 along half a cosine (ours), or stays as it is.
    warmup_fraction : float
        Share of ``max_epochs`` in which the learning rate rises, with ``cosine``.
    weight_decay : float
        Weight decay, as ``optimizer`` defines it.
    gradient_clip : float
        Largest norm of the gradient of all parameters together; 0 for no limit.
    combination : {"weighted", "uncertainty"}
        How the losses of the tasks are added: by ``loss_weights``, or by weights that are learned.
    loss_weights : LossWeights
    initial_log_variance : float
        Start of the log variances that are learned, with ``uncertainty``.
    emotion_loss : {"mae", "mse", "mse_sum", "ccc"}
    age_loss : {"mae", "mse"}
    spec_augment : SpecAugment or None
        Masks over the frames of Train.
    speed_perturbation : bool
        Take each Train clip at a speed drawn anew each epoch.
    loss_weight_grid : LossGrid or None
        Choose the loss weights on Val before training.
    device : str
        ``auto`` (CUDA if there is one, else CPU), ``cpu``, ``cuda`` or ``cuda:<n>``.
    precision : {"fp32", "fp16", "bf16"}
        Precision of matrix products and convolutions; mixed precision needs CUDA.
    """

    batch_size: int = 32
    max_batch_frames: int | None = None
    crop_frames: int | None = 1500
    max_epochs: int = 40
    patience: int = 10
    optimizer: Optimizer = "adamw"
    learning_rate: float = 4e-4
    schedule: Schedule = "cosine"
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    gradient_clip: float = 5.0
    combination: Combination = "weighted"
    loss_weights: LossWeights = field(default_factory=LossWeights)
    initial_log_variance: float = -0.33
    emotion_loss: EmotionLoss = "mae"
    age_loss: AgeLoss = "mae"
    spec_augment: SpecAugment | None = None
    speed_perturbation: bool = False
    loss_weight_grid: LossGrid | None = None
    device: str = "auto"
    precision: Precision = "fp32"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Return the config that `dataclasses.asdict` wrote, also by way of JSON; left out means default."""
        values = dict(values)
        for name, kind in (
            ("loss_weights", LossWeights),
            ("spec_augment", SpecAugment),
            ("loss_weight_grid", LossGrid),
        ):
            if values.get(name) is not None:
                options = values[name].items()
                values[name] = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in options})
        return cls(**values)

    def placement(self) -> torch.device:
        """Return the device.

        Raises
        ------
        ValueError
            If the precision is unknown, or mixed without CUDA.
        """
        name = device_name(self.device)
        if self.precision not in ("fp32", "fp16", "bf16"):
            raise ValueError(f"precision: {self.precision!r} is none of fp32, fp16, bf16")
        if self.precision != "fp32" and not name.startswith("cuda"):
            raise ValueError(f"precision: {self.precision} needs a CUDA device, not {name}: set it to fp32")
        return torch.device(name)


@dataclass(frozen=True)
class Trained:
    """A trained network with all that prediction needs.

    Attributes
    ----------
    network_config : NetworkConfig
        With all tasks of the system, those without labels too.
    training_config : TrainingConfig
        With the loss weights that were used.
    seed : int
    countries : tuple of Country
        In the order of the country probabilities.
    state : dict of Tensor
        The network's weights at the best epoch, and the moments of Train that it holds, on the CPU.
    n_channels : int
        Of a frame.
    history : list of dict
        Per epoch: ``epoch`` (from 1); ``learning_rate`` at its end; ``loss`` and ``loss_<task>``, the means of its
        batches before each step; ``s_<task>`` at its end where the weights are learned; ``val_loss`` (all of Val as
        one batch), ``val_ccc``, ``val_uar``, ``val_mae``, ``val_s_mtl``, ``val_selection``; ``seconds``, of which
        ``loading_seconds`` for batches of Train and Val and ``network_seconds`` for steps and for the forward
        passes of Val (the rest: metrics and logs). NaN where there is nothing to measure.
    best_epoch : int
        The epoch kept, from 1.
    priors : dict
        What a clip without audio gets, as `exvo.training.priors.priors` gives it.
    n_labelled : dict of int
        Train clips with a label, per task of the system.
    untrained : tuple of str
        Tasks of the system without any label on Train (their outputs are NaN), and emotions without any (their
        output is 0).
    features_digest : str or None
        SHA-256 of the names of utterance-level features, so that prediction refuses other features.
    strf_history : dict of np.ndarray
        ``rate`` (rad per frame) and ``scale`` (rad per channel) of every STRF kernel before training and after
        each epoch [shape=(n_epochs + 1, n_kernels)]; empty for a network without such a front end.
    """

    network_config: NetworkConfig
    training_config: TrainingConfig
    seed: int
    countries: tuple[Country, ...]
    state: dict[str, Tensor]
    n_channels: int
    history: list[dict[str, float]] = field(repr=False)
    best_epoch: int
    priors: dict[str, Any]
    n_labelled: dict[str, int]
    untrained: tuple[str, ...]
    features_digest: str | None = None
    strf_history: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The tasks that have a head."""
        return tuple(task for task in self.network_config.tasks if task not in self.untrained)

    def network(self) -> nn.Module:
        """Return the network with its trained weights, on the CPU, ready to predict."""
        # Moments and weights are replaced at once.
        moments = {"mean": [0.0] * self.n_channels, "std": [1.0] * self.n_channels}
        config = replace(self.network_config, tasks=self.trained_tasks)
        network = config.network(self.n_channels, len(self.countries), moments, 0.0, 1.0, self.seed)
        network.load_state_dict(self.state)
        return network.eval()
