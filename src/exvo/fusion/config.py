"""The configuration of a late fusion, and the folds of Val for out-of-fold predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Rule = Literal["weighted", "stacked", "per_task", "average", "paper", "feature_fusion"]
FusionInputs = Literal["embeddings", "features"]


@dataclass(frozen=True)
class FusionConfig:
    """How to combine systems.

    Attributes
    ----------
    name : str
    systems : tuple of str
        At least one. Their order affects only ties and the order in the report.
    rule : {"weighted", "stacked", "per_task", "average", "paper", "feature_fusion"}
        See `exvo.fusion.fuse`.
    step : float
        ``weighted``: step of the grid of weights, an integer fraction of 1 (0.1 gives 0, 0.1, ..., 1).
    emotion_from : str, optional
        ``paper``: the system whose emotions are used; by default the first.
    max_candidates : int
        ``weighted``: a grid with more points than this is not searched in full. The weights are then found by
        steps that move weight from one system to another while the metric improves.
    inputs : {"embeddings", "features"}
        ``feature_fusion``: what the model reads of each system.
    training : mapping
        ``feature_fusion``: how it was trained. Only recorded, like ``inputs``.

    Raises
    ------
    ValueError
        If a value cannot be used: the message names the key.
    """

    name: str
    systems: tuple[str, ...]
    rule: Rule = "weighted"
    step: float = 0.1
    emotion_from: str | None = None
    max_candidates: int = 1001
    inputs: FusionInputs = "embeddings"
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"fusion {self.name!r}"
        if not self.systems or len(set(self.systems)) < len(self.systems):
            raise ValueError(f"{where}: systems must name at least one system, and each once")
        if self.rule not in get_args(Rule):
            raise ValueError(f"{where}: rule must be one of {', '.join(get_args(Rule))}, not {self.rule!r}")
        if not 0 < self.step <= 1 or abs(round(1 / self.step) * self.step - 1) > 1e-9:
            raise ValueError(
                f"{where}: step must be an integer fraction of 1 (0.1, 0.05, 0.25), not {self.step}"
            )
        if self.emotion_from is not None and self.emotion_from not in self.systems:
            raise ValueError(
                f"{where}: emotion_from names {self.emotion_from!r}, which is not in its systems"
            )


@dataclass(frozen=True)
class CrossFit:
    """The folds of speakers for out-of-fold predictions of Val.

    Attributes
    ----------
    folds : int
        At least 3: a combiner chooses its penalty by cross-validation among the folds that it is fitted on.
    seed : int
    """

    folds: int = 5
    seed: int = 0
