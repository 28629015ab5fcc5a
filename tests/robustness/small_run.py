"""The smallest run that goes through the workflow: one network on few features, two epochs."""

import re
from pathlib import Path

import yaml
from workflow_copy import REPOSITORY, Workflow, copy_workflow

from exvo.corpus.demo import make_demo_corpus

SUBMISSION = "results/fusion/test_preds.csv"
SYSTEM = "mlp-vad"
REPORT = "report/report.html"


def small_workflow(root: Path, *systems: str, n_clips: int = 30) -> Workflow:
    """Return a workflow with a demo corpus and some systems of the default config, by default one network."""
    workflow = copy_workflow(root)
    make_demo_corpus(workflow.corpus, n_clips=n_clips, n_speakers=12, seed=1, n_workers=2)
    default = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    size = {"d_model": 16, "n_heads": 2, "ffn": 16, "n_blocks": 1, "kernel": 3, "subsampling_channels": 4}
    wanted = systems or (SYSTEM,)
    workflow.config = {
        "corpus": {"root": "corpus", "shards": 2},
        "seeds": [0],
        "features": {"opensmile": {"feature_set": "eGeMAPSv02"}},
        "encoders": {
            "mlp": {"max_epochs": 2},
            "conformer": {"max_epochs": 2, "blocks": size, "strf": {"n_kernels": 2}},
        },
        "systems": {name: entry if name in wanted else None for name, entry in default["systems"].items()},
    }
    return workflow


def results(workflow: Workflow) -> dict[str, bytes]:
    """Return what a run left, by path, but for what tells of the run itself: logs, times and memory."""
    root = workflow.root / "results"
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and path.relative_to(root).parts[0] not in ("logs", "benchmarks")
        # Files of TensorBoard, with times in them.
        and "logs" not in path.relative_to(root).parts
    }
    if REPORT in found:
        found[REPORT], n_sections = re.subn(
            rb'<section id="cost">.*?</section>', b"", found[REPORT], flags=re.DOTALL
        )
        assert n_sections == 1
    return found
