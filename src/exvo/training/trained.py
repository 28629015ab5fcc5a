"""The settings of a training, and a trained network with everything that prediction needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from exvo.corpus.labels import Country
from exvo.networks.losses import AgeLoss, Combination, EmotionLoss, LossWeights
from exvo.networks.torch_setup import training_device
from exvo.training.batches import SpecAugment
from exvo.training.loop import Precision
from exvo.util.settings import Count, Device, Items, NotNegative, Positive, Share, with_tuples

Optimizer = Literal["adamw", "adam"]
Schedule = Literal["cosine", "constant"]


class NetworkConfig(Protocol):
    """The interface of the config of a network, a frozen dataclass.

    Attributes
    ----------
    kind : str
        Name of the network in stored folders.
    reads_vectors : bool
        Whether the network reads one vector per clip (`exvo.training.vectors.VectorStore`), not frames.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]
    reads_vectors: ClassVar[bool]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a head."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the config from the dict of `dataclasses.asdict`, also after JSON."""

    def network(
        self,
        n_channels: int,
        n_countries: int,
        statistics: Mapping[str, Sequence[float]] | None,
        age_mean: float,
        age_std: float,
        seed: int,
    ) -> nn.Module:
        """Return a network with initial weights.

        It maps frames (batch, n_frames, n_channels) and lengths (batch,) to the outputs of the tasks, as
        `exvo.networks.heads.MultitaskDecoder` does.

        Parameters
        ----------
        n_channels, n_countries : int
        statistics : mapping or None
            ``mean`` and ``std`` of every channel over the frames of Train, for a network that needs them.
        age_mean, age_std : float
            Mean and SD of age in Train, in years.
        seed : int
            Seed of the initial weights.
        """


