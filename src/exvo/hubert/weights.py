"""Load the weights of a HuBERT, checked and without executing anything that stands in the file."""

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
    """An encoder with its weights, and where they came from.

    Attributes
    ----------
    model : Hubert
        In float32, on the CPU, in evaluation mode.
    path : Path
    sha256 : str
        Of the file at ``path``, in hexadecimal.
    """

    model: Hubert
    path: Path
    sha256: str


def load_hubert(options: Mapping[str, object], where: str = "features.hubert") -> HubertWeights:
    """Return the encoder that the config names.

    Parameters
    ----------
    options : mapping
        Of ``features.hubert``:

        - ``source``: ``bundled``, our own small encoder in ``resources/``; ``random``, the same encoder with random
          weights, as a control; ``checkpoint``, a local file or folder; ``bundle``, a name of torchaudio's, whose
          file is taken from torch's cache, or fetched into it: with this source, and with no other, something is
          fetched.
        - ``checkpoint``: a state dict of torchaudio (``.pt``, ``.pth``, ``.safetensors``) or a folder of
          `transformers`; a ``config.json`` beside the weights says what encoder they are of, else their shapes do.
        - ``sha256``: of the weights' file; None checks nothing, and a warning is logged once. Our own encoder is
          always checked.
        - ``bundle``: a key of `exvo.hubert.published.BUNDLES`.
    where : str
        Place of the options in the config, for messages.

    Raises
    ------
    ValueError
        Where a file is missing; the message says what to fetch.
    ValueError
        Where a file has another SHA-256, holds more than tensors, or does not fit the encoder.
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
        # The moments of a log-mel front end are no weights.
        for name, buffer in model.named_buffers():
            buffer.copy_(moments[name])
    logger.info("HuBERT weights: %s, SHA-256 %s", path, sha256)
    return HubertWeights(model.eval(), path, sha256)


@cache  # once for each file
def _warn_unchecked(path: Path, sha256: str, where: str) -> None:
    logger.warning(
        "%s: nobody says what its SHA-256 should be; if %s is right, set %s.sha256 to it", path, sha256, where
    )


def exact_source(options: Mapping[str, object], where: str = "features.hubert") -> dict[str, object]:
    """Return ``features.hubert`` with the SHA-256 of its weights; the parameters are those of `load_hubert`.

    Raises
    ------
    ValueError
        As `load_hubert`.
    """
    return {**options, "sha256": file_sha256(_weights_file(options, where))}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a ``.safetensors`` file, or from a pickle that can hold nothing else.

    Raises
    ------
    ValueError
        Where there is anything else in the file.
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
            "not a file of named tensors only, and nothing else is read from it, for a pickle can run any code "
            f"({str(error).splitlines()[0]})"
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError("not a state dict: it should hold nothing but named tensors")
    return dict(state)


def _model(state: dict[str, Tensor], record: Mapping[str, Any] | None, known: HubertConfig | None) -> Hubert:
    """Build an encoder for a state dict and load it."""
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
            f"the weights do not fit the encoder of {CONFIG}, or of the name: {detail}"
        ) from None
    return model


def _weights_file(options: Mapping[str, object], where: str) -> Path:
    files = weights_files(options, where)
    return _bundle_file(str(options["bundle"]), where) if options["source"] == "bundle" else files[0]


def _bundle_file(name: str, where: str) -> Path:
    """Return the file of a named bundle in torch's cache; fetch it if it is not there."""
    if name not in BUNDLES:
        raise ValueError(f"config: {where}.bundle: {name!r} is not one of {', '.join(BUNDLES)}")
    file = BUNDLES[name][0]
    path = Path(torch.hub.get_dir(), "checkpoints", file)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        logger.info("fetching %s%s to %s", _URL, file, path)
        try:
            torch.hub.download_url_to_file(_URL + file, str(path), progress=False)
        except OSError as error:
            raise ValueError(
                f"config: {where}.bundle: {name} is not in torch's cache and cannot be fetched ({error}). Fetch "
                f"{_URL}{file} where there is a network and put it at {path}; or set {where}.source to checkpoint "
                f"and {where}.checkpoint to the file"
            ) from None
    return path
