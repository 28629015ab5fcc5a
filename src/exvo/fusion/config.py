"""The configuration of a late fusion, and the folds of Val for out-of-fold predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from exvo.util.settings import NO_KEY, Bounds, Count, Items, Natural, PositiveShare

Rule = Literal["weighted", "stacked", "per_task", "average", "paper", "feature_fusion"]
FusionInputs = Literal["embeddings", "features"]


@dataclass(frozen=True)
class FusionConfig:
    """How to combine systems.

    Attributes
    ----------
    name : str
    systems : tuple of str
        Names of systems; systems that the corpus does not allow are left out with a notice. Their order decides only
        ties and the order of the report.
    rule : {"weighted", "stacked", "per_task", "average", "paper", "feature_fusion"}
        ``weighted``: weights per task, chosen on the validation set; ``stacked``: a combiner per task, trained on the
        validation set; ``per_task``: for each task the best of ``average``, ``weighted`` and ``stacked``; ``average``:
        equal weights; ``paper``: age and country averaged, emotion from one system; ``feature_fusion``: a network
        trained on the training set that reads the features or embeddings of at least two systems.
    step : float
        For ``weighted``: step of the grid of weights; 1 must be a multiple of it (0.1 gives weights 0, 0.1, ..., 1).
    emotion_from : str or None
        For ``paper``: the system that predicts emotion; null takes the first.
    max_candidates : int
        For ``weighted``: maximum size of a grid that is searched in full; a larger grid is searched by steps that move
        weight from one system to another while that helps.
    inputs : {"embeddings", "features"}
        For ``feature_fusion``: ``embeddings``, the input of each trained system's heads (the vectors after
        self-attentive pooling, or the last shared layer of ``mlp``); ``features``, openSMILE functionals, or the mean
        and SD over time of log-mel frames or HuBERT embeddings (frames of the front end, for a fine-tuned HuBERT).
    training : mapping
        For ``feature_fusion``: settings that differ from those of the section ``feature_fusion``.

    Raises
    ------
    ValueError
        If a value cannot be used: the message names the key.
    """

    name: Annotated[str, NO_KEY]
    systems: Annotated[tuple[str, ...], Items(at_least=1, unique=True)]
    rule: Rule = "weighted"
    step: PositiveShare = 0.1
    emotion_from: str | None = None
    max_candidates: Count = 1001
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
    """How the validation set is split for out-of-fold predictions of fusions.

    Attributes
    ----------
    folds : int
        Number of folds of the validation set; the clips of a speaker are in one fold. Each fold is predicted with
        weights fitted on the other folds. At least 3, because a trained combiner chooses its penalty by
        cross-validation in the folds that it is fitted on.
    seed : int
        Seed of the assignment of speakers to folds.
    """

    folds: Annotated[int, Bounds(at_least=3)] = 5
    seed: Natural = 0