@dataclass(frozen=True)
class LossGrid:
    """Loss weights to choose from on the validation set: every combination is tried with a short training.

    Attributes
    ----------
    age : tuple of float
        Weights of age to try.
    emotion : tuple of float
        Weights of emotion to try.
    country : tuple of float
        Weights of country to try.
    max_epochs : int
        Number of epochs of each trial.
    """

    age: Annotated[tuple[float, ...], Items(at_least=1)] = (1.0,)
    emotion: Annotated[tuple[float, ...], Items(at_least=1)] = (40.0, 80.0, 160.0)
    country: Annotated[tuple[float, ...], Items(at_least=1)] = (4.0, 8.0, 16.0)
    max_epochs: Count = 5


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training.

    Attributes
    ----------
    batch_size : int
        Maximum number of clips per step.
    max_batch_frames : int or None
        Maximum number of frames per step, padding included; null sets no limit.
    crop_frames : int or None
        Maximum length of a training clip, in frames: each epoch takes a random stretch of a longer clip. Validation
        and prediction read the complete clip. Null takes the complete clip in training too.
    max_epochs : int
        Maximum number of epochs.
    patience : int
        Number of epochs without a better validation score before training stops.
    optimizer : {"adamw", "adam"}
        AdamW, whose weight decay is decoupled and applies to matrices and kernels only, or Adam, whose weight decay is
        an L2 penalty on all parameters.
    learning_rate : float
        Maximum learning rate.
    schedule : {"cosine", "constant"}
        Whether the learning rate rises linearly and falls to 0 along half a cosine (ours), or is constant.
    warmup_fraction : float
        Share of ``max_epochs`` in which the learning rate rises, with ``cosine``.
    weight_decay : float
        Weight decay, as ``optimizer`` applies it.
    gradient_clip : float
        Maximum norm of the gradient of all parameters together; 0 for no limit.
    combination : {"weighted", "uncertainty"}
        How the tasks' losses are added: with ``loss_weights``, or with learned uncertainties.
    loss_weights : LossWeights
        Factors of the tasks' losses, with ``weighted``.
    initial_log_variance : float
        Initial value of each task's learned log variance s, with ``uncertainty``.
    emotion_loss : {"mae", "mse", "mse_sum", "ccc"}
        Loss of emotion: mean absolute error, mean squared error, the sum over the emotions of the mean squared error of
        each, or 1 - CCC.
    age_loss : {"mae", "mse"}
        Loss of age: mean absolute error in years, or mean squared error.
    spec_augment : SpecAugment or None
        Masks over time and channels of training clips (SpecAugment); null for none, ``{}`` for the defaults.
    speed_perturbation : bool
        Whether each training clip is read at a speed of 0.9, 1.0 or 1.1, drawn anew each epoch.
    loss_weight_grid : LossGrid or None
        Grid of loss weights, tried in short trainings and chosen on the validation set, for each seed; null for none.
    device : str
        ``auto`` (CUDA if there is a GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:<n>``.
    precision : {"fp32", "bf16", "fp16"}
        Mixed precision, which needs CUDA, unless ``fp32``.
    """

    batch_size: Count = 32
    max_batch_frames: Count | None = None
    crop_frames: Count | None = 1500
    max_epochs: Count = 40
    patience: Count = 10
    optimizer: Optimizer = "adamw"
    learning_rate: Positive = 4e-4
    schedule: Schedule = "cosine"
    warmup_fraction: Share = 0.1
    weight_decay: NotNegative = 0.01
    gradient_clip: NotNegative = 5.0
    combination: Combination = "weighted"
    loss_weights: LossWeights = field(default_factory=LossWeights)
    initial_log_variance: float = -0.33
    emotion_loss: EmotionLoss = "mae"
    age_loss: AgeLoss = "mae"
    spec_augment: SpecAugment | None = None
    speed_perturbation: bool = False
    loss_weight_grid: LossGrid | None = None
    device: Device = "auto"
    precision: Precision = "fp32"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Return the config from the dict of `dataclasses.asdict`, also after JSON; missing keys have defaults."""
        values = dict(values)
        for name, kind in (
            ("loss_weights", LossWeights),
            ("spec_augment", SpecAugment),
            ("loss_weight_grid", LossGrid),
        ):
            if values.get(name) is not None:
                values[name] = kind(**with_tuples(values[name]))
        return cls(**values)

    def placement(self) -> torch.device:
        """Return the device.

        Raises
        ------
        ValueError
            If the precision is unknown, or is mixed precision without CUDA.
        """
        return training_device(self.device, self.precision, ("fp32", "fp16", "bf16"))


@dataclass(frozen=True)
class Trained:
    """A trained network with everything that prediction needs.

    Attributes
    ----------
    network_config : NetworkConfig
        With all tasks of the system, including those without labels.
    training_config : TrainingConfig
        With the loss weights in use.
    seed : int
    countries : tuple of Country
        In the order of the country probabilities.
    state : dict of Tensor
        Weights of the best epoch, and the moments of Train in the network, on the CPU.
    n_channels : int
        Channels of a frame.
    history : list of dict
        One per epoch: ``epoch`` (from 1); ``learning_rate`` of the last step; ``loss`` and ``loss_<task>``, means over
        the batches before each step; ``s_<task>`` at the end, with learned uncertainties; ``val_loss`` (all of Val as
        one batch), ``val_ccc``, ``val_uar``, ``val_mae``, ``val_s_mtl``, ``val_selection``; ``seconds``. Of these,
        ``loading_seconds`` are for batches of Train and Val, and ``network_seconds`` for steps and for forward passes
        on Val; the rest is for metrics and logs. A measure without labels is NaN.
    best_epoch : int
        Number of the best epoch, from 1.
    priors : dict
        Predictions for a clip without audio, as `exvo.training.priors.priors` returns them.
    n_labelled : dict of int
        Number of Train clips with a label, by task of the system.
    untrained : tuple of str
        Tasks of the system without labels in Train, whose outputs are NaN, and emotions without labels in Train, whose
        outputs are 0.
    features_digest : str or None
        SHA-256 of the names of utterance-level features, by which prediction refuses other features.
    strf_history : dict of np.ndarray
        ``rate`` (rad per frame) and ``scale`` (rad per channel) of every STRF kernel, before training and after each
        epoch [shape=(n_epochs + 1, n_kernels)]; empty for a network without STRFs.
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
        """Tasks with a head."""
        return tuple(task for task in self.network_config.tasks if task not in self.untrained)

    def network(self) -> nn.Module:
        """Return the network with its trained weights, on the CPU, ready to predict."""
        # Moments and weights are replaced below.
        moments = {"mean": [0.0] * self.n_channels, "std": [1.0] * self.n_channels}
        config = replace(self.network_config, tasks=self.trained_tasks)
        network = config.network(self.n_channels, len(self.countries), moments, 0.0, 1.0, self.seed)
        network.load_state_dict(self.state)
        return network.eval()
