"""Device, threads and seeds of PyTorch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


def device_name(name: str) -> str:
    """Return the device of a config. ``auto`` becomes ``cuda`` if there is a GPU, else ``cpu``."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def training_device(name: str, precision: str, precisions: Sequence[str]) -> torch.device:
    """Return the device of a training.

    Parameters
    ----------
    name : str
        As in `device_name`.
    precision : str
    precisions : sequence of str
        Those that the training has.

    Raises
    ------
    ValueError
        If the precision is unknown, or is mixed precision without CUDA.
    """
    name = device_name(name)
    if precision not in precisions:
        raise ValueError(f"precision: {precision!r} is none of {', '.join(precisions)}")
    if precision != "fp32" and not name.startswith("cuda"):
        raise ValueError(f"precision: {precision} needs a CUDA device, not {name}: set it to fp32")
    return torch.device(name)


@contextmanager
def isolated(n_threads: int, device: torch.device) -> Iterator[None]:
    """Set the number of threads inside the block, and restore it and the random state afterwards."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch_threads(n_threads), torch.random.fork_rng(devices):
        yield


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Let the weights that are created inside the block depend on the seed only, whatever the device."""
    # Only the generator of the CPU; torch.manual_seed would also seed CUDA, which this block does not restore.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Set the number of threads of PyTorch inside the block, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
