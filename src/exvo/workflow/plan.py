"""What the rules need to know about the config and the corpus before any job runs.

Snakemake reads the Snakefile at every call and in every cluster job. Therefore nothing here imports more than the label
table needs, and the folder of recordings is listed once.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from exvo.audio.stages import SOURCE_FOLDER, SPEEDS, STAGES, stage_path
from exvo.corpus.errors import CorpusError
from exvo.corpus.findings import file_findings, name_findings
from exvo.corpus.labels import SPLITS
from exvo.corpus.paths import user_path
from exvo.corpus.shards import Recordings, clips_digest, has_file, scan_files, shard_clips
from exvo.corpus.table import TABLE, TEST_TABLE, Corpus, read_corpus, read_test_labels
from exvo.corpus.text import clip_id_of, look_alikes, shown
from exvo.evaluation.metrics import labelled
from exvo.features.spec import feature_key, feature_kind, fine_tuned
from exvo.hubert.checkpoint_files import weights_digest, weights_files
from exvo.util.code_digest import canonical_json, digest
from exvo.workflow.fusion_plan import BEST, possible_fusions, possible_tables
from exvo.workflow.params import as_param
from exvo.workflow.systems import ENCODERS, System, configured_systems, feature_settings

# The template of the report counts like the code that fills it.
REPORT_PAGE = Path(__file__).parents[1] / "report/page/page.html.j2"


class Plan:
    """The shards of the corpus, the stages that it allows, and the systems that the config asks for.

    Parameters
    ----------
    config : mapping
        The validated config.

    Attributes
    ----------
    corpus : Corpus
    table : str
        Path of the label table, for rules to name as their input.
    shards : dict of str to list of str
        Clip ids by shard name.
    systems : dict of str to System
        Those that the corpus allows.
    fusions : dict of str to dict
        As `exvo.workflow.fusion_plan.possible_fusions` gives them.
    notices : list of str
        What was left out, and why.

    Raises
    ------
    CorpusError
        If the label table is invalid, or the config names a system that does not exist.
    """

    def __init__(self, config: Mapping) -> None:
        self.config = config
        self.corpus: Corpus = read_corpus(
            user_path(config["corpus"]["root"], "corpus.root"), config["corpus"]["limit"]
        )
        self.table = str(self.corpus.root / TABLE)
        self.shards = shard_clips(self.corpus.labels.clip_id, config["corpus"]["shards"])
        self.notices = list(self.corpus.notices)
        self._weights: dict[str, str] = {}
        self.stages = self._possible_stages()
        self.systems = self._possible_systems()
        self.fusions, left_out = possible_fusions(config, self.systems)
        self.notices += left_out
        self._check_report()

    def check_sources(self) -> list[str]:
        """Check the parts of the corpus that jobs read later: the folders of recordings and ``test_labels.csv``.

        Every job makes a plan, but one check per call of Snakemake is enough; so this is a step of its own.

        Returns
        -------
        list of str
            Probable mistakes, in the words of ``exvo check``.

        Raises
        ------
        CorpusError
            If something cannot be read, or the table is invalid.
        """
        files = self._files
        found = [
            finding
            for stage, folder in SOURCE_FOLDER.items()
            if stage in self.stages
            for finding in file_findings(folder, self.corpus, files[folder])
        ]
        return [*found, *name_findings(self.corpus, read_test_labels(self.corpus))]

    def shard_names(self) -> list[str]:
        """Return the names of the shards that have clips."""
        return list(self.shards)

    def section(self, path: str) -> Any:  # noqa: ANN401 - a config value is of any type
        """Return a section of the config, as a rule's ``params`` carry it.

        Parameters
        ----------
        path : str
            Keys that lead to it, joined by points, such as ``audio.denoise``.
        """
        value: Any = self.config
        for key in path.split("."):
            value = value[key]
        return as_param(value)

    def feature(self, name: str) -> dict[str, Any]:
        """Return the settings of a feature, which may be a variant."""
        return as_param(feature_settings(self.config, name))

    def feature_names(self, kind: str) -> list[str]:
        """Return the features of a kind: itself and its variants."""
        variants = [name for name, entry in self.config["features"]["variants"].items() if entry is not None]
        return [kind, *(name for name in variants if feature_kind(name) == kind)]

    def frontend(self, feature: str) -> dict[str, Any]:
        """Return the settings of a HuBERT for the frames of its front end, which depend on no layer of the encoder."""
        settings = self.feature(feature) | {"layers": "frontend"}
        del settings["max_batch_frames"]
        return as_param(settings)

    def weights(self, feature: str) -> str:
        """Return a digest of the weights of a HuBERT.

        Raises
        ------
        ValueError
            If the weights are missing: what to fetch and where to put it.
        """
        if feature not in self._weights:  # read once, not for every shard
            settings = feature_settings(self.config, feature)
            self._weights[feature] = weights_digest(settings, feature_key(feature))
        return self._weights[feature]

    def hubert_files(self, feature: str) -> list[str]:
        """Return the files of the weights that a rule has as its input; ValueError as `weights`.

        The repository's own weights are no input, because a repository that was moved would then make all embeddings
        again; `weights` has their digest.
        """
        options = feature_settings(self.config, feature)
        files = weights_files(options, feature_key(feature))
        return [] if options["source"] in ("bundled", "random") else [str(path) for path in files]

    def clips(self, stage: str, shard: str) -> dict[str, Any]:
        """Return the clips of a shard, their files, and a digest of the files' sizes and times."""
        folder, ids = SOURCE_FOLDER[stage], self.shards[shard]
        files = list(map(self._files[folder].by_id.get, ids))
        return as_param(
            {
                "folder": str(self.corpus.root / folder),
                "files": {clip_id: file and file.name for clip_id, file in zip(ids, files, strict=True)},
                "digest": clips_digest(ids, files),
            }
        )

    def system(self, name: str) -> dict[str, Any]:
        """Return the settings of a system, as `exvo.workflow.systems.System.spec`."""
        return as_param(self.systems[name].spec())

    def encoder_module(self, name: str) -> str:
        """Return the module that trains a system."""
        return ENCODERS[self.systems[name].encoder].module

    def training_mb(self, name: str) -> int:
        """Return the memory of a training job of a system, in MB."""
        return ENCODERS[self.systems[name].encoder].memory_mb

    def feature_files(self, name: str) -> list[str]:
        """Return the feature shards that a system reads: tables of functionals, or frames and then their indices."""
        return self._feature_files(name, self.systems[name].stage)

    def perturbed(self, name: str) -> list[str]:
        """Return the feature shards of the training clips at other speeds, if a system trains on them."""
        system = self.systems[name]
        speeds = SPEEDS if system.training.get("speed_perturbation") else ()
        return [path for speed in speeds for path in self._feature_files(name, f"{system.stage}@{speed}")]

    def statistics(self, name: str) -> list[str]:
        """Return the file of the log-mel mean and SD of a system in a list; empty for an encoder that reads none."""
        system = self.systems[name]
        read = system.encoder == "conformer"
        return [f"results/features/{system.feature}/{system.stage}/statistics.json"] if read else []

    def encoder_files(self, name: str) -> list[str]:
        """Return the files of the HuBERT weights that a system's feature is of; ValueError as `weights`."""
        feature = self.systems[name].feature
        return self.hubert_files(feature) if feature_kind(feature) == "hubert" else []

    def _feature_files(self, name: str, stage: str) -> list[str]:
        system = self.systems[name]
        feature = f"{system.feature}_frontend" if fine_tuned(system.spec()) else system.feature
        endings = ("parquet",) if feature_kind(system.feature) == "opensmile" else ("npy", "parquet")
        return [f"results/features/{feature}/{stage}/{shard}.{e}" for e in endings for shard in self.shards]

    @cached_property
    def labels(self) -> dict[str, Any]:
        """The limit of the table, and a digest of the splits and of the training and validation labels."""
        labels = self.corpus.labels
        countries = canonical_json([[c.code, c.name] for c in labels.countries])
        sha = hashlib.sha256(countries.encode())
        for values in (labels.clip_id, labels.split):
            sha.update("\n".join(values).encode("utf-8", "surrogateescape"))
        # Test rows may have labels; nothing before scoring may depend on them.
        seen = labels.split != "Test"
        for values in (labels.age, labels.country, labels.emotion):
            sha.update(np.ascontiguousarray(values[seen]).tobytes())
        return {"labels": sha.hexdigest()[:32], "limit": self.config["corpus"]["limit"]}

    @cached_property
    def speakers(self) -> dict[str, str]:
        """Digests of the speakers and ``File_ID``, and of the test labels, which only scoring reads."""
        path = self.corpus.root / TEST_TABLE
        blind = not path.is_file()
        texts = ["\n".join(self.corpus.labels.speaker), "\n".join(self.corpus.file_ids)]
        test = "none" if blind else hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        return {"speakers": digest(texts), "test_labels": test}

    def train_clips_of(self, shard: str) -> list[str]:
        """Return the training clips of a shard."""
        return as_param([clip_id for clip_id in self.shards[shard] if clip_id in self._train_ids])

    @cached_property
    def train_clips(self) -> dict[str, Any]:
        """The limit of the table, and a digest of the training clips."""
        return {"limit": self.config["corpus"]["limit"], "train": digest(sorted(self._train_ids))}

    @cached_property
    def test_table(self) -> list[str]:
        """Return the path of ``test_labels.csv`` in a list; empty if the corpus has none."""
        path = self.corpus.root / TEST_TABLE
        return [str(path)] if path.is_file() else []

    def quality(self) -> dict[str, Any]:
        """Return the stages of the quality table, the limit of the table, and a digest of the clips and splits."""
        labels = self.corpus.labels
        clips = digest(["\0".join(labels.clip_id), "\0".join(labels.split)])
        return {"clips": clips, "limit": self.config["corpus"]["limit"], "stages": self.used_stages()}

    def check(self, name: str) -> str:
        """Return the file that `check_clips` writes if enough recordings of a system can be read."""
        return f"results/quality/check_{stage_path(self.systems[name].stage)[0]}.json"

    def outcome(self) -> dict[str, Any]:
        """Return the fusions, tables and statistics of the last rule, and the systems and seeds that it compares."""
        value = {
            "fusions": [{"name": name, **entry} for name, entry in self.fusions.items()],
            "submission": None if self.config["submission"] == BEST else self.config["submission"],
            "statistics": self.config["statistics"],
            # As lists, because `as_param` sorts keys, and rows have the order of the config.
            "tables": [[table, list(rows.items())] for table, rows in self.tables().items()],
            "systems": {name: self.systems[name].spec() for name in self.compared_systems()},
            "seeds": self.seeds(),
            "notices": self.notices,
        }
        return as_param(value)

    def report(self) -> dict[str, Any]:
        """Return the config and the systems that the report shows, and a digest of its template."""
        value = {
            "config": self.config,
            "systems": {name: self.systems[name].spec() for name in self.compared_systems()},
            "template": digest([REPORT_PAGE.read_text(encoding="utf-8")]),
        }
        return as_param(value)

    def fused_systems(self) -> list[str]:
        """Return the systems of all fusions, in the order in which they are named."""
        return list(dict.fromkeys(name for entry in self.fusions.values() for name in entry["systems"]))

    def tables(self) -> dict[str, dict[str, str]]:
        """Return, by table, the system of each row, as `exvo.workflow.fusion_plan.possible_tables`."""
        return possible_tables(self.config, self.systems)

    def feature_fusions(self) -> list[str]:
        """Return the names of the fusions that are trained networks."""
        return [name for name, entry in self.fusions.items() if entry.get("rule") == "feature_fusion"]

    def outcome_tables(self) -> list[str]:
        """Return the names of the tables that the last rule writes."""
        return [*self.tables(), "table4", "emotions", "groups"]

    def compared_systems(self) -> list[str]:
        """Return the systems that a fusion or a table needs, in the order of the config."""
        needed = {*self.fused_systems(), *(name for rows in self.tables().values() for name in rows.values())}
        return [name for name in self.systems if name in needed]

    def used_stages(self) -> list[str]:
        """Return the stages of the systems and the stages that these are made from, in order."""
        needed: set[str] = set()
        for name in self.compared_systems():
            needed.update(stage_path(self.systems[name].stage))
        return [stage for stage in STAGES if stage in needed]

    def is_fine_tuned(self, name: str) -> bool:
        """Return whether a system fine-tunes its HuBERT."""
        return fine_tuned(self.systems[name].spec())

    def strf_systems(self) -> list[str]:
        """Return the names of the systems with an STRF front end."""
        return [name for name, system in self.systems.items() if system.training.get("frontend") == "strf"]

    def seeds(self) -> list[int]:
        """Return the seeds that every system is trained with."""
        return list(self.config["seeds"])

    @cached_property
    def _train_ids(self) -> set[str]:
        labels = self.corpus.labels
        return set(labels.clip_id[labels.split == SPLITS[0]])

    @cached_property
    def _files(self) -> dict[str, Recordings]:
        return {folder: scan_files(self.corpus.root / folder) for folder in SOURCE_FOLDER.values()}

    def _check_report(self) -> None:
        unknown = sorted({*map(clip_id_of, self.config["report"]["clips"])} - {*self.corpus.labels.clip_id})
        if unknown:
            raise CorpusError(
                f"config: report.clips names {', '.join(unknown[:5])}, which the corpus (with its limit) does not have"
            )

    def _possible_stages(self) -> tuple[str, ...]:
        possible = []
        for stage in STAGES:
            folder = SOURCE_FOLDER[stage_path(stage)[0]]
            # Every job makes a plan, which must not list all recordings for this.
            if has_file(self.corpus.root / folder, self.corpus.labels.clip_id):
                possible.append(stage)
            else:
                self.notices.append(
                    f"stage {stage} is left out: no clip of the corpus has a file in {folder}/"
                )
        if not possible:
            raise CorpusError(
                f"{self.corpus.root}: no clip of {TABLE} has a file in raw/ or wav/, so there is no audio to read;"
                f" files are called <clip id>.<any ending>{self._misspelt()}"
            )
        return tuple(possible)

    def _misspelt(self) -> str:
        """Return a hint on a clip whose id resembles the name of a recording; empty if there is none."""
        clip_ids = self.corpus.labels.clip_id
        for folder, recordings in self._files.items():
            for clip_id, meant in look_alikes(clip_ids, recordings.by_id).items():
                file = shown(f"{folder}/{recordings.by_id[meant].name}")
                return f". {TABLE} has the clip {clip_id!r}: meant {meant!r}, of {file}?"
        return ""

    def _possible_systems(self) -> dict[str, System]:
        train = self.corpus.labels.take(self.corpus.labels.split == "Train")
        if not len(train):
            raise CorpusError(f"{self.table}: no clip of the split Train, so there is nothing to learn from")
        systems = {}
        for name, system in configured_systems(self.config).items():
            if system.stage not in self.stages:
                self.notices.append(
                    f"system {name} is left out: the corpus cannot have the stage {system.stage}"
                )
            elif not any(labelled(train, task).any() for task in system.tasks):
                tasks = " or ".join(system.tasks)
                self.notices.append(f"system {name} is left out: no Train clip has a label of {tasks}")
            else:
                systems[name] = system
        if not systems:
            raise CorpusError(
                f"no system is left to train: {'; '.join(self.notices)}. Name one under `systems` of the config for a"
                f" stage and a label of the corpus, or mend {self.table}"
            )
        return systems
