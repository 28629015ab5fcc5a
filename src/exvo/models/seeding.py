"""Initial weights that depend on a seed and on nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Make the weights created inside the block depend on the seed only, the same on any machine's devices."""
    # The CPU's generator alone: torch.manual_seed would reseed CUDA too, which this block does not restore.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
