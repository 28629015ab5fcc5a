"""What the rules of feature fusions need to know before any job runs: files and settings."""

from pathlib import PurePosixPath
from typing import Any

from exvo.corpus.labels import TASKS
from exvo.workflow.params import as_param
from exvo.workflow.plan import Plan


class FeatureFusionPlan:
    """The feature fusions that a corpus allows.

    Parameters
    ----------
    plan : Plan

    Attributes
    ----------
    fusions : dict of str to dict
        Entries by name, as `exvo.workflow.fusion_plan.possible_fusions` gives them.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.fusions = {name: plan.fusions[name] for name in plan.feature_fusions()}

    def vectors(self, fusion: str, seed: int | str, ending: str) -> list[str]:
        """Return the files of vectors that a feature fusion reads, each once, in the order of its systems.

        Parameters
        ----------
        fusion : str
        seed : int or str
        ending : {"npy", "parquet"}
        """
        entry = self.fusions[fusion]
        if entry["inputs"] == "embeddings":
            folders = [f"systems/{name}/{seed}" for name in entry["systems"]]
        else:
            folders = [f"features/{self._folder(name)}" for name in entry["systems"]]
        return [f"results/utterance_embeddings/{folder}.{ending}" for folder in dict.fromkeys(folders)]

    def checks(self, fusion: str) -> list[str]:
        """Return the files that `check_clips` writes if enough recordings of its systems can be read."""
        return list(dict.fromkeys(self.plan.check(name) for name in self.fusions[fusion]["systems"]))

    def embedded_systems(self) -> list[str]:
        """Return the systems whose utterance embeddings a feature fusion reads."""
        entries = [entry for entry in self.fusions.values() if entry["inputs"] == "embeddings"]
        return list(dict.fromkeys(name for entry in entries for name in entry["systems"]))

    def shards(self, feature: str, stage: str) -> list[str]:
        """Return the shards of a feature that a system reads."""
        wanted = f"{feature}/{stage}"
        return next(
            self.plan.feature_files(name) for name in self.plan.systems if self._folder(name) == wanted
        )

    def settings(self, fusion: str) -> dict[str, Any]:
        """Return ``systems``, ``inputs``, ``training`` and ``tasks`` of a feature fusion."""
        entry = self.fusions[fusion]
        done = {task for name in entry["systems"] for task in self.plan.systems[name].tasks}
        tasks = [task for task in TASKS if task in done]
        return as_param({key: entry[key] for key in ("systems", "inputs", "training")} | {"tasks": tasks})

    def _folder(self, system: str) -> str:
        """Return the folder of a system's feature, such as ``logmel/raw``."""
        return str(PurePosixPath(self.plan.feature_files(system)[0]).parent.relative_to("results/features"))
