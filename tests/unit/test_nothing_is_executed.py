"""No code of ours reads what could run code: no pickle, no unsafe YAML, no shell, no eval, by whatever name."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FILES = sorted([*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "workflow/scripts").glob("*.py")])
# What may import by a name: a table of modules in the same file.
ALLOWED = {
    "src/exvo/workflow/systems.py": ["from importlib import import_module", "import_module(self.module)"]
}
# Modules of which nothing may be used, and what of them may.
PICKLES = {"pickle", "_pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle"}
HARMLESS = {"pickle.UnpicklingError"}
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "importlib.import_module", "runpy.run_path", "runpy.run_module",
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all",
    "torch.jit.load", "torch.hub.load", "torch.serialization.load", "pandas.read_pickle",
}  # fmt: skip
# What a call must say to be harmless, and what no call, whatever its name, may say otherwise.
MUST_SAY = {"torch.load": "weights_only", "numpy.load": "allow_pickle"}
IF_SAID = {"weights_only": "True", "allow_pickle": "False", "shell": "False"}
# Modules that code could rename by an assignment, and so hide what it uses of them.
MODULES = PICKLES | {name.partition(".")[0] for name in (*FORBIDDEN, *MUST_SAY) if "." in name}


def imported(tree):
    """Return the whole name of everything that is imported, by the name it has in the file."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                short = alias.asname or alias.name.partition(".")[0]
                names[short] = alias.name if alias.asname else short
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def whole_name(node, names):
    """Return what a name or a chain of attributes stands for; empty for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (start := whole_name(node.value, names)):
        return f"{start}.{node.attr}"
    return ""


def problems(source):
    tree = ast.parse(source)
    names, found = imported(tree), []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                star = alias.name == "*" and node.module.partition(".")[0] in MODULES
                whole = f"{node.module}.{alias.name}"
                if star or (node.module in PICKLES and whole not in HARMLESS) or whole in FORBIDDEN:
                    found.append(f"from {node.module} import {alias.name}")
        if isinstance(node, ast.Call):
            said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if any(said.get(key, value) != value for key, value in IF_SAID.items()):
                found.append(ast.unparse(node))
        parent = parents.get(node)
        name = whole_name(node, names)
        if not name or isinstance(parent, ast.Attribute):
            continue
        called = isinstance(parent, ast.Call) and parent.func is node
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in parent.keywords} if called else {}
        of_pickle = name.partition(".")[0] in PICKLES and name not in HARMLESS
        # What is said otherwise is found above.
        unsaid = name in MUST_SAY and MUST_SAY[name] not in said
        if name in FORBIDDEN or of_pickle or unsaid or (name in MODULES and isinstance(node.ctx, ast.Load)):
            found.append(ast.unparse(parent if called else node))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_nothing_that_is_read_can_run_code(file):
    assert problems(file.read_text()) == ALLOWED.get(str(file.relative_to(REPOSITORY)), [])


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.load(p)",
        "import torch; torch.load(p, weights_only=False)",
        "import torch; torch.load(p, **options)",
        "from torch import load; load(p)",
        "from torch import load as read; read(p)",
        "import torch; partial(torch.load, p)",
        "import torch as t; read = t.load",
        "import torch; t = torch",
        "import torch.jit as jit; jit.load(p)",
        "from torch import jit; jit.load(p)",
        "import numpy as np; np.load(p, allow_pickle=True)",
        "import numpy; numpy.load(p, allow_pickle=True)",
        "import numpy; numpy.load(p)",
        "from numpy import load as read; read(p)",
        "from numpy.lib import format as form; form.read_array(f, allow_pickle=True)",
        "import pandas as frames; frames.read_pickle(p)",
        "import pickle; pickle.loads(b)",
        "import pickle as safe; safe.Unpickler(f)",
        "import pickle; p = pickle",
        "from pickle import loads",
        "from pickle import *",
        "from _pickle import Unpickler as Reader",
        "import joblib; joblib.load(p)",
        "import yaml; yaml.load(t, Loader=L)",
        "import yaml as y; y.unsafe_load_all(t)",
        "from yaml import full_load",
        "import subprocess; subprocess.run(c, shell=True)",
        "from subprocess import run; run(c, shell=flag)",
        "import os; os.system(c)",
        "from os import popen",
        "eval(t)",
        "run = exec",
        "from importlib import import_module as take",
    ],
)
def test_what_could_is_found(line):
    assert len(problems(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.load(p, map_location='cpu', weights_only=True)",
        "from torch import load; load(p, weights_only=True)",
        "import numpy as np; np.load(p, mmap_mode='r', allow_pickle=False)",
        "import pickle\ntry: x()\nexcept pickle.UnpicklingError: pass",
        "import re; re.compile(t)",
        "from re import compile; compile(t)",
        "import yaml; yaml.safe_load(t)",
        "model.eval()",
    ],
)
def test_what_could_not_is_left_alone(line):
    assert problems(line) == []


def test_rules_have_no_shell():
    for file in [REPOSITORY / "workflow/Snakefile", *(REPOSITORY / "workflow/rules").glob("*.smk")]:
        lines = [line.strip() for line in file.read_text().splitlines()]
        assert not {"shell:", "run:"} & set(lines), file
