import math
import os
import subprocess
import sys

import pytest

from exvo.util.cores import cgroup_cores, n_cores


def groups(folder, line, **limits):
    """Write a group's files, named by ``/`` and by what stands in for it, and the file that lists groups."""
    for path, text in limits.items():
        place = (
            folder / "mount" / path.replace("__", "/").replace("_max", ".max").replace("cpu_cfs", "cpu.cfs")
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (folder / "cgroup").write_text(line)
    return cgroup_cores(folder / "mount", folder / "cgroup")


def test_a_group_of_version_2_and_those_around_it_limit_the_cores(tmp_path):
    line = "0::/slurm/job_7/step_0\n"
    assert groups(tmp_path, line) == math.inf
    assert groups(tmp_path, line, slurm__job_7__step_0__cpu_max="max 100000\n") == math.inf
    assert groups(tmp_path, line, slurm__cpu_max="800000 100000\n") == 8
    assert groups(tmp_path, line, slurm__job_7__cpu_max="150000 100000\n") == 1.5


def test_a_container_sees_its_group_at_the_root(tmp_path):
    assert groups(tmp_path, "0::/docker/abc\n", cpu_max="200000 100000\n") == 2


def test_a_group_of_version_1_limits_the_cores(tmp_path):
    line = "5:memory:/a\n4:cpu,cpuacct:/job\n"
    quota, period = "cpu,cpuacct__job__cpu_cfs_quota_us", "cpu,cpuacct__job__cpu_cfs_period_us"
    assert groups(tmp_path, line, **{quota: "-1\n", period: "100000\n"}) == math.inf
    assert groups(tmp_path, line, **{quota: "300000\n", period: "100000\n"}) == 3
    # Mounted under the controller's own name.
    other = groups(tmp_path, line, cpu__job__cpu_cfs_quota_us="50000", cpu__job__cpu_cfs_period_us="100000")
    assert other == 0.5


def test_what_cannot_be_read_sets_no_limit(tmp_path):
    assert cgroup_cores(tmp_path, tmp_path / "nowhere") == math.inf
    assert groups(tmp_path, "no line of groups\n") == math.inf
    assert groups(tmp_path, "0::/\n", cpu_max="few\n") == math.inf


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands out single processors")
def test_the_processors_that_a_process_may_use_are_counted_and_not_the_machines():
    one = next(iter(os.sched_getaffinity(0)))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from exvo.util.cores import n_cores; print(n_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert 1 <= n_cores() <= len(os.sched_getaffinity(0))
