"""How near ours comes to what the machine can do: matrix products to the rate of sgemm, reading to plain reads."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import Record

SIDE = 1024  # of the matrices
ROUNDS = 3
CHUNK = 1 << 20


def sgemm_seconds(flops: float) -> float:
    """Return how long sgemm takes for some floating-point operations, by its best of a few products."""
    import torch

    a, b = torch.randn(2, SIDE, SIDE)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return min(seconds) * flops / (2 * SIDE**3)


def against_sgemm(
    stage: str, ours: Callable[[], object], flops: float, *, words: str = "", target: float = 1.0
) -> Record:
    """Return the rate of ours beside that of sgemm, measured just before and after each round.

    Parameters
    ----------
    stage : str
    ours : callable
    flops : float
        Operations that its result needs; what it does besides, such as padding, lowers its rate.
    words : str
        What it is, in the record.
    target : float
        The share of the rate of sgemm that stands for a ratio of 1.
    """
    shares, rates = [], []
    for _ in range(ROUNDS):
        before = sgemm_seconds(flops)
        start = time.perf_counter()
        ours()
        seconds = time.perf_counter() - start
        shares.append(min(before, sgemm_seconds(flops)) / seconds)
        rates.append(flops / seconds / 1e9)
    share, rate = statistics.median(shares), statistics.median(rates)
    name = "the rate of sgemm" if target == 1 else f"{target:.0%} of the rate of sgemm"
    return Record(
        stage,
        f"{words}: {name}" if words else name,
        round(share / target, 2),
        round(rate, 1),
        round(target * rate / share, 1),
        "GFLOP/s",
        f"{share:.0%} of sgemm",
    )


def against_plain_reads(
    stage: str, words: str, paths: Sequence[Path], ours: Callable[[], object], does: str
) -> Record:
    """Return the bytes a second that ours takes files in at, beside plain sequential reads of the same files.

    The kernel is asked to forget the files before each read, so that both begin at the disk (or whatever cache of
    a virtual machine's host stands for it).

    Parameters
    ----------
    stage, words : str
        What is read, in the record.
    paths : sequence of Path
    ours : callable
        Reads them all.
    does : str
        What ours does with the bytes besides.
    """
    n_bytes = sum(path.stat().st_size for path in paths)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for side, read in zip(seconds, (ours, lambda: plain_reads(paths)), strict=True):
            forget(paths)
            start = time.perf_counter()
            read()
            side.append(time.perf_counter() - start)
    rates = [n_bytes / statistics.median(side) / 1e6 for side in seconds]
    ratio = statistics.median(theirs / mine for mine, theirs in zip(*seconds, strict=True))
    peer = f"reading {words}, {n_bytes / 1e6:.1f} MB in {len(paths)} files: plain sequential reads"
    return Record(stage, peer, round(ratio, 3), round(rates[0], 1), round(rates[1], 1), "MB/s", does)


def plain_reads(paths: Sequence[Path]) -> None:
    """Read files from beginning to end and do nothing with what is in them."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(CHUNK):
                pass


def forget(paths: Sequence[Path]) -> None:
    """Write files out and ask the kernel to drop them from its page cache."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
