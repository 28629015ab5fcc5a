"""What the rules of pre-training need to know before any job runs: files, clips and settings."""

from functools import cached_property
from pathlib import Path
from typing import Any

from exvo.corpus.labels import SPLITS
from exvo.corpus.paths import user_path
from exvo.corpus.table import Corpus, CorpusError
from exvo.corpus.text import clip_id_of
from exvo.util.code_digest import digest
from exvo.workflow.params import as_param
from exvo.workflow.plan import Plan

# The log-mel frames that a pre-trained encoder computes itself when it is used, and that it has to be pre-trained on.
# A copy of `exvo.hubert.logmel_frontend`, which takes seconds to import; a test compares them.
ENCODER_LOGMEL = {"window_ms": 25, "hop_ms": 10, "n_fft": 512, "log_floor": 1e-6}
# The keys that each kind of clusters needs.
_NEEDS: dict[str, tuple[str, ...]] = {"mfcc": (), "hidden": ("model", "layer"), "teacher": ("folder",)}


class PretrainPlan:
    """The section ``pretrain`` of a config: clusters to fit, encoders to pre-train, and the clips of both.

    Parameters
    ----------
    plan : Plan

    Attributes
    ----------
    clusters, models : dict of str to mapping
        Entries of the section by name, without those that are null.

    Raises
    ------
    CorpusError
        If an entry names something that does not exist, needs itself, or lacks a key.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.config = plan.config["pretrain"]
        self.stage: str = self.config["stage"]
        self.clusters, self.models = (
            {name: entry for name, entry in self.config[kind].items() if entry is not None}
            for kind in ("clusters", "models")
        )
        for name in self.clusters:
            self._check_clusters(name)
        for name in self.models:
            self._check_model(name)
        for name in self.models:
            self._check_order(name, ())

    def clip_ids(self, shard: str | None = None) -> list[str]:
        """Return the clips to pre-train on, of one shard or of all: all of them in the order of their ids."""
        chosen = self._chosen
        return sorted(chosen) if shard is None else [c for c in self.plan.shards[shard] if c in chosen]

    @property
    def clips_file(self) -> list[str]:
        """The text file of clip ids in a list, empty if the config names none."""
        return [str(_clips_path(self.config["clips"]))] if self.config["clips"] else []

    @cached_property
    def clips(self) -> dict[str, Any]:
        """The limit of the table, the text file of clip ids, and a digest of the clips and their speakers."""
        labels = self.plan.corpus.labels
        chosen = [
            (clip_id, speaker)
            for clip_id, speaker in zip(labels.clip_id, labels.speaker, strict=True)
            if clip_id in self._chosen
        ]
        return {
            "digest": digest(text for pair in sorted(chosen) for text in pair),
            "limit": self.plan.config["corpus"]["limit"],
            "list": self.config["clips"],
        }

    def clips_of(self, shard: str) -> list[str]:
        """Return the clips to pre-train on of a shard."""
        return as_param(self.clip_ids(shard))

    @property
    def seed(self) -> int:
        """The seed of the section."""
        return self.config["seed"]

    def clusters_entry(self, name: str) -> dict[str, Any]:
        """Return an entry of ``clusters``, as a rule's ``params`` carry it."""
        return as_param(self.clusters[name])

    def model_entry(self, name: str) -> dict[str, Any]:
        """Return an entry of ``models``, as a rule's ``params`` carry it."""
        return as_param(self.models[name])

    def inputs(self, model: str, ending: str) -> list[str]:
        """Return the files that an encoder reads, shard by shard."""
        frontend = self.models[model]["encoder"]["frontend"]
        return self._files(
            f"results/features/{'logmel' if frontend == 'logmel' else 'waveform'}/{self.stage}", ending
        )

    def logmel(self, ending: str) -> list[str]:
        """Return the log-mel files, shard by shard."""
        return self._files(f"results/features/logmel/{self.stage}", ending)

    def encoder_of(self, clusters: str) -> list[str]:
        """Return the weights of the encoder whose hidden layer is clustered, in a list; empty for other clusters."""
        entry = self.clusters[clusters]
        return [f"results/pretrain/{entry['model']}/model.safetensors"] if entry["of"] == "hidden" else []

    def others_of(self, clusters: str, ending: str) -> list[str]:
        """Return the other files that clusters need, shard by shard: a teacher's frames, or samples."""
        entry = self.clusters[clusters]
        if entry["of"] == "teacher":
            return self._files(
                str(user_path(entry["folder"], f"pretrain.clusters.{clusters}.folder")), ending
            )
        if entry["of"] == "hidden" and self.models[entry["model"]]["encoder"]["frontend"] == "conv":
            return self.inputs(entry["model"], ending)
        return []

    def start_of(self, model: str) -> list[str]:
        """Return the weights that a pre-training starts from, in a list; empty for random ones."""
        start = self.models[model]["start"]
        return (
            [f"results/pretrain/{start}/{name}.safetensors" for name in ("model", "heads")] if start else []
        )

    def labels_of(self, model: str, ending: str) -> list[str]:
        """Return the files of labels of a model's targets, target by target, shard by shard."""
        targets = self.models[model]["targets"]
        return [path for name in targets for path in self._files(f"results/clusters/{name}", ending)]

    def _files(self, folder: str, ending: str) -> list[str]:
        return [f"{folder}/{shard}.{ending}" for shard in self.plan.shards]

    @cached_property
    def _chosen(self) -> set[str]:
        return set(
            pretraining_clips(self.plan.corpus, self.config["clips"], self.plan.config["corpus"]["limit"])
        )

    def _check_clusters(self, name: str) -> None:
        entry, where = self.clusters[name], f"config: pretrain.clusters.{name}"
        missing = [key for key in _NEEDS[entry["of"]] if entry[key] is None]
        if missing:
            raise CorpusError(f"{where}: clusters of {entry['of']} need the key {' and '.join(missing)}")
        if entry["of"] == "hidden" and entry["model"] not in self.models:
            raise CorpusError(f"{where}.model: {entry['model']} is not one of pretrain.models")

    def _check_model(self, name: str) -> None:
        entry, where = self.models[name], f"config: pretrain.models.{name}"
        for target in entry["targets"]:
            if target not in self.clusters:
                raise CorpusError(f"{where}.targets: {target} is not one of pretrain.clusters")
        if entry["start"] is not None and entry["start"] not in self.models:
            raise CorpusError(f"{where}.start: {entry['start']} is not one of pretrain.models")
        if self.stage not in self.plan.stages:
            raise CorpusError(f"config: pretrain.stage: the corpus cannot have the stage {self.stage}")
        logmel, reads_logmel = (
            self.plan.config["features"]["logmel"],
            entry["encoder"]["frontend"] == "logmel",
        )
        # An encoder with convolutions needs only the hop, which is the unit of the labels.
        for key in ENCODER_LOGMEL if reads_logmel else ("hop_ms",):
            if logmel[key] != ENCODER_LOGMEL[key]:
                raise CorpusError(
                    f"{where}: features.logmel.{key} is {logmel[key]:g}, but encoders that are pre-trained need "
                    f"{ENCODER_LOGMEL[key]:g}, the value with which they read recordings later; for other systems, set "
                    f"{key} in a variant of logmel (features.variants)"
                )
        if reads_logmel and entry["encoder"]["n_mels"] != logmel["n_mels"]:
            raise CorpusError(
                f"{where}.encoder.n_mels: {entry['encoder']['n_mels']}, but features.logmel.n_mels is "
                f"{logmel['n_mels']}"
            )

    def _check_order(self, name: str, above: tuple[str, ...]) -> None:
        """Refuse an encoder that needs itself, through its clusters or its start."""
        if name in above:
            raise CorpusError(f"config: pretrain.models.{name} needs itself: {' < '.join((*above, name))}")
        entry = self.models[name]
        clustered = [self.clusters[target] for target in entry["targets"]]
        needed = [part["model"] for part in clustered if part["of"] == "hidden"] + [entry["start"]]
        for other in filter(None, needed):
            self._check_order(other, (*above, name))


