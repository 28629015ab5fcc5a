"""Device, threads and seeds of PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def device_name(name: str) -> str:
    """Return the device of a config. ``auto`` becomes ``cuda`` if there is a GPU, else ``cpu``."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


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
