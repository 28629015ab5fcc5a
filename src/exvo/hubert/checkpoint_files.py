"""Files of HuBERT weights: their paths, what to download when they are missing, and a digest of them.

The workflow uses this module before any job, so it does not import torch.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from exvo.corpus.paths import user_path
from exvo.util.code_digest import digest

# Our own encoder, pre-trained on vocal bursts. It is in the repository, not in the installed package.
BUNDLED = Path(__file__).resolve().parents[3] / "resources" / "burst-hubert-tiny"
BUNDLED_SHA256 = "60bfeaf6a6a08a81b657291dbebdbf82618577d54a9dba97aeb653a844363b22"
CONFIG = "config.json"
# The first of these files in a folder contains the weights.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SOURCES = ("bundled", "random", "checkpoint", "bundle")
# Larger files are identified by size and modification time, so that no call of the workflow reads gigabytes.
_READ_BYTES = 32 * 2**20
_HOW = (
    "Download one of these on a machine with a network: the file hubert_fairseq_base_ls960.pth from "
    "https://download.pytorch.org/torchaudio/models/ (torchaudio's HuBERT Base), or config.json with "
    "model.safetensors or pytorch_model.bin, in a folder, from https://huggingface.co/facebook/hubert-base-ls960. "
    "Set `checkpoint` to the path of the file or folder, and `sha256` to the output of `sha256sum` for the weights."
)


def weights_files(options: Mapping[str, object], where: str = "features.hubert") -> list[Path]:
    """Return the file of the weights and its ``config.json``, if there is one.

    Parameters
    ----------
    options : mapping
        ``source``, ``checkpoint`` and ``sha256`` of ``features.hubert`` or of a variant of it.
    where : str
        Section of the config, for messages.

    Returns
    -------
    list of Path
        The weights first. Empty for ``bundle``, because torchaudio manages its own cache.

    Raises
    ------
    ValueError
        Where a file is missing (the message says what to download), or a SHA-256 is malformed.
    """
    source, sha256 = options["source"], options["sha256"]
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", str(sha256)):
        raise ValueError(f"config: {where}.sha256: {sha256!r} is not a SHA-256 (64 digits 0-9 a-f)")
    if source == "bundle":
        return []
    if source in ("bundled", "random"):
        files = [BUNDLED / WEIGHTS[0], BUNDLED / CONFIG]
        for path in files:
            if not path.is_file():
                raise ValueError(
                    f"config: {where}.source is {source}, but {path} is missing; copy it from the "
                    "repository of this workflow, or set another source"
                )
        return files
    if source != "checkpoint":
        raise ValueError(f"config: {where}.source: {source!r} is not one of {', '.join(SOURCES)}")
    if options["checkpoint"] is None:
        raise ValueError(f"config: {where}.source is checkpoint, but {where}.checkpoint is null. {_HOW}")
    path = user_path(str(options["checkpoint"]), f"{where}.checkpoint")
    weights = weights_of(path)
    if not weights.is_file():
        lacks = f"has neither {' nor '.join(WEIGHTS)}" if path.is_dir() else "does not exist"
        raise ValueError(f"config: {where}.checkpoint: {path} {lacks}. {_HOW}")
    config = weights.with_name(CONFIG)
    return [weights, config] if config.is_file() else [weights]


def weights_digest(options: Mapping[str, object], where: str = "features.hubert") -> str:
    """Return a digest that changes with the weights of ``features.hubert``.

    For files of at most 32 MiB, it depends on the content. For larger files, it depends on the SHA-256 in the config,
    which is checked when the file is read, or else on size and modification time. For a named bundle, it depends on the
    name and the SHA-256, because published files do not change.

    Raises
    ------
    ValueError
        As for `weights_files`, and for `check_sha256` where files are read.
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
    """Refuse weights whose SHA-256 is not that of the config or, for our own encoder, of this version.

    Parameters
    ----------
    path : Path
    sha256 : str
        SHA-256 of the file.
    options, where
        As for `weights_files`.

    Raises
    ------
    ValueError
        Where the SHA-256 differs.
    """
    if options["source"] in ("bundled", "random") and sha256 != BUNDLED_SHA256:
        raise ValueError(
            f"{path}: its SHA-256 is {sha256}, but the encoder of this version has {BUNDLED_SHA256}; copy the file "
            f"from the repository again, or set another one with {where}.source: checkpoint"
        )
    if options["sha256"] not in (None, sha256):
        raise ValueError(
            f"{path}: its SHA-256 is {sha256}, but {where}.sha256 is {options['sha256']}; download the file again, or "
            "correct that key if this is the intended file"
        )


def weights_of(path: Path) -> Path:
    """Return the file of the weights in a folder of `transformers`, or the path itself if it is not such a folder."""
    return next((path / name for name in WEIGHTS if (path / name).is_file()), path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