def _clips_path(path: str | Path) -> Path:
    return user_path(path, "pretrain.clips")


def pretraining_clips(corpus: Corpus, path: str | Path | None, limit: int | None = None) -> list[str]:
    """Return the clips to pre-train on, in the order of their ids: the training clips, or those that a list names.

    Parameters
    ----------
    corpus : Corpus
    path : str or Path or None
        Text file of clip ids, one per line, with or without brackets; empty lines are skipped. None for all training
        clips.
    limit : int or None
        Limit of the corpus; if there is one, a list may name clips beyond it.

    Raises
    ------
    CorpusError
        If the list cannot be read, or names a clip that is not a training clip.
    """
    labels = corpus.labels
    split = dict(zip(labels.clip_id, labels.split, strict=True))
    train = {clip_id for clip_id, name in split.items() if name == SPLITS[0]}
    if path is None:
        return sorted(train)
    try:
        lines = _clips_path(path).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise CorpusError(f"config: pretrain.clips: {path} cannot be read ({error.strerror})") from None
    named = {clip_id_of(line.strip()) for line in lines} - {""}
    wrong = sorted(c for c in named if c not in train and (c in split or limit is None))
    if wrong:
        what = f"of {split[wrong[0]]}" if wrong[0] in split else "not in the corpus"
        raise CorpusError(
            f"{path}: clip {wrong[0]} is {what} ({len(wrong)} such clips), and only clips of Train may be "
            "pre-trained on"
        )
    if not named & train:
        raise CorpusError(f"{path}: no clip of Train is in the list")
    return sorted(named & train)
