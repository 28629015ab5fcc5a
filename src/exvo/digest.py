"""Digests that tell Snakemake exactly when a job has to run again.

Snakemake compares ``params`` as an unordered set of representations and does not look into imported modules, so
every rule carries one canonical JSON text: its own config section and a digest of the code that implements it.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def canonical_json(value: object) -> str:
    """Return the JSON text of ``value`` with sorted keys, so that equal values have equal texts.

    ASCII throughout: a file's name need not be UTF-8, and Snakemake writes down what it is given.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(parts: Iterable[str]) -> str:
    """Return a short SHA-256 over some texts; where one ends and the next begins counts."""
    pieces = []
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        pieces += (len(data).to_bytes(8, "big"), data)
    return hashlib.sha256(b"".join(pieces)).hexdigest()[:32]


@cache  # asked for again by every job whose params are a function
def code_digest(*modules: str) -> str:
    """Return a digest of modules of this package and of all modules of the package that they import.

    Docstrings and comments do not count: editing them reruns nothing.

    Parameters
    ----------
    *modules
        Dotted names, such as ``"exvo.audio.denoise"``.
    """
    closure = sorted(import_closure(*modules))
    return digest(text for name in closure for text in (name, _parsed(name)[1]))


def import_closure(*modules: str) -> set[str]:
    """Return the names of the package's modules that ``modules`` import, directly or not, and their own."""
    closure: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in closure:
            closure.add(name)
            waiting.extend(_parsed(name)[0])
    return closure


@cache
def _source(module: str) -> Path:
    root = Path(__file__).parent
    path = root.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    raise ModuleNotFoundError(f"No module {module!r} in {root}")


@cache
def _parsed(module: str) -> tuple[frozenset[str], str]:
    """Return the package's own modules that a module imports, wherever in it, and its code without docstrings."""
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    package = __name__.split(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ImportError(f"{module}: relative imports are not followed; write the whole name")
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    own = frozenset(n for n in names if n.split(".")[0] == package and _is_module(n))
    return own, ast.dump(tree)


@cache
def _is_module(name: str) -> bool:
    try:
        _source(name)
    except ModuleNotFoundError:
        return False
    return True
