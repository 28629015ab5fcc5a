"""The number of processors that this process may use, which can be fewer than those of the machine.

``os.cpu_count()`` counts the processors of the machine. A batch system limits a process to some of them by its
affinity; a container limits the processor time by a control group. Both limits apply here.
"""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

# Mount point of the control groups on Linux, and the file that lists the groups of this process.
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def n_cores() -> int:
    """Return the number of processors that this process may use, at least 1."""
    if sys.platform == "linux":
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cgroup_cores(CGROUPS, OWN_CGROUPS))))


def cgroup_cores(mount: Path, own: Path) -> float:
    """Return the limit of control groups in processors (processor time per time), inf without a limit.

    Parameters
    ----------
    mount : Path
        Folder where the control groups (version 2) or their controllers (version 1) are mounted.
    own : Path
        File that lists the groups of this process, one line ``id:controllers:path`` each. Version 2 has an empty
        list of controllers.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return math.inf
    lowest = math.inf
    for line in lines:
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if not controllers:
            lowest = min(lowest, _lowest_limit(mount, path, _version_2))
        elif "cpu" in controllers.split(","):
            for folder in {controllers, "cpu"}:
                lowest = min(lowest, _lowest_limit(mount / folder, path, _version_1))
    return lowest


def _lowest_limit(root: Path, path: str, read: Callable[[Path], float]) -> float:
    """Return the lowest limit of a group and its parent groups. In a container, its own group is the root."""
    group = Path(path.lstrip("/"))
    return min((read(root / folder) for folder in (group, *group.parents)), default=math.inf)


def _version_2(folder: Path) -> float:
    quota, period = [*_words(folder / "cpu.max"), "max", "max"][:2]
    return _ratio(quota, period)


def _version_1(folder: Path) -> float:
    quota, period = ((_words(folder / f"cpu.cfs_{name}_us") or ["-1"])[0] for name in ("quota", "period"))
    return _ratio(quota, period)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _ratio(quota: str, period: str) -> float:
    """Return quota / period; inf without a quota, which is written as ``max`` or -1."""
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return math.inf
    return int(quota) / int(period)
