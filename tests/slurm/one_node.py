"""A SLURM of one node on the loopback interface, from Debian's packages, as root and without systemd.

Where slurmdbd and MariaDB are installed too, it has accounting, and sacct answers.

By hand, ``python tests/slurm/one_node.py`` keeps one running until Ctrl-C; nothing of it stays behind.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Steps of jobs look for it here whatever the environment says.
SETTINGS = Path("/etc/slurm/slurm.conf")
DEVICES = Path("/etc/slurm/gres.conf")
MARK = "# made and removed by tests/slurm/one_node.py of exvo"
PACKAGES = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
ACCOUNTING = Path("/etc/slurm/slurmdbd.conf")
ACCOUNTING_PACKAGES = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}


def obstacle() -> str | None:
    """Return why SLURM cannot be started here, or None."""
    missing = _missing(PACKAGES)
    if missing:
        return f"SLURM is not installed: {missing}"
    if os.geteuid() != 0:
        return "SLURM's daemons are started as root, and this is another user"
    if SETTINGS.exists() and not SETTINGS.read_text().startswith(MARK):
        return f"this machine has a SLURM of its own: {SETTINGS}"
    if subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode == 0:
        return "another run of these tests has its SLURM up"
    return None


def no_accounting() -> str | None:
    """Return why there is no accounting, or None."""
    missing = _missing(ACCOUNTING_PACKAGES)
    return f"SLURM's accounting is not installed: {missing}" if missing else None


def _missing(packages: Mapping[str, str]) -> str:
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    return f"apt-get install --no-install-recommends {' '.join(missing)}" if missing else ""


def settings(folder: Path) -> str:
    """Return slurm.conf: two CPUs, 8 GB and a pretended GPU, and jobs over their memory are ended."""
    host = socket.gethostname().split(".")[0]
    entries = {
        "ClusterName": "exvo",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
        "SlurmctldPort": 26817,
        "SlurmdPort": 26818,
        "SlurmUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge.socket",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "MailProg": "/bin/true",
        "MpiDefault": "none",
        # A container may not make control groups, so processes are watched instead of confined.
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": 1,
        # Pages that a process and its children share count once.
        "JobAcctGatherParams": "OverMemoryKill,UsePss",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "ReturnToService": 2,
        # Without accounting, squeue tells the state of jobs that have ended, for so many seconds.
        "MinJobAge": 3600,
        "KillWait": 5,
        # What the node has is as stated here, not as found.
        "SlurmdParameters": "config_overrides",
        "GresTypes": "gpu",
    }
    if not no_accounting():
        entries |= {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "127.0.0.1",
            "AccountingStoragePort": 26819,
            "AccountingStoragePass": f"{folder}/munge.socket",
        }
    lines = [MARK, *(f"{key}={value}" for key, value in entries.items())]
    lines += [f"NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 Gres=gpu:1"]
    lines += [f"PartitionName=main Nodes={host} Default=YES"]
    return "\n".join(lines) + "\n"


def accounting_settings(folder: Path) -> str:
    """Return slurmdbd.conf: the database is root's, on a socket that MYSQL_UNIX_PORT names."""
    entries = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge.socket",
        "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
        "DbdHost": "localhost",
        "DbdAddr": "127.0.0.1",
        "DbdPort": 26819,
        "SlurmUser": "root",
        "PidFile": folder / "slurmdbd.pid",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "localhost",
        "StorageUser": "root",
        "StorageLoc": "exvo",
    }
    return "\n".join([MARK, *(f"{key}={value}" for key, value in entries.items())]) + "\n"


@contextmanager
def accounting(folder: Path) -> Iterator[None]:
    """Start MariaDB without network, and slurmdbd; munge must be up."""
    socket_path, data = folder / "db.socket", folder / "db"
    options = ["--no-defaults", "--user=root", f"--datadir={data}"]
    subprocess.run(["mariadb-install-db", *options, "--skip-test-db"], check=True, capture_output=True)
    server = [
        "mariadbd",
        *options,
        f"--socket={socket_path}",
        f"--pid-file={folder}/db.pid",
        "--skip-networking",
    ]
    with ExitStack() as stack:
        stack.enter_context(daemon(folder, [*server, "--innodb-buffer-pool-size=64M"]))
        wait_for(socket_path.exists, folder, "mariadbd")
        ACCOUNTING.touch(mode=0o600)
        stack.callback(ACCOUNTING.unlink)
        ACCOUNTING.write_text(accounting_settings(folder))
        stack.enter_context(daemon(folder, ["slurmdbd", "-D"], MYSQL_UNIX_PORT=str(socket_path)))
        wait_for(lambda: output("sacctmgr", "-n", "show", "cluster") is not None, folder, "slurmdbd")
        subprocess.run(["sacctmgr", "--immediate", "--quiet", "add", "cluster", "exvo"], check=True)
        yield


@contextmanager
def one_node() -> Iterator[Path]:
    """Start munge, slurmctld and slurmd; yield the folder of their logs; at the end cancel all jobs and stop.

    Raises
    ------
    RuntimeError
        If SLURM cannot be started here, or does not come up; says where its logs are.
    """
    reason = obstacle()
    if reason:
        raise RuntimeError(reason)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp")))
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        for path, text in ((SETTINGS, settings(folder)), (DEVICES, f"{MARK}\nName=gpu File=/dev/null\n")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            stack.callback(path.unlink)
        files = {f"{name}-file": folder / f"munge.{name}" for name in ("key", "pid", "log", "seed")}
        files["socket"] = folder / "munge.socket"
        stack.enter_context(
            daemon(folder, ["munged", "--foreground", *(f"--{name}={path}" for name, path in files.items())])
        )
        wait_for(lambda: files["socket"].exists(), folder, "munged")
        if not no_accounting():
            stack.enter_context(accounting(folder))
        stack.enter_context(daemon(folder, ["slurmctld", "-D"]))
        stack.enter_context(daemon(folder, ["slurmd", "-D"]))
        wait_for(lambda: output("sinfo", "--noheader", "--format=%t") == "idle", folder, "the node")
        stack.callback(cancel_all, folder)
        yield folder


@contextmanager
def daemon(folder: Path, command: list[str], **environment: str) -> Iterator[None]:
    """Run a daemon in the foreground of a session of its own, where Ctrl-C does not reach it."""
    with (folder / f"{command[0]}.out").open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | environment,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cancel_all(folder: Path) -> None:
    """Cancel what still runs and wait until it is gone: steps of jobs would outlive the daemons."""
    subprocess.run(["scancel", "--full", "--user=root"], check=False)
    wait_for(lambda: output("squeue", "--noheader") == "", folder, "the end of all jobs")


def output(*command: str) -> str | None:
    """Return what a command prints, or None if it fails or hangs."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip()


def wait_for(condition: Callable[[], bool], folder: Path, what: str, seconds: float = 60) -> None:
    """Return once the condition holds; raise a RuntimeError with the ends of the logs if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = (f"{path}:\n{path.read_text()[-1500:]}" for path in sorted(folder.glob("*.out")))
            raise RuntimeError(f"waited {seconds:.0f} s in vain for {what}\n" + "\n".join(logs))
        time.sleep(0.2)


if __name__ == "__main__":
    try:
        with one_node() as folder:
            print(f"SLURM is up, its logs are in {folder}; Ctrl-C ends it", flush=True)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        print("ended")
    except RuntimeError as error:
        sys.exit(str(error))
