"""Where the weights of a HuBERT come from: the files, what to fetch when they are missing, and what changes them.

The workflow asks this before any job, so nothing here imports torch.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from exvo.corpus.paths import user_path
from exvo.util.code_digest import digest

# Of our own making, pre-trained on vocal bursts: in the repository, not in the installed package.
BUNDLED = Path(__file__).resolve().parents[3] / "resources" / "burst-hubert-tiny"
BUNDLED_SHA256 = "60bfeaf6a6a08a81b657291dbebdbf82618577d54a9dba97aeb653a844363b22"
CONFIG = "config.json"
# In a folder, the first of these that is there holds the weights.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SOURCES = ("bundled", "random", "checkpoint", "bundle")
# Larger files are told apart by size and time of change: a gigabyte is not read at every call of the workflow.
_READ_BYTES = 32 * 2**20
_HOW = (
    "Fetch one of these where there is a network: the file hubert_fairseq_base_ls960.pth from "
    "https://download.pytorch.org/torchaudio/models/ (torchaudio's HuBERT Base), or config.json with "
    "model.safetensors or pytorch_model.bin, in a folder, from https://huggingface.co/facebook/hubert-base-ls960. "
    "Put it anywhere, set `checkpoint` there to the file or the folder, and `sha256` to what `sha256sum` says of the "
    "weights."
)


def weights_files(options: Mapping[str, object], where: str = "features.hubert") -> list[Path]:
    """Return the weights' file and its ``config.json``, as far as there is one.

    Parameters
    ----------
    options : mapping
        ``source``, ``checkpoint`` and ``sha256`` of ``features.hubert`` or of a variant of it.
    where : str
        Its place in the config, for messages.

    Returns
    -------
    list of Path
        The weights first. Empty for ``bundle``: torchaudio's cache is its own.

    Raises
    ------
    ValueError
        Where a file is missing: what to fetch and where to put it. Where a SHA-256 is not one.
    """
    source, sha256 = options["source"], options["sha256"]
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", str(sha256)):
        raise ValueError(f"config: {where}.sha256: {sha256!r} is not 64 digits 0-9 a-f")
    if source == "bundle":
        return []
    if source in ("bundled", "random"):
        files = [BUNDLED / WEIGHTS[0], BUNDLED / CONFIG]
        for path in files:
            if not path.is_file():
                raise ValueError(
                    f"config: {where}.source is {source}, but {path} is missing; take it from the "
                    "repository of this workflow, or name another source"
                )
        return files
    if source != "checkpoint":
        raise ValueError(f"config: {where}.source: {source!r} is not one of {', '.join(SOURCES)}")
    if options["checkpoint"] is None:
        raise ValueError(f"config: {where}.source is checkpoint, but {where}.checkpoint is null. {_HOW}")
    path = user_path(str(options["checkpoint"]), f"{where}.checkpoint")
    weights = weights_of(path)
    if not weights.is_file():
        lacks = f"has no {' and no '.join(WEIGHTS)}" if path.is_dir() else "is not there"
        raise ValueError(f"config: {where}.checkpoint: {path} {lacks}. {_HOW}")
    config = weights.with_name(CONFIG)
    return [weights, config] if config.is_file() else [weights]


def weights_digest(options: Mapping[str, object], where: str = "features.hubert") -> str:
    """Return a text that changes with the weights that ``features.hubert`` names.

    It is of the content of files of at most 32 MiB; of the SHA-256 that the config states, where the weights are
    larger, which is checked when they are read; else of size and time of change. Of a named bundle it is of the
    name and the SHA-256: what is published under a name stays.

    Raises
    ------
    ValueError
        As `weights_files`, and as `check_sha256` for files that are read.
    """
    parts = [str(options[name]) for name in ("source", "bundle", "sha256")]
    for place, path in enumerate(weights_files(options, where)):
        stat = path.stat()
        if stat.st_size <= _READ_BYTES:
            sha256 = file_sha256(path)
            if place == 0:
                check_sha256(path, sha256, options, where)
            parts.append(sha256)
        elif options["sha256"] is None:
            parts += [path.name, str(stat.st_size), str(stat.st_mtime_ns)]
    return digest(parts)


def check_sha256(path: Path, sha256: str, options: Mapping[str, object], where: str) -> None:
    """Refuse weights that are not those that the config, or for our own encoder this version, states.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of the file.
    options, where
        As for `weights_files`.

    Raises
    ------
    ValueError
        Where the SHA-256 is another.
    """
    if options["source"] in ("bundled", "random") and sha256 != BUNDLED_SHA256:
        raise ValueError(
            f"{path}: its SHA-256 is {sha256}, but that of the encoder that comes with this version is "
            f"{BUNDLED_SHA256}; take the file from the repository again, or name another one with {where}.source: "
            "checkpoint"
        )
    if options["sha256"] not in (None, sha256):
        raise ValueError(
            f"{path}: its SHA-256 is {sha256}, but {where}.sha256 is {options['sha256']}; fetch the file again, or "
            "correct that key if this file is the one you mean"
        )


def weights_of(path: Path) -> Path:
    """Return the weights in a folder of `transformers`; of any other path, the path."""
    return next((path / name for name in WEIGHTS if (path / name).is_file()), path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
