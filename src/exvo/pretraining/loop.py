"""The training loop of masked prediction: steps, learning rate, curves, and the state in a checkpoint.

A step depends only on the weights, the moments of the optimiser, its number and its batch. Batches depend on the epoch
and the seed. A run that resumes from a checkpoint therefore ends with the same bits as an uninterrupted run.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from exvo.networks.torch_setup import device_name
from exvo.pretraining.batches import HELD_OUT, MaskConfig, MaskedBatch, MaskedClips
from exvo.pretraining.masked_prediction import N_SUMS, MaskedPrediction

logger = logging.getLogger(__name__)

# Betas and epsilon of AdamW, as in HuBERT.
_BETAS, _EPSILON = (0.9, 0.98), 1e-6
# Names of the measures of `MaskedPrediction` in a row of the curves.
_MEASURES = ("loss", "masked_accuracy", "unmasked_accuracy")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a pre-training; each is a key of the config file.

    Attributes
    ----------
    max_steps : int
        Steps; the learning rate is 0 after the last one.
    max_batch_frames : int
        Frames of 20 ms in a step, padding included.
    crop_frames : int or None
        Of a longer clip, a random stretch of so many frames is taken in each epoch.
    mask : MaskConfig
    unmasked_weight : float
        Of the loss over frames that are not masked.
    learning_rate : float
        Of AdamW at its highest; it rises linearly and falls linearly to 0.
    warmup_fraction : float
        Share of ``max_steps`` in which it rises.
    weight_decay : float
        Of matrices and kernels, and not of biases and gains.
    gradient_clip : float
        Largest norm of the gradient; 0 for no limit.
    heldout_share : float
        Share of the speakers whose clips are not trained on, at least one speaker: the curves' held-out part.
    report_every : int
        Steps between rows of the curves, each with a checkpoint.
    device : str
        ``auto`` (CUDA if there is one, else CPU), ``cpu``, ``cuda`` or ``cuda:<n>``.
    precision : {"fp32", "bf16"}
        Mixed precision needs CUDA: on CPUs without matrix units bfloat16 is ten times slower.
    """

    max_steps: int = 20_000
    max_batch_frames: int = 1600
    crop_frames: int | None = 300
    mask: MaskConfig = field(default_factory=MaskConfig)
    unmasked_weight: float = 0.0
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.08
    weight_decay: float = 0.01
    gradient_clip: float = 5.0
    heldout_share: float = 0.02
    report_every: int = 500
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PretrainConfig":
        """Return the config from the dict of `dataclasses.asdict`, also after JSON; missing keys have defaults."""
        return cls(**{**values, "mask": MaskConfig(**values.get("mask", {}))})

    def placement(self) -> torch.device:
        """Return the device.

        Raises
        ------
        ValueError
            If the precision is unknown, or is mixed precision without CUDA.
        """
        name = device_name(self.device)
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision: {self.precision!r} is neither fp32 nor bf16")
        if self.precision != "fp32" and not name.startswith("cuda"):
            raise ValueError(f"precision: {self.precision} needs a CUDA device, not {name}: set it to fp32")
        return torch.device(name)


