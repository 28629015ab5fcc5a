"""No code of ours reads what could run code: no pickle, no unsafe YAML, no shell, no eval."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FILES = sorted([*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "workflow/scripts").glob("*.py")])
# `pickle` itself for the name of its error only.
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "pickle.Unpickler", "joblib.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load",
    "torch.hub.load", "pd.read_pickle", "shelve.open", "marshal.loads", "dill.load", "cloudpickle.load",
    "subprocess.getoutput",
}  # fmt: skip
# What a call must say to be harmless.
MUST_SAY = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def problems(source):
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in (
            "pickle",
            "marshal",
            "shelve",
            "joblib",
            "dill",
        ):
            found.append(f"from {node.module} import")
        if not isinstance(node, ast.Call):
            continue
        name, said = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in FORBIDDEN or said.get("shell", "False") != "False":
            found.append(ast.unparse(node))
        if name in MUST_SAY and said.get(MUST_SAY[name][0]) != str(MUST_SAY[name][1]):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_nothing_that_is_read_can_run_code(file):
    assert problems(file.read_text()) == []


@pytest.mark.parametrize(
    "line",
    ["torch.load(p)", "np.load(p, allow_pickle=True)", "subprocess.run(c, shell=True)", "yaml.load(t, Loader=L)",
     "from pickle import loads", "eval(t)", "torch.jit.load(p)"],
)  # fmt: skip
def test_what_could_is_found(line):
    assert len(problems(line)) == 1


def test_rules_have_no_shell():
    for file in [REPOSITORY / "Snakefile", *(REPOSITORY / "workflow/rules").glob("*.smk")]:
        lines = [line.strip() for line in file.read_text().splitlines()]
        assert not {"shell:", "run:"} & set(lines), file
