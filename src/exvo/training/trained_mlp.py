"""The organisers' network once trained: its config, what it holds, its predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from exvo.corpus.labels import TASKS, Country
from exvo.networks.mlp import MultitaskMlp
from exvo.networks.torch_setup import device_name, torch_threads
from exvo.training.outputs import answers
from exvo.training.standardise import Standardisation, names_digest
from exvo.util.settings import NO_KEY, Count, Device, Items, NotNegative, Positive

_PREDICT_ROWS = 1024
# Clips are predicted in blocks of this size, the last filled up with zeros: products of another size may be added in
# another order, and a clip's answer would depend, in its last bits, on which clips are in its shard.
_BLOCK_ROWS = 128
_PRODUCT_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class MlpConfig:
    """Settings of the organisers' network and its training.

    Attributes
    ----------
    tasks : tuple of str
        Tasks that the system does, of ``emotion``, ``age``, ``country``; the outputs of the others are NaN.
    hidden : tuple of int
        Widths of the shared layers.
    head : int
        Width of the hidden layer of each task's head.
    learning_rate : float
        Learning rate of Adam.
    weight_decay : float
        L2 penalty inside Adam.
    batch_size : int
        Number of clips per step.
    max_epochs : int
        Maximum number of epochs.
    patience : int
        Number of epochs without a better validation score before training stops.
    initial_log_variance : float
        Initial value of each task's learned log variance s.
    max_sd : float
        Standardised features are limited to +- this many SDs of the training set (ours).
    device : str
        ``auto`` (CUDA if there is a GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:<n>``.
    precision : {"fp32", "bf16", "fp16"}
        Mixed precision, which needs CUDA, unless ``fp32``.
    """

    tasks: Annotated[tuple[str, ...], NO_KEY] = TASKS
    hidden: Annotated[tuple[Count, ...], Items(at_least=1)] = (128, 64)
    head: Count = 32
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 1e-4
    batch_size: Count = 8
    max_epochs: Count = 20
    patience: Count = 5
    initial_log_variance: float = -0.33
    max_sd: Positive = 10.0
    device: Device = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"


@dataclass(frozen=True)
class TrainedMlp:
    """A trained network with all that prediction needs.

    Attributes
    ----------
    config : MlpConfig
    seed : int
    countries : tuple of Country
        In the order of the country probabilities.
    state : dict of Tensor
        The network's weights at the best epoch, on the CPU.
    standardisation : Standardisation
        Fitted on Train.
    history : list of dict
        Per epoch: ``epoch`` (from 1); ``loss_<task>``, the mean of the losses of its batches before each
        step; ``s_<task>`` at its end; ``val_loss`` (all of Val as one batch), ``val_ccc``, ``val_uar``,
        ``val_mae``, ``val_s_mtl``, ``val_selection``. NaN where there is nothing to measure.
    best_epoch : int
        The epoch kept, from 1.
    priors : dict
        What a clip without audio gets: ``emotion`` (mean intensities, list of 10; 0 for one never labelled),
        ``age`` (mean), ``country`` (frequencies, list); NaN for a task that the system does not do.
    n_labelled : dict of int
        Train clips with a label, per task of the system.
    untrained : tuple of str
        Tasks of the system without any label on Train (their outputs are NaN), and emotions without any
        (their output is 0).
    features_digest : str or None
        `names_digest` of the feature names, where they were given.
    """

    config: MlpConfig
    seed: int
    countries: tuple[Country, ...]
    state: dict[str, Tensor]
    standardisation: Standardisation
    history: list[dict[str, float]] = field(repr=False)
    best_epoch: int
    priors: dict[str, Any]
    n_labelled: dict[str, int]
    untrained: tuple[str, ...]
    features_digest: str | None = None

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The tasks that have a head."""
        return tuple(task for task in self.config.tasks if task not in self.untrained)


def predict_mlp(
    trained: TrainedMlp,
    features: np.ndarray,
    *,
    feature_names: Sequence[str] | None = None,
    n_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict clips.

    Parameters
    ----------
    trained : TrainedMlp
    features : np.ndarray [shape=(n_clips, n_features)]
        As they come, not standardised; finite.
    feature_names : sequence of str, optional
        Checked against those of training, where both are known.
    n_threads : int
        Threads of PyTorch during the call.

    Returns
    -------
    emotion : np.ndarray [shape=(n_clips, 10), float64]
        0 throughout for an emotion that Train has no label of.
    age : np.ndarray [shape=(n_clips,), float64]
        In years.
    country : np.ndarray [shape=(n_clips, n_countries), float64]
        Probabilities.
        A task that the system does not do, or that Train has no label of, is NaN.

    Raises
    ------
    ValueError
        If a feature is not finite, or the features are not those of training.
    """
    if None not in (feature_names, trained.features_digest) and (
        names_digest(feature_names) != trained.features_digest
    ):
        raise ValueError("features: not those the model was trained on; their names or their order differ")
    device, _ = placement(trained.config)
    n_countries = len(trained.countries)
    # A generator of its own for weights that are replaced at once: the global one stays as it was.
    network = make_network(
        trained.config,
        trained.trained_tasks,
        len(trained.standardisation.mean),
        n_countries,
        torch.Generator(),
    )
    network.load_state_dict(trained.state)
    network.to(device)
    parts = []
    with torch_threads(n_threads):
        for block, n_clips in standardised_blocks(trained, features):
            outputs = network_outputs(network, block.to(device))
            outputs = {task: values[:n_clips] for task, values in outputs.items()}
            parts.append(answers(outputs, n_clips, n_countries, trained.untrained))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def standardised_blocks(trained: TrainedMlp, features: np.ndarray) -> Iterator[tuple[Tensor, int]]:
    """Yield the features of clips as a network reads them, in blocks of one size, and how many clips are in each.

    At least one block, be it of no clip.
    """
    for start in range(0, max(len(features), 1), _BLOCK_ROWS):
        inputs = trained.standardisation.apply(features[start : start + _BLOCK_ROWS])
        block = torch.zeros(_BLOCK_ROWS, inputs.shape[1])
        block[: len(inputs)] = torch.from_numpy(inputs)
        yield block, len(inputs)


def placement(config: MlpConfig) -> tuple[torch.device, torch.dtype]:
    """Return the device and the type of the features of a config.

    Raises
    ------
    ValueError
        If the precision is unknown, or lower than fp32 without CUDA.
    """
    name = device_name(config.device)
    if config.precision not in _PRODUCT_TYPES:
        raise ValueError(f"precision: {config.precision!r} is none of {', '.join(_PRODUCT_TYPES)}")
    if config.precision != "fp32" and not name.startswith("cuda"):
        raise ValueError(f"precision: {config.precision} needs a CUDA device, not {name}: set it to fp32")
    return torch.device(name), _PRODUCT_TYPES[config.precision]


def make_network(
    config: MlpConfig, tasks: Sequence[str], n_features: int, n_countries: int, generator: torch.Generator
) -> MultitaskMlp:
    """Return a network with initial weights from ``generator``."""
    return MultitaskMlp(
        n_features,
        n_countries,
        hidden=config.hidden,
        head=config.head,
        tasks=tasks,
        initial_log_variance=config.initial_log_variance,
        generator=generator,
    )


@torch.no_grad()
def network_outputs(network: MultitaskMlp, inputs: Tensor) -> dict[str, Tensor]:
    """Return the outputs of a network for any number of clips, in parts and in float32.

    Parameters
    ----------
    network : MultitaskMlp
    inputs : Tensor [shape=(n_clips, n_features)]
        Standardised, on the network's device.
    """
    parts = [network(inputs[i : i + _PREDICT_ROWS].float()) for i in range(0, len(inputs), _PREDICT_ROWS)]
    return {task: torch.cat([part[task] for part in parts]) for task in parts[0]} if parts else {}
