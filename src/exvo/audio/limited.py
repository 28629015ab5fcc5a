"""Run a decoder over a file that nobody vouches for: its time, its memory and what it prints are limited."""

import os
import resource
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from threading import Event, Thread, Timer
from typing import BinaryIO

# The head of the log names the stream and the first error; a broken file can have a decoder print without end.
LOG_BYTES = 64 * 1024


def run_limited(
    command: Sequence[str], *, timeout_s: float, memory_mb: float, handles: Sequence[int] = ()
) -> tuple[bytes, str, int]:
    """Run a program without input.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell reads them. What it writes to its output is kept whole, so the arguments
        must bound that.
    timeout_s : float
        The program is killed after so many seconds.
    memory_mb : float
        Address space that it may have, in MB; what it asks for beyond that is refused. Linux alone can limit a
        process from outside; elsewhere this limit does not hold.
    handles : sequence of int
        Open files that the program may use besides, under the same numbers.

    Returns
    -------
    output : bytes
    log : str
        The first 64 kB of what it printed to its error stream.
    code : int
        Its exit code; negative for a signal.

    Raises
    ------
    subprocess.TimeoutExpired
    OSError
        Where the program cannot be started.
    """
    late = Event()
    # Else glibc reserves 64 MB or 128 MB of address space for a thread, or does not, as threads happen to meet: what
    # fits into the limit would be chance.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=handles,
        env=environment,
    ) as process:

        def give_up() -> None:
            late.set()
            process.kill()

        timer = Timer(timeout_s, give_up)
        timer.start()
        try:
            if hasattr(resource, "prlimit"):
                limit = round(memory_mb * 1e6)
                # A short clip can be done before it is limited.
                with suppress(ProcessLookupError):
                    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
            log = bytearray()
            reader = Thread(target=_keep_head, args=(process.stderr, log))
            reader.start()
            output = process.stdout.read()
            reader.join()
            code = process.wait()
        finally:
            timer.cancel()
            # Only a process that is still running after an error of ours; a finished one is not touched.
            process.kill()
    if late.is_set():
        raise subprocess.TimeoutExpired(command, timeout_s)
    return output, log.decode("utf-8", "replace"), code


def _keep_head(stream: BinaryIO, head: bytearray) -> None:
    while block := stream.read(LOG_BYTES):
        head += block[: LOG_BYTES - len(head)]
