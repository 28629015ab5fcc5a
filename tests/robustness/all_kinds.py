"""A run of the whole workflow in miniature: every rule, and a system and a fusion of every kind."""

import re
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from small_run import SUBMISSION, results, small_workflow
from workflow_copy import REPOSITORY, Workflow

SYSTEMS = {
    "mlp": {"stage": "vad", "feature": "opensmile", "encoder": "mlp"},
    "logmel": {"stage": "raw", "feature": "logmel", "encoder": "conformer"},
    "strf": {
        "stage": "raw",
        "feature": "logmel",
        "encoder": "conformer",
        "training": {"frontend": "strf", "speed_perturbation": True},
    },
    "frozen": {"stage": "denoised", "feature": "hubert", "encoder": "hubert"},
    "fine-tuned": {"stage": "raw", "feature": "hubert", "encoder": "hubert", "training": {"fine_tune": {}}},
}
# Feature fusions by what they read of their systems.
POOLED = ("mlp", "strf", "frozen", "fine-tuned")
FEATURE_FUSION = {
    "feature-fusion": {"systems": list(POOLED), "rule": "feature_fusion"},
    "feature-fusion-of-features": {
        "systems": ["mlp", "logmel", "frozen"],
        "rule": "feature_fusion",
        "inputs": "features",
    },
}
TARGETS = (
    SUBMISSION,
    "results/report/report.html",
    "results/pretrain/first/model.safetensors",
    "results/pretrain/second/model.safetensors",
    "results/figures/highpass.png",
)


def all_rules() -> set[str]:
    """Return the names of the rules that make something."""
    text = "".join(file.read_text() for file in (REPOSITORY / "workflow/rules").glob("*.smk"))
    return set(re.findall(r"^(?:use rule \w+ as|rule) (\w+)", text, re.MULTILINE))


def workflow_of_all_kinds(root: Path) -> Workflow:
    """Return a workflow that has not run yet, with a demo corpus of 24 clips in two shards."""
    workflow = small_workflow(root, n_clips=24)
    config = workflow.config
    config["encoders"]["mlp"]["max_epochs"] = 1
    config["encoders"]["conformer"]["max_epochs"] = 1
    config["encoders"]["hubert"] = {"max_epochs": 1, "projection": 8}
    config["systems"] = dict.fromkeys(config["systems"]) | SYSTEMS
    config["fusions"] = {
        "weighted": {"systems": list(SYSTEMS), "step": 0.5},
        "stacked": {"systems": list(SYSTEMS), "rule": "stacked"},
        "per-task": None,
        "paper": {"systems": ["frozen", "strf"], "rule": "paper"},
        **FEATURE_FUSION,
    }
    config["feature_fusion"] = {"max_epochs": 1}
    config["tables"] = {
        "table1": dict.fromkeys(("baseline", "raw", "dc", "denoised")) | {"vad": "mlp"},
        "table2": dict.fromkeys(("emotion only", "age only", "country only", "feature_fusion"))
        | {"all": "logmel"},
        "table3": {
            "HuBERT: burst-hubert-tiny": "frozen",
            "HuBERT + denoise: burst-hubert-tiny": None,
            "HuBERT + denoise + speed perturbation: burst-hubert-tiny": None,
            "Conformer (STRF)": "strf",
            "Conformer (log-mel)": "logmel",
            "fine-tuned": "fine-tuned",
        },
    }
    config["statistics"] = {"resamples": 100}
    config["report"] = {"clips": []}
    encoder = {"d_model": 16, "n_heads": 2, "ffn": 16, "n_layers": 1, "positional_groups": 2}
    config["pretrain"] = {
        "clusters": {"mfcc": {"of": "mfcc", "k": 8}},
        "models": {
            "first": {"targets": ["mfcc"], "encoder": encoder, "training": {"max_steps": 4}},
            "second": {
                "targets": ["mfcc"],
                "encoder": encoder | {"frontend": "conv", "conv_channels": 8},
                "training": {"max_steps": 2},
            },
        },
    }
    return workflow


def from_scratch(
    workflow: Workflow, root: Path, *flags: str, shards: int = 2, whole_path: bool = False
) -> Workflow:
    """Run everything in another folder, with nothing there but the corpus."""
    again = workflow.copy(root)
    shutil.rmtree(root / "results")
    shutil.rmtree(root / ".snakemake")
    corpus = str(again.corpus) if whole_path else "corpus"
    again.config["corpus"] |= {"shards": shards, "root": corpus}
    again.run(*TARGETS, flags=flags)
    return again


class Snapshot:
    """Content and time of change of every file of a run's results, by path."""

    def __init__(self, workflow: Workflow):
        self.content = {path: sha256(data).hexdigest() for path, data in results(workflow).items()}
        self.times = {path: (workflow.root / "results" / path).stat().st_mtime_ns for path in self.content}


def matching(paths: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """Return the paths that one of the patterns matches; each pattern must match one."""
    patterns = list(patterns)
    found = {pattern: {path for path in paths if fnmatchcase(path, pattern)} for pattern in patterns}
    assert all(found.values()), [pattern for pattern, some in found.items() if not some]
    return set().union(*found.values()) if found else set()