class Training:
    """Steps, curves and state of one pre-training.

    Parameters
    ----------
    network : MaskedPrediction
        On ``device``.
    config : PretrainConfig
    seed : int
        Seed of dropout.
    device : torch.device

    Attributes
    ----------
    step, epoch, place : int
        Completed steps, completed epochs, and completed batches of the current epoch.
    curves : list of dict
        As in `exvo.pretraining.pretrain.Pretrained`.
    """

    def __init__(
        self, network: MaskedPrediction, config: PretrainConfig, seed: int, device: torch.device
    ) -> None:
        self.network = network
        self.config = config
        self.seed = seed
        self.device = device
        parameters = list(network.parameters())
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=_BETAS,
            eps=_EPSILON,
            fused=True,
        )
        self.step = self.epoch = self.place = 0
        self.curves: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain types."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            **{name: getattr(self, name) for name in ("step", "epoch", "place", "curves")},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in ("step", "epoch", "place", "curves"):
            setattr(self, name, state[name])

    def run(self, train: MaskedClips, heldout: MaskedClips, save: Callable[[dict[str, Any]], None]) -> None:
        """Train to the last step, with a row of the curves and a checkpoint every ``report_every`` steps."""
        sums, timer = self._zero_sums(), _Timer()
        while self.step < self.config.max_steps:
            batches = train.epoch(self.epoch)
            while self.place < len(batches) and self.step < self.config.max_steps:
                with timer.loading():
                    batch = batches[self.place]()
                sums = sums + self._step(_moved(batch, self.device))
                self.place += 1
                timer.add(batch)
                if self.step % self.config.report_every == 0 or self.step == self.config.max_steps:
                    logger.info("step %d: %s", self.step, timer)
                    self._report(sums, heldout)
                    save(self.state_dict())
                    sums, timer = self._zero_sums(), _Timer()
            if self.place == len(batches):
                self.epoch, self.place = self.epoch + 1, 0

    def _step(self, batch: MaskedBatch) -> Tensor:
        self.network.train()
        _seed_torch(self.seed, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss, sums = self.network(batch, self.config.unmasked_weight)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimiser.step()
        self.step += 1
        return sums

    def _zero_sums(self) -> Tensor:
        """Return sums over no batch, in the shape that `MaskedPrediction.forward` returns."""
        return torch.zeros(len(self.network.heads), N_SUMS, dtype=torch.float64, device=self.device)

    def _report(self, sums: Tensor, heldout: MaskedClips) -> None:
        """Add a row to the curves."""
        self.network.eval()
        with torch.inference_mode():
            held = self._zero_sums()
            for batch in heldout.epoch(HELD_OUT):
                held += self.network(_moved(batch(), self.device))[1]
        row: dict[str, float] = {
            "step": self.step,
            "epoch": self.epoch + 1,
            "learning_rate": learning_rate(self.step - 1, self.config),
        }
        for prefix, values in (("", sums), ("heldout_", held)):
            nll, correct, others_correct, n_masked, n_others = values.cpu().numpy().T
            measured = (nll / n_masked, correct / n_masked, others_correct / n_others)
            for i, name in enumerate(self.network.heads):
                row |= {f"{prefix}{name}_{m}": float(v[i]) for m, v in zip(_MEASURES, measured, strict=True)}
        logger.info("%s", row)
        self.curves.append(row)


def learning_rate(step: int, config: PretrainConfig) -> float:
    """Return the learning rate of a step, counted from 0: a linear rise, then a linear fall to 0 after the last."""
    n_warmup = round(config.warmup_fraction * config.max_steps)
    rising = (step + 1) / max(n_warmup, 1)
    falling = (config.max_steps - step) / max(config.max_steps - n_warmup, 1)
    return config.learning_rate * min(rising, falling, 1.0)


class _Timer:
    """Time of the steps since the last report, for the log."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.loading_seconds = 0.0
        self.n_steps = self.n_frames = 0

    @contextmanager
    def loading(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.loading_seconds += time.perf_counter() - start

    def add(self, batch: MaskedBatch) -> None:
        self.n_steps += 1
        self.n_frames += int(batch.lengths.sum())

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.start
        return (
            f"{seconds / self.n_steps:.3f} s and {self.n_frames / self.n_steps:.0f} frames a step, "
            f"{self.n_frames * 0.02 / seconds:.0f} times real time, {self.loading_seconds / seconds:.1%} for loading"
        )


def _moved(batch: MaskedBatch, device: torch.device) -> MaskedBatch:
    if device.type == "cpu":
        return batch
    clips, labels = ([part.to(device) for part in parts] for parts in (batch.clips, batch.labels))
    return MaskedBatch(clips, batch.lengths.to(device), batch.mask.to(device), labels)


def _seed_torch(seed: int, step: int) -> None:
    """Seed the dropout of a step with its number."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]))
