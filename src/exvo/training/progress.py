"""The epochs of a training: what each measured, and the weights of the best."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn


class Progress:
    """The epochs of a training so far, and the weights of the best of them: plain types and tensors.

    Parameters
    ----------
    has_val : bool
        Whether validation can compare epochs; if not, the last is the best.

    Attributes
    ----------
    history : list of dict
        As in `exvo.training.trained.Trained`.
    best_epoch : int
        From 1; 0 before the first.
    best_state : dict of Tensor
    strf : dict of list of Tensor
        Rates and scales before training and after each epoch.
    """

    def __init__(self, *, has_val: bool) -> None:
        self.has_val = has_val
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_state: dict[str, Tensor] = {}
        self.strf: dict[str, list[Tensor]] = {}

    def finished(self, max_epochs: int, patience: int) -> bool:
        """Return whether no epoch comes next."""
        waited = len(self.history) - self.best_epoch if self.has_val else 0
        return len(self.history) >= max_epochs or waited >= patience

    def add(self, record: dict[str, float], network: nn.Module) -> None:
        """Add an epoch; keep its weights if none was better.

        The better epoch has the higher selection score; of equal scores, and while none is defined, the lower loss.
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
        """Return everything but ``has_val``, which follows from the data."""
        return {name: value for name, value in vars(self).items() if name != "has_val"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        vars(self).update(state)

    @staticmethod
    def _quality(record: Mapping[str, float]) -> tuple[float, float]:
        return record["val_selection"], -np.nan_to_num(record["val_loss"], nan=np.inf)
