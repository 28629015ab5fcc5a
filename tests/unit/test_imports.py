"""What is not imported: by jobs, packages that they do not use; by a package of ours, those after it in the design."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exvo.util.code_digest import import_closure

TRAINING = {"torchmetrics", "torch._dynamo", "tensorboard"}
STATISTICS = {"scipy.signal", "scipy.stats", "sklearn", "pandas", "matplotlib"}
# The Snakefile is read by every job on a cluster.
RULES = Path(__file__).parents[2] / "workflow/rules"
PLANNING = sorted(
    {
        name
        for file in RULES.glob("*.smk")
        for name in re.findall(r"^from (exvo[\w.]+) import", file.read_text(), re.MULTILINE)
    }
)
AUDIO = ["exvo.audio.convert", "exvo.audio.quality", "exvo.audio.stage_dc", "exvo.audio.stage_vad"]
FEATURES = ["exvo.features.opensmile", "exvo.features.logmel", "exvo.features.vectors"]
PREDICTION = [
    "exvo.hubert.embeddings",
    "exvo.systems.utterance_embeddings",
    "exvo.systems.load",
    "exvo.predict.recordings",
]
REPORT = ["exvo.report.outcome", "exvo.report.page.write"]


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (PLANNING, {"torch", "scipy", *STATISTICS}),
        ([*AUDIO, "exvo.audio.stage_denoised", *FEATURES], {"torch", *STATISTICS}),
        (REPORT, {"torch"}),
        (PREDICTION, {*TRAINING, *STATISTICS}),
    ],
    ids=["planning", "audio and features", "report", "prediction"],
)
def test_jobs_do_not_import_what_they_do_not_use(modules, heavy):
    assert modules
    # With all that they import later, inside functions.
    code = (
        f"import importlib, sys\nfor name in {sorted(import_closure(*modules))}: importlib.import_module(name)\n"
        f"found = {heavy} & sys.modules.keys()\nassert not found, sorted(found)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_jobs_of_a_shard_do_without_pandas(tmp_path):
    # pyarrow itself imports it, for whoever gives it values to convert.
    code = (
        "import sys\nimport numpy as np\nimport pyarrow as pa\n"
        "from exvo.audio.store import Clip, read_shard, write_shard\n"
        "from exvo.features.store import FeatureRow, read_utterances, write_sequences, write_utterances\n"
        f"write_shard({str(tmp_path / 'a.parquet')!r}, "
        "[Clip('a', np.zeros(9)), Clip('b', None)], {'gain': pa.float64()}, bits=16)\n"
        f"clips = read_shard({str(tmp_path / 'a.parquet')!r})\n"
        "rows = [FeatureRow(clip.clip_id, None, clip.status, clip.reason) for clip in clips]\n"
        f"write_utterances({str(tmp_path / 'u.parquet')!r}, rows, ['f'])\n"
        f"read_utterances([{str(tmp_path / 'u.parquet')!r}], [['a']])\n"
        f"write_sequences({str(tmp_path / 's.npy')!r}, {str(tmp_path / 's.parquet')!r}, rows, 2, 'float16')\n"
        "assert 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_packages_import_only_from_those_above_them_in_the_design():
    repository = Path(__file__).parents[2]
    design = (repository / "docs/design.md").read_text(encoding="utf-8")
    table = design.partition("## Packages and the order of imports")[2].partition("## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    order = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    library = repository / "src/exvo"
    packages = {path.parent.name for path in library.glob("*/__init__.py")} | {"cli"}
    assert set(order) == packages
    upward = []
    for path in library.rglob("*.py"):
        package = path.relative_to(library).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root, _, rest = name.partition(".")
                imported = rest.partition(".")[0]
                if root == "exvo" and imported and order.index(imported) > order.index(package):
                    upward.append(f"{path.relative_to(library)} imports {name}")
    assert not upward
