"""Digests of code, which change exactly when a job has to run again because of an edit.

Snakemake does not look into imported modules, so every rule has a digest of the modules that implement it among its
``params``.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

from exvo.util.atomic import write_text

_PACKAGE = Path(__file__).parents[1]
# Readings that are kept, most of them of sources that have been edited since; beyond it, all sources are read again.
MAX_KEPT = 2000


def canonical_json(value: object) -> str:
    """Return the JSON text of ``value`` with sorted keys, so that equal values have equal texts.

    The text is ASCII, because the name of a file need not be UTF-8.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(parts: Iterable[str]) -> str:
    """Return a short SHA-256 over some texts; the boundaries between texts count."""
    pieces: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        pieces += (len(data).to_bytes(8, "big"), data)
    return hashlib.sha256(b"".join(pieces)).hexdigest()[:32]


@cache  # called for every job whose params are a function
def code_digest(*modules: str) -> str:
    """Return a digest of modules of this package and of all modules of the package that they import.

    Docstrings and comments do not count: editing them reruns nothing.

    Parameters
    ----------
    *modules
        Dotted names, such as ``"exvo.audio.denoise"``.
    """
    closure = sorted(import_closure(*modules))
    code = digest(text for name in closure for text in (name, _parsed(name)[1]))
    _READINGS.keep()
    return code


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
    root = _PACKAGE
    path = root.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    raise ModuleNotFoundError(f"No module {module!r} in {root}")


@cache
def _parsed(module: str) -> tuple[frozenset[str], str]:
    """Return the package's own modules that a module imports, wherever in it, and a digest of its code."""
    names, code = _READINGS.of(module, _source(module).read_bytes())
    return frozenset(name for name in names if _is_module(name)), code


def _read(module: str, source: bytes) -> tuple[list[str], str]:
    """Return the names of the package that a module imports, and a digest of its code without docstrings."""
    tree = ast.parse(source)
    package = __name__.split(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ImportError(f"{module}: relative imports are not followed; write the full name")
            imported = str(node.module)
            names.add(imported)
            names.update(f"{imported}.{alias.name}" for alias in node.names)
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return sorted(name for name in names if name.split(".")[0] == package), digest([ast.dump(tree)])


class _Readings:
    """Results of `_read` by the content of the sources, cached next to Python's compiled modules.

    Reading the sources takes a tenth of the planning of a small corpus, in every call and in every job of a cluster.
    Nothing is cached where Python caches nothing either: in a read-only checkout, or on request.
    """

    def __init__(self) -> None:
        cached = f"code_digests.{sys.implementation.cache_tag}.json"
        self._path = _PACKAGE / "__pycache__" / cached
        self._changed = False

    def of(self, module: str, source: bytes) -> tuple[list[str], str]:
        """Return the result of `_read` for a module."""
        key = self._way.copy()
        key.update(source)
        name = key.hexdigest()
        if name not in self._known:
            self._known[name] = _read(module, source)
            self._changed = True
        return self._known[name]

    @cached_property
    def _way(self) -> "hashlib._Hash":
        """Hash of this file, which starts the keys of all sources: another version of `_read` has other results."""
        return hashlib.sha256(Path(__file__).read_bytes())

    @cached_property
    def _known(self) -> dict[str, tuple[list[str], str]]:
        """The results by key; at first those of the cache."""
        try:
            kept = json.loads(self._path.read_bytes())
        except (OSError, ValueError):  # missing or damaged: all sources are read again
            return {}
        valid = isinstance(kept, dict) and all(
            isinstance(reading, list) and list(map(type, reading)) == [list, str] for reading in kept.values()
        )
        return kept if valid and len(kept) <= MAX_KEPT else {}

    def keep(self) -> None:
        """Write the results since the last call to the cache, if it can be written."""
        if not self._changed or sys.dont_write_bytecode:
            return
        self._changed = False
        with suppress(OSError):
            write_text(self._path, json.dumps(self._known))


_READINGS = _Readings()


@cache
def _is_module(name: str) -> bool:
    try:
        _source(name)
    except ModuleNotFoundError:
        return False
    return True
