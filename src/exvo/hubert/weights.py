"""Load the weights of a HuBERT encoder with a check of their SHA-256, without executing code from the file."""

import json
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from exvo.hubert.checkpoint_files import CONFIG, check_sha256, file_sha256, weights_files
from exvo.hubert.encoder import Hubert, HubertConfig, build_hubert
from exvo.hubert.published import (
    BUNDLES,
    config_from_json,
    config_from_shapes,
    torchaudio_state,
    torchaudio_state_of_transformers,
)

logger = logging.getLogger(__name__)

_URL = "https://download.pytorch.org/torchaudio/models/"
_RANDOM_SEED = 0


@dataclass(frozen=True)
class HubertWeights:
    """An encoder with its weights, and their source.

    Attributes
    ----------
    model : Hubert
        In float32, on the CPU, in evaluation mode.
    path : Path
    sha256 : str
        SHA-256 of the file at ``path``, in hexadecimal.
    """

    model: Hubert
    path: Path
    sha256: str


def load_hubert(options: Mapping[str, object], where: str = "features.hubert") -> HubertWeights:
    """Return the encoder in the config.

    Parameters
    ----------
    options : mapping
        Keys of ``features.hubert``:

        - ``source``: ``bundled``, our own small encoder in ``resources/``; ``random``, the same encoder with random
          weights, as a control; ``checkpoint``, a local file or folder; ``bundle``, a torchaudio bundle, from torch's
          cache. Only with ``bundle`` is a missing file downloaded.
        - ``checkpoint``: a state dict of torchaudio (``.pt``, ``.pth``, ``.safetensors``) or a folder of
          `transformers`. A ``config.json`` in its folder defines the encoder; else the shapes of the weights do.
        - ``sha256``: SHA-256 of the file. With None there is no check, and one warning is logged. Our own encoder is
          always checked.
        - ``bundle``: a key of `exvo.hubert.published.BUNDLES`.
    where : str
        Section of the config, for messages.

    Raises
    ------
    ValueError
        Where a file is missing; the message says what to download.
    ValueError
        Where a file has another SHA-256, contains more than tensors, or does not match the encoder.
    """
    path = _weights_file(options, where)
    record, known = None, None
    if options["source"] == "bundle":
        known = BUNDLES[str(options["bundle"])][1]
    elif path.with_name(CONFIG).is_file():
        record = json.loads(path.with_name(CONFIG).read_text(encoding="utf-8"))
    sha256 = file_sha256(path)
    check_sha256(path, sha256, options, where)
    if options["sha256"] is None and options["source"] in ("checkpoint", "bundle"):
        _warn_unchecked(path, sha256, where)
    try:
        model = _model(read_tensors(path), record, known)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if options["source"] == "random":
        moments = dict(model.named_buffers())
        model = build_hubert(model.config, _RANDOM_SEED)
        # Mean and SD of a log-mel front end are not weights and are kept.
        for name, buffer in model.named_buffers():
            buffer.copy_(moments[name])
    logger.info("HuBERT weights: %s, SHA-256 %s", path, sha256)
    return HubertWeights(model.eval(), path, sha256)


@cache  # once for each file
def _warn_unchecked(path: Path, sha256: str, where: str) -> None:
    logger.warning("%s: its SHA-256 is not checked; if %s is right, set %s.sha256 to it", path, sha256, where)


def exact_source(options: Mapping[str, object], where: str = "features.hubert") -> dict[str, object]:
    """Return ``features.hubert`` with the SHA-256 of its weights. The parameters are those of `load_hubert`.

    Raises
    ------
    ValueError
        As for `load_hubert`.
    """
    return {**options, "sha256": file_sha256(_weights_file(options, where))}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a ``.safetensors`` file, or from a pickle with nothing but tensors.

    Raises
    ------
    ValueError
        Where the file contains anything else.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except SafetensorError as error:
            raise ValueError(f"not a safetensors file ({error})") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            "not a file of named tensors only; other content is refused, because a pickle can execute code "
            f"({str(error).splitlines()[0]})"
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError("not a state dict: it must contain named tensors only")
    return dict(state)


def _model(state: dict[str, Tensor], record: Mapping[str, Any] | None, known: HubertConfig | None) -> Hubert:
    """Build the encoder of a state dict and load the weights."""
    if record is not None:
        config = config_from_json(record)
        if "model_type" in record:
            state = torchaudio_state_of_transformers(state, config)
        else:
            state = torchaudio_state(state)
    else:
        state = torchaudio_state(state)
        config = known or config_from_shapes(state)
    model = build_hubert(config)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise ValueError(
            f"the weights do not match the encoder of {CONFIG}, or of the bundle: {detail}"
        ) from None
    return model


def _weights_file(options: Mapping[str, object], where: str) -> Path:
    files = weights_files(options, where)
    return _bundle_file(str(options["bundle"]), where) if options["source"] == "bundle" else files[0]


def _bundle_file(name: str, where: str) -> Path:
    """Return the file of a bundle in torch's cache; download it if it is missing."""
    if name not in BUNDLES:
        raise ValueError(f"config: {where}.bundle: {name!r} is not one of {', '.join(BUNDLES)}")
    file = BUNDLES[name][0]
    path = Path(torch.hub.get_dir(), "checkpoints", file)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        logger.info("downloading %s%s to %s", _URL, file, path)
        try:
            torch.hub.download_url_to_file(_URL + file, str(path), progress=False)
        except OSError as error:
            raise ValueError(
                f"config: {where}.bundle: {name} is not in torch's cache and cannot be downloaded ({error}). Download "
                f"{_URL}{file} on a machine with a network and save it as {path}; or set {where}.source to checkpoint "
                f"and {where}.checkpoint to the file"
            ) from None
    return path
