"""Where a model runs: the device that a config names."""

import torch


def device_name(name: str) -> str:
    """Return the device that a config names: of ``auto``, ``cuda`` where there is one, else ``cpu``."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
