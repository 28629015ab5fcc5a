"""What the rules of feature fusions must know before any job runs: whose vectors they read, and what changes them."""

from pathlib import PurePosixPath

from exvo.corpus.labels import TASKS
from exvo.util.code_digest import canonical_json, code_digest
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
        """Return the files that say that enough of the recordings of its systems can be read."""
        return list(dict.fromkeys(self.plan.check(name) for name in self.fusions[fusion]["systems"]))

    def embedded_systems(self) -> list[str]:
        """Return the systems whose utterance embeddings a feature fusion reads."""
        entries = [entry for entry in self.fusions.values() if entry["inputs"] == "embeddings"]
        return list(dict.fromkeys(name for entry in entries for name in entry["systems"]))

    def pooling_spec(self, system: str) -> str:
        """Return, as JSON text, a digest of the code that computes a system's utterance embeddings."""
        module = self.plan.encoder_module(system)
        return canonical_json({"code": code_digest("exvo.systems.utterance_embeddings", module)})

    def shards(self, feature: str, stage: str) -> list[str]:
        """Return the shards of a feature that a system reads."""
        wanted = f"{feature}/{stage}"
        return next(
            self.plan.feature_files(name) for name in self.plan.systems if self._folder(name) == wanted
        )

    def spec(self, fusion: str, *modules: str) -> str:
        """Return the canonical JSON text of a feature fusion and of the code that trains it."""
        entry = self.fusions[fusion]
        done = {task for name in entry["systems"] for task in self.plan.systems[name].tasks}
        joint = {key: entry[key] for key in ("systems", "inputs", "training")}
        joint["tasks"] = [task for task in TASKS if task in done]
        return canonical_json({"feature_fusion": joint, "code": code_digest(*modules)})

    def _folder(self, system: str) -> str:
        """Return the folder of a system's feature, such as ``logmel/raw``."""
        return str(PurePosixPath(self.plan.feature_files(system)[0]).parent.relative_to("results/features"))
