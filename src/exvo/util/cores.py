"""How many processors this process may use, which on a cluster or in a container is less than the machine has.

``os.cpu_count()`` counts the machine's. A batch system hands out single processors by the affinity of a process, a
container a share of their time by a control group; both are asked.
"""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

# Where Linux mounts its control groups, and what it says of those of this process.
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
    """Return the processors' worth of time that control groups grant, inf where they set no limit.

    Parameters
    ----------
    mount : Path
        The folder in which control groups are mounted (version 2), or their controllers are (version 1).
    own : Path
        The file that lists the groups of this process, a line ``id:controllers:path`` each; version 2 names no
        controllers.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for line in lines:
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if not controllers:
            least = min(least, _least(mount, path, _version_2))
        elif "cpu" in controllers.split(","):
            for folder in {controllers, "cpu"}:
                least = min(least, _least(mount / folder, path, _version_1))
    return least


def _least(root: Path, path: str, read: Callable[[Path], float]) -> float:
    """Return the least limit of a group and the groups it is in; in a container, its own group is at the root."""
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
    """Return quota / period; inf where there is no quota, which is written as ``max`` or -1."""
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return math.inf
    return int(quota) / int(period)
