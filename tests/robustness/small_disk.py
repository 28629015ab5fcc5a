"""A disk of a given size to write on, which can be made larger or read-only."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory at a folder that is there."""

    def __init__(self, folder: Path):
        self.folder = folder

    def mount(self, *options: str) -> subprocess.CompletedProcess:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", self.folder]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def remount(self, options: str) -> None:
        """Change the size (``size=50m``), or whether it may be written (``ro``, ``rw``)."""
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """Yield a disk of a size such as ``100k``; skip the test where none can be mounted."""
    disk = SmallDisk(folder)
    mounted = disk.mount(f"size={size}")
    if mounted.returncode:
        pytest.skip(f"a file system of a given size cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
