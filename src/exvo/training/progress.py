"""The measures of every epoch of a training, and the weights of the best epoch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn


class Progress:
    """The completed epochs of a training, and the weights of the best one, as plain types and tensors.

    Parameters
    ----------
    has_val : bool
        Whether there are validation labels to compare epochs; if not, the last epoch is the best.

    Attributes
    ----------
    history : list of dict
        As in `exvo.training.trained.Trained`.
    best_epoch : int
        Number of the best epoch, from 1; 0 before the first.
    best_state : dict of Tensor
    strf : dict of list of Tensor
        Rates and scales of an STRF front end, before training and after each epoch.
    """

    def __init__(self, *, has_val: bool) -> None:
        self.has_val = has_val
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_state: dict[str, Tensor] = {}
        self.strf: dict[str, list[Tensor]] = {}

    def finished(self, max_epochs: int, patience: int) -> bool:
        """Return whether the training is complete."""
        waited = len(self.history) - self.best_epoch if self.has_val else 0
        return len(self.history) >= max_epochs or waited >= patience

    def add(self, record: dict[str, float], network: nn.Module) -> None:
        """Add an epoch, and keep its weights if it is the best so far.

        The best epoch has the highest selection score. Among equal scores, and as long as none is defined, it has the
        lowest loss.
        """
        best = self._quality(self.history[self.best_epoch - 1]) if self.best_epoch else (-np.inf, -np.inf)
        self.history.append(record)
        if self._quality(record) > best or not self.has_val or not self.best_state:
            self.best_epoch = len(self.history)
            self.best_state = {
                name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()
            }
        self.watch(network)

    def watch(self, network: nn.Module) -> None:
        """Record the rates and scales of an STRF front end, if the network has one."""
        for name in ("rate", "scale"):
            values = getattr(getattr(network, "frontend", None), name, None)
            if isinstance(values, Tensor):
                self.strf.setdefault(name, []).append(values.detach().to("cpu", copy=True))

    def state_dict(self) -> dict[str, Any]:
        """Return all attributes except ``has_val``, which is determined by the data."""
        return {name: value for name, value in vars(self).items() if name != "has_val"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        vars(self).update(state)

    @staticmethod
    def _quality(record: Mapping[str, float]) -> tuple[float, float]:
        return record["val_selection"], -np.nan_to_num(record["val_loss"], nan=np.inf)
