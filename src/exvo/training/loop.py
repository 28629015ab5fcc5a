"""The training loop of every network: steps of gradient descent, reports, and a state from which to resume.

The loop is plain PyTorch. A `Learner` defines the batches, the loss, the learning rate and the reports of a training.
A training that resumes from a saved state gives the same bits as one without an interruption. For this, the learner's
batches and random numbers must depend on nothing but the epoch and the step.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

Precision = Literal["fp32", "bf16", "fp16"]

_AUTOCAST_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingBatch(Protocol):
    """A batch that can be moved to a device."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""


class EpochBatches(Protocol):
    """The batches of an epoch; each is gathered on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TrainingBatch: ...


class Learner(Protocol):
    """What a loop trains."""

    @property
    def module(self) -> nn.Module:
        """Module with all parameters, on the device."""

    def batches(self, epoch: int) -> EpochBatches:
        """Return the batches of an epoch, counted from 0; they are the same at every call."""

    def before_step(self, loop: "Loop") -> float:
        """Seed the random numbers of the step, where it needs any, and return its learning rate."""

    def loss(self, batch: Any) -> Tensor:  # noqa: ANN401
        """Return the loss of a batch [shape=()]."""

    def report(self, loop: "Loop") -> None:
        """Validate, and record the measures of the steps since the last report."""

    def finished(self, loop: "Loop") -> bool:
        """Return whether the training is complete."""

    def state_dict(self) -> dict[str, Any]:
        """Return the records of the reports: tensors and plain types."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class Loop:
    """Steps of gradient descent on one device.

    Parameters
    ----------
    learner : Learner
    optimizer : torch.optim.Optimizer
        A parameter group may have a ``share``, a factor on the learning rate of the step.
    device : torch.device
    precision : {"fp32", "bf16", "fp16"}
        Precision of matrix products and convolutions (autocast). With ``fp16``, the loss is scaled.
    gradient_clip : float
        Maximum norm of the gradient of all parameters together; 0 for no limit.
    report_every : int or None
        Number of steps between reports; None reports at the end of each epoch. A report always follows the last step.

    Attributes
    ----------
    step, epoch, place : int
        Number of completed steps, of completed epochs, and of completed batches of the current epoch.
    n_batches : int
        Number of batches of the current epoch.
    seconds, step_seconds, loading_seconds : float
        Time since the last report: in total, in steps, and in gathering batches.
    """

    def __init__(
        self,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device,
        precision: Precision = "fp32",
        gradient_clip: float = 0.0,
        report_every: int | None = None,
    ) -> None:
        self.learner = learner
        self.optimizer = optimizer
        self.device = device
        self.gradient_clip = gradient_clip
        self.report_every = report_every
        self.step = self.epoch = self.place = self.n_batches = 0
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._dtype = _AUTOCAST_TYPES[precision]
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def run(self, save: Callable[[dict[str, Any]], None]) -> None:
        """Train until the learner is finished, and call ``save`` with the state after every report."""
        self._start_timers()
        while not self.learner.finished(self):
            batches = self.learner.batches(self.epoch)
            self.n_batches = len(batches)
            while self.place < self.n_batches and not self.learner.finished(self):
                self._take_step(batches)
                if self.report_every and (self.step % self.report_every == 0 or self.learner.finished(self)):
                    self._report(save)
            if self.place == self.n_batches:
                self.epoch, self.place = self.epoch + 1, 0
                if not self.report_every:
                    self._report(save)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain types."""
        return {
            "module": self.learner.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "learner": self.learner.state_dict(),
            **{name: getattr(self, name) for name in ("step", "epoch", "place")},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.learner.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.learner.load_state_dict(state["learner"])
        for name in ("step", "epoch", "place"):
            setattr(self, name, state[name])

    @property
    def seconds(self) -> float:
        """Seconds since the last report."""
        return time.perf_counter() - self._start

    def _take_step(self, batches: EpochBatches) -> None:
        loading = time.perf_counter()
        batch = batches[self.place].to(self.device)
        start = time.perf_counter()
        learning_rate = self.learner.before_step(self)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("share", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            loss = self.learner.loss(batch)
        self._scaler.scale(loss).backward()
        if self.gradient_clip:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self.gradient_clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.step += 1
        self.place += 1
        self.loading_seconds += start - loading
        self.step_seconds += time.perf_counter() - start

    def _report(self, save: Callable[[dict[str, Any]], None]) -> None:
        self.learner.report(self)
        save(self.state_dict())
        self._start_timers()

    def _start_timers(self) -> None:
        self._start = time.perf_counter()
        self.step_seconds = self.loading_seconds = 0.0


def parameter_groups(
    parameters: Mapping[nn.Parameter, float], weight_decay: float, *, decay_vectors: bool = False
) -> list[dict[str, Any]]:
    """Return the groups of an optimizer.

    Parameters
    ----------
    parameters : mapping of nn.Parameter to float
        The parameters, and their share of the learning rate.
    weight_decay : float
        Weight decay of matrices and kernels.
    decay_vectors : bool
        Whether it applies to vectors and scalars too: biases, gains, rates, scales, log variances.
    """
    groups = [
        {
            "params": [
                p for p, s in parameters.items() if s == share and (p.ndim >= 2 or decay_vectors) == decays
            ],
            "weight_decay": weight_decay if decays else 0.0,
            "share": share,
        }
        for share in sorted(set(parameters.values()), reverse=True)
        for decays in (True, False)
    ]
    return [group for group in groups if group["params"]]


def seed_torch(*numbers: int) -> None:
    """Seed the random numbers of PyTorch, as for dropout, from numbers such as a seed and an epoch."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]))
