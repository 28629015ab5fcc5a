"""What the rules of pre-training must know of the config before any job runs: files, clips, and what changes them."""

from functools import cached_property
from pathlib import Path

from exvo.corpus.labels import SPLITS
from exvo.corpus.paths import user_path
from exvo.corpus.table import Corpus, CorpusError
from exvo.corpus.text import clip_id_of
from exvo.util.code_digest import canonical_json, code_digest, digest
from exvo.workflow.plan import Plan

# The log-mel of an encoder, which computes it from the waveform when it is used (`exvo.hubert.logmel_frontend`; a test
# compares them, for importing it takes seconds). What it is pre-trained on has to be the same.
ENCODER_LOGMEL = {"window_ms": 25, "hop_ms": 10, "n_fft": 512, "log_floor": 1e-6}
# What each kind of clusters needs beside log-mel.
_NEEDS = {"mfcc": (), "hidden": ("model", "layer"), "teacher": ("folder",)}


class PretrainPlan:
    """The section ``pretrain`` of a config: clusters to fit, encoders to pre-train, and the clips of both.

    Parameters
    ----------
    plan : Plan

    Attributes
    ----------
    clusters, models : dict of str to mapping
        Entries of the section by name; null takes one of another config away.

    Raises
    ------
    CorpusError
        Where an entry names what is not there, needs itself, or lacks what it needs.
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
        """Return the clips to pre-train on, of one shard or of all, in id order."""
        chosen = self._chosen
        return sorted(chosen) if shard is None else [c for c in self.plan.shards[shard] if c in chosen]

    @property
    def clips_file(self) -> list[str]:
        """The list of clips in a list, empty where the config names none."""
        return [str(_clips_path(self.config["clips"]))] if self.config["clips"] else []

    @cached_property
    def clips(self) -> str:
        """JSON text that changes with the clips or their speakers, and says how to find them."""
        labels = self.plan.corpus.labels
        chosen = [
            (clip_id, speaker)
            for clip_id, speaker in zip(labels.clip_id, labels.speaker, strict=True)
            if clip_id in self._chosen
        ]
        value = {
            "limit": self.plan.config["corpus"]["limit"],
            "list": self.config["clips"],
            "digest": digest(text for pair in sorted(chosen) for text in pair),
        }
        return canonical_json(value)

    def clips_of(self, shard: str) -> str:
        """Return, as JSON text, the clips of a shard."""
        return canonical_json(self.clip_ids(shard))

    def clusters_spec(self, name: str, *modules: str) -> str:
        """Return the canonical JSON text of an entry of ``clusters`` and of the code that it sets."""
        return canonical_json(
            {"entry": self.clusters[name], "seed": self.config["seed"], "code": code_digest(*modules)}
        )

    def model_spec(self, name: str, *modules: str) -> str:
        """Return the canonical JSON text of an entry of ``models`` and of the code that it sets."""
        return canonical_json(
            {"entry": self.models[name], "seed": self.config["seed"], "code": code_digest(*modules)}
        )

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
        """Return, in a list, the weights of the encoder whose hidden layer is clustered; empty for other clusters."""
        entry = self.clusters[clusters]
        return [f"results/pretrain/{entry['model']}/model.safetensors"] if entry["of"] == "hidden" else []

    def others_of(self, clusters: str, ending: str) -> list[str]:
        """Return what clusters need beside log-mel, shard by shard: a teacher's frames, or samples."""
        entry = self.clusters[clusters]
        if entry["of"] == "teacher":
            return self._files(
                str(user_path(entry["folder"], f"pretrain.clusters.{clusters}.folder")), ending
            )
        if entry["of"] == "hidden" and self.models[entry["model"]]["encoder"]["frontend"] == "conv":
            return self.inputs(entry["model"], ending)
        return []

    def start_of(self, model: str) -> list[str]:
        """Return, in a list, the weights that a pre-training starts from; empty for random ones."""
        start = self.models[model]["start"]
        return (
            [f"results/pretrain/{start}/{name}.safetensors" for name in ("model", "heads")] if start else []
        )

    def labels_of(self, model: str, ending: str) -> list[str]:
        """Return the files of labels of all targets of a model, target by target, shard by shard."""
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
        # One with convolutions needs the hop alone, in which labels are counted.
        for key in ENCODER_LOGMEL if reads_logmel else ("hop_ms",):
            if logmel[key] != ENCODER_LOGMEL[key]:
                raise CorpusError(
                    f"{where}: features.logmel.{key} is {logmel[key]:g}, but encoders that are pre-trained need "
                    f"{ENCODER_LOGMEL[key]:g}, with which they read recordings later; for other systems, set {key} in "
                    "a variant of logmel (features.variants)"
                )
        if reads_logmel and entry["encoder"]["n_mels"] != logmel["n_mels"]:
            raise CorpusError(
                f"{where}.encoder.n_mels: {entry['encoder']['n_mels']}, but features.logmel.n_mels is "
                f"{logmel['n_mels']}"
            )

    def _check_order(self, name: str, above: tuple[str, ...]) -> None:
        """Refuse an encoder that needs itself, by way of clusters or of its start."""
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
    """Return the clips to pre-train on, in id order: Train, or those of Train that a list names.

    Parameters
    ----------
    corpus : Corpus
    path : str or Path or None
        Text file of clip ids, one a line, in brackets or bare; empty lines are passed over. None for all of Train.
    limit : int or None
        Of the corpus; with one, a list may name clips beyond it.

    Raises
    ------
    CorpusError
        Where the list cannot be read, or names a clip that is not of Train.
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
