"""What a fusion is asked to be, and how Val is parted to judge it."""

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
        At least one; their order decides nothing but ties and the order of the report.
    rule : {"weighted", "stacked", "per_task", "average", "paper", "feature_fusion"}
        See `exvo.fusion.fuse`.
    step : float
        ``weighted``: the grid of weights, a whole part of 1 (0.1 gives weights 0, 0.1, ..., 1).
    emotion_from : str, optional
        ``paper``: the system that gives emotion; by default the first.
    max_candidates : int
        ``weighted``: a grid with more points than this is not searched in full; the weights are then found by
        steps that move weight from one system to another as long as that helps.
    inputs : {"embeddings", "features"}
        ``feature_fusion``: what the model read of each system.
    training : mapping
        ``feature_fusion``: how it was trained. For the record, like ``inputs``.

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
                f"{where}: step must divide 1 into whole parts (0.1, 0.05, 0.25), not {self.step}"
            )
        if self.emotion_from is not None and self.emotion_from not in self.systems:
            raise ValueError(
                f"{where}: emotion_from names {self.emotion_from!r}, which is not in its systems"
            )


@dataclass(frozen=True)
class CrossFit:
    """How Val is parted to judge what was learned on it.

    Attributes
    ----------
    folds : int
        At least 3: a trained combiner chooses its penalty among the folds that it is fitted on.
    seed : int
    """

    folds: int = 5
    seed: int = 0
