"""The training loop of masked prediction: steps, learning rate, curves, and the state that a checkpoint keeps.

A step starts from the weights, the optimiser's moments, its own number and its batch alone, and batches follow from
the epoch and the seed. A training that goes on from a checkpoint therefore ends with the bits of one that was never
interrupted.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from exvo.networks.torch_setup import device_name
from exvo.pretraining.batches import HELD_OUT, MaskConfig, MaskedBatch, MaskedClips
from exvo.pretraining.masked_prediction import MaskedPrediction
from exvo.util.settings import Bounds, Count, Device, NotNegative, OpenShare, Positive, Share

logger = logging.getLogger(__name__)

# Of AdamW, HuBERT's.
_BETAS, _EPSILON = (0.9, 0.98), 1e-6
# Columns of `MaskedPrediction`'s sums, and what they become in a row of the curves.
_MEASURES = ("loss", "masked_accuracy", "unmasked_accuracy")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a pre-training.

    Attributes
    ----------
    max_steps : int
        Number of steps; the learning rate is 0 after the last.
    max_batch_frames : int
        Number of frames of 20 ms in a step, padding included.
    crop_frames : int or None
        Maximum length of a training clip, in frames of 20 ms: each epoch takes a random stretch of a longer clip. Null
        takes the complete clip.
    mask : MaskConfig
        Which frames are masked and predicted.
    unmasked_weight : float
        Weight of the loss over frames that are not masked.
    learning_rate : float
        Maximum learning rate of AdamW; it rises and falls linearly.
    warmup_fraction : float
        Share of ``max_steps`` in which the learning rate rises.
    weight_decay : float
        Weight decay of matrices and kernels; biases and gains have none.
    gradient_clip : float
        Maximum norm of the gradient; 0 for no limit.
    heldout_share : float
        Share of the speakers, at least one, that is held out from training and measured by the curves.
    report_every : int
        Number of steps between rows of the curves; each row comes with a checkpoint.
    device : str
        ``auto`` (CUDA if there is a GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:<n>``.
    precision : {"fp32", "bf16"}
        ``bf16`` is mixed precision, which needs CUDA.
    """

    max_steps: Count = 20_000
    max_batch_frames: Annotated[int, Bounds(at_least=2)] = 1600
    crop_frames: Annotated[int, Bounds(at_least=2)] | None = 300
    mask: MaskConfig = field(default_factory=MaskConfig)
    unmasked_weight: NotNegative = 0.0
    learning_rate: Positive = 1e-3
    warmup_fraction: Share = 0.08
    weight_decay: NotNegative = 0.01
    gradient_clip: NotNegative = 5.0
    heldout_share: OpenShare = 0.02
    report_every: Count = 500
    device: Device = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PretrainConfig":
        """Return the config that `dataclasses.asdict` wrote, also by way of JSON; left out means default."""
        return cls(**{**values, "mask": MaskConfig(**values.get("mask", {}))})

    def placement(self) -> torch.device:
        """Return the device.

        Raises
        ------
        ValueError
            If the precision is unknown, or mixed without CUDA.
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
        Of dropout.
    device : torch.device

    Attributes
    ----------
    step, epoch, place : int
        Steps and epochs done, and batches of the open epoch.
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
        """Take over the state of a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in ("step", "epoch", "place", "curves"):
            setattr(self, name, state[name])

    def run(self, train: MaskedClips, heldout: MaskedClips, save: Callable[[dict[str, Any]], None]) -> None:
        """Go on to the last step; a row of the curves and a checkpoint every so many."""
        sums, timer = 0.0, _Timer()
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
                    sums, timer = 0.0, _Timer()
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

    def _report(self, sums: Tensor, heldout: MaskedClips) -> None:
        """Add a row to the curves."""
        self.network.eval()
        with torch.inference_mode():
            held = sum(self.network(_moved(batch(), self.device))[1] for batch in heldout.epoch(HELD_OUT))
        row: dict[str, float] = {
            "step": self.step,
            "epoch": self.epoch + 1,
            "learning_rate": learning_rate(self.step - 1, self.config),
        }
        for prefix, values in (("", sums), ("heldout_", held)):
            nll, right, others_right, n_masked, n_others = values.cpu().numpy().T
            measured = (nll / n_masked, right / n_masked, others_right / n_others)
            for i, name in enumerate(self.network.heads):
                row |= {f"{prefix}{name}_{m}": float(v[i]) for m, v in zip(_MEASURES, measured, strict=True)}
        logger.info("%s", row)
        self.curves.append(row)


def learning_rate(step: int, config: PretrainConfig) -> float:
    """Return the learning rate of a step, counted from 0: up to the highest, and down to 0 after the last."""
    n_warmup = round(config.warmup_fraction * config.max_steps)
    rising = (step + 1) / max(n_warmup, 1)
    falling = (config.max_steps - step) / max(config.max_steps - n_warmup, 1)
    return config.learning_rate * min(rising, falling, 1.0)


class _Timer:
    """What the steps since the last report took, for the log."""

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
    """Seed dropout of a step by its number."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]))
