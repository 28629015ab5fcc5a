"""Masked prediction in the training loop: settings, learning rate and curves.

A step depends only on the weights, the state of the optimizer, its number and its batch. Batches depend on the epoch
and the seed. A run that resumes from a checkpoint therefore ends with the same bits as an uninterrupted run.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from exvo.networks.torch_setup import training_device
from exvo.pretraining.batches import HELD_OUT, MaskConfig, MaskedBatch, MaskedClips
from exvo.pretraining.masked_prediction import N_SUMS, MaskedPrediction
from exvo.training.batches import Batches
from exvo.training.loop import Loop, parameter_groups, seed_torch
from exvo.util.settings import Bounds, Count, Device, NotNegative, OpenShare, Positive, Share

logger = logging.getLogger(__name__)

# Betas and epsilon of AdamW, as in HuBERT.
_BETAS, _EPSILON = (0.9, 0.98), 1e-6
# Names of the measures of `MaskedPrediction` in a row of the curves.
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
        """Return the config from the dict of `dataclasses.asdict`, also after JSON; missing keys have defaults."""
        return cls(**{**values, "mask": MaskConfig(**values.get("mask", {}))})

    def placement(self) -> torch.device:
        """Return the device.

        Raises
        ------
        ValueError
            If the precision is unknown, or is mixed precision without CUDA.
        """
        return training_device(self.device, self.precision, ("fp32", "bf16"))


class MaskedLearner:
    """Masked prediction for `exvo.training.loop.Loop`.

    Parameters
    ----------
    network : MaskedPrediction
        Network on the device of the training.
    train, heldout : MaskedClips
    config : PretrainConfig
    seed : int
        Seed of dropout.

    Attributes
    ----------
    curves : list of dict
        As in `exvo.pretraining.pretrain.Pretrained`.
    """

    def __init__(
        self,
        network: MaskedPrediction,
        train: MaskedClips,
        heldout: MaskedClips,
        config: PretrainConfig,
        seed: int,
    ) -> None:
        self.module = network
        self.train = train
        self.heldout = heldout
        self.config = config
        self.seed = seed
        self.curves: list[dict[str, float]] = []
        self._sums, self._n_frames = self._zero_sums(), torch.zeros(())

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW with the betas of HuBERT, without weight decay for biases and gains."""
        parameters = dict.fromkeys(self.module.parameters(), 1.0)
        groups = parameter_groups(parameters, self.config.weight_decay)
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=_BETAS, eps=_EPSILON, fused=True)

    def batches(self, epoch: int) -> Batches[MaskedBatch]:
        """Return the batches of an epoch, counted from 0."""
        return self.train.epoch(epoch)

    def before_step(self, loop: Loop) -> float:
        """Seed dropout with the number of the step, and return the learning rate of the step."""
        self.module.train()
        seed_torch(self.seed, loop.step)
        return learning_rate(loop.step, self.config)

    def loss(self, batch: MaskedBatch) -> Tensor:
        """Return the loss of a batch [shape=()]."""
        loss, sums = self.module(batch, self.config.unmasked_weight)
        self._sums = self._sums + sums
        # Added up on the device, because to read a value waits for it.
        self._n_frames = self._n_frames + batch.lengths.sum()
        return loss

    def report(self, loop: Loop) -> None:
        """Add a row to the curves: loss and accuracy since the last report, and on the held-out speakers."""
        self.module.eval()
        with torch.inference_mode():
            heldout_sums = self._zero_sums()
            for batch in self.heldout.epoch(HELD_OUT):
                heldout_sums += self.module(batch.to(loop.device))[1]
        row: dict[str, float] = {
            "step": loop.step,
            "epoch": loop.epoch + 1,
            "learning_rate": learning_rate(loop.step - 1, self.config),
        }
        for prefix, values in (("", self._sums), ("heldout_", heldout_sums)):
            nll, correct, others_correct, n_masked, n_others = values.cpu().numpy().T
            measured = (nll / n_masked, correct / n_masked, others_correct / n_others)
            for i, name in enumerate(self.module.heads):
                row |= {f"{prefix}{name}_{m}": float(v[i]) for m, v in zip(_MEASURES, measured, strict=True)}
        training = loop.step_seconds + loop.loading_seconds
        logger.info(
            "%s; %.0f times real time in training, %.1f %% of it loading",
            row, float(self._n_frames) * 0.02 / training, 100 * loop.loading_seconds / training,
        )  # fmt: skip
        self.curves.append(row)
        self._sums, self._n_frames = self._zero_sums(), torch.zeros(())

    def finished(self, loop: Loop) -> bool:
        """Return whether all steps are complete."""
        return loop.step >= self.config.max_steps

    def state_dict(self) -> dict[str, Any]:
        """Return the curves."""
        return {"curves": self.curves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the curves."""
        self.curves = state["curves"]

    def _zero_sums(self) -> Tensor:
        """Return sums over no batch, in the shape that `MaskedPrediction.forward` returns."""
        device = self.module.mask_embedding.device
        return torch.zeros(len(self.module.heads), N_SUMS, dtype=torch.float64, device=device)


def learning_rate(step: int, config: PretrainConfig) -> float:
    """Return the learning rate of a step, counted from 0: a linear rise, then a linear fall to 0 after the last."""
    n_warmup = round(config.warmup_fraction * config.max_steps)
    rising = (step + 1) / max(n_warmup, 1)
    falling = (config.max_steps - step) / max(config.max_steps - n_warmup, 1)
    return config.learning_rate * min(rising, falling, 1.0)
