"""What other number formats do to a HuBERT on the CPU: the embeddings, and the scores of a decoder trained on them."""

import json
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml
from common import Record, corpus_folder

from exvo.audio.convert import ConvertConfig, convert_shard
from exvo.hubert.embeddings import EmbeddingConfig, embed_shard
from exvo.systems.hubert import train_system
from exvo.workflow.config import complete
from exvo.workflow.plan import Plan

REPOSITORY = Path(__file__).parents[1]
SYSTEM = "burst-hubert-tiny"  # of the default config: its encoder comes with the repository


def int8_linear(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy whose linear layers multiply in int8, their inputs' scales taken as they come.

    It is what torch brings itself, and says it will take out; the successor is another package.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def relative_error(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Return the root-mean-square difference over all embeddings, as a share of their root mean square."""
    apart = sum(float(np.square(a - b).sum()) for a, b in zip(found, expected, strict=True))
    return (apart / sum(float(np.square(b).sum()) for b in expected)) ** 0.5


def scores_of_precisions(n_clips: int) -> list[Record]:
    """Train the same decoder on embeddings of float32 and of bfloat16; return a record of each score on Val."""
    schema = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
    config = complete(yaml.safe_load((REPOSITORY / "config/config.yaml").read_text()), schema)
    metrics = {}
    with corpus_folder(None, n_clips) as root, tempfile.TemporaryDirectory() as folder:
        config["corpus"] |= {"root": str(root), "shards": 1}
        plan = Plan(config)
        system = plan.system(SYSTEM)
        folder, audio = Path(folder), Path(folder) / "raw.parquet"
        files = {path.stem: path.name for path in (root / "raw").iterdir()}
        convert_shard(root / "raw", files, audio, ConvertConfig(), bits=24, n_threads=2)
        embedding = EmbeddingConfig.from_dict(system["feature_config"])
        for precision in ("fp32", "bf16"):
            shard = folder / f"{precision}.npy", folder / f"{precision}.parquet"
            embed_shard(audio, *shard, replace(embedding, precision=precision))
            target = folder / precision
            train_system(shard, plan.corpus, system, 0, target)
            metrics[precision] = json.loads((target / "metrics.json").read_text())["val"]
    return [
        Record(
            "hubert",
            f"{name.upper()} on Val with bfloat16 embeddings ({SYSTEM}, {len(files)} demo clips, one seed)",
            round(ratio, 3),
            round(ours, 4),
            round(theirs, 4),
            name.upper(),
            f"{theirs - ours:+.4f}",
        )
        for name in ("ccc", "uar", "mae")
        for ours, theirs in [[metrics[precision][name] for precision in ("fp32", "bf16")]]
        for ratio in [theirs / ours if name == "mae" else ours / theirs]
    ]
