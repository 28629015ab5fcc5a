"""PyTorch's device, threads and seeds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def device_name(name: str) -> str:
    """Return the device that a config names: of ``auto``, ``cuda`` where there is one, else ``cpu``."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Make the weights created inside the block depend on the seed only, the same on any machine's devices."""
    # The CPU's generator alone: torch.manual_seed would reseed CUDA too, which this block does not restore.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Give PyTorch so many threads inside the block, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
