"""Run a decoder over files that nobody vouches for: its time, its memory and what is read of it are limited."""

import os
import resource
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

# The head of the log names the first error; a broken file can have a decoder print without end.
LOG_BYTES = 64 * 1024
# What a pipe holds on Linux.
_BLOCK = 64 * 1024


@dataclass(frozen=True)
class Finished:
    """What came of a program.

    Attributes
    ----------
    outputs : list of bytearray
        What it wrote to each of its outputs, at most to their limits.
    log : str
        The first 64 kB of what it printed to its error stream.
    code : int
        Its exit code; negative for a signal.
    stopped : bool
        Whether it was killed because it wrote more than it may.
    """

    outputs: list[bytearray]
    log: str
    code: int
    stopped: bool


def run_limited(
    command: Callable[[Sequence[int]], Sequence[str]],
    output_bytes: Sequence[int],
    *,
    timeout_s: float,
    memory_mb: float,
    handles: Sequence[int] = (),
) -> Finished:
    """Run a program without input.

    Parameters
    ----------
    command : callable
        Takes the file descriptors to which the program shall write, as many as ``output_bytes``, and returns program
        and arguments; no shell reads them.
    output_bytes : sequence of int
        How much is read of each output. A program that writes more is killed.
    timeout_s : float
        The program is killed after so many seconds.
    memory_mb : float
        Address space that it may have, in MB; what it asks for beyond that is refused. Linux alone can limit a
        process from outside; elsewhere this limit does not hold.
    handles : sequence of int
        Open files that the program may use besides, under the same numbers.

    Raises
    ------
    subprocess.TimeoutExpired
    OSError
        Where the program cannot be started.
    """
    # Else glibc reserves 64 MB or 128 MB of address space for a thread, or does not, as threads happen to meet: what
    # fits into the limit would be chance.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    with ExitStack() as stack:
        pipes = [os.pipe() for _ in range(len(output_bytes) + 1)]
        *readers, log_reader = [stack.enter_context(os.fdopen(end, "rb", buffering=0)) for end, _ in pipes]
        *writers, log_writer = [end for _, end in pipes]
        try:
            process = subprocess.Popen(
                command(writers),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log_writer,
                pass_fds=[*writers, *handles],
                env=environment,
            )
        finally:
            for writer in (*writers, log_writer):
                os.close(writer)
        stack.enter_context(process)
        # Only a process that is still running after an error of ours; a finished one is not touched.
        stack.callback(process.kill)
        deadline = time.monotonic() + timeout_s
        if hasattr(resource, "prlimit"):
            limit = round(memory_mb * 1e6)
            # A short clip can be done before it is limited.
            with suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
        outputs, log = [bytearray() for _ in readers], bytearray()
        with selectors.DefaultSelector() as selector:
            for reader, output, most in zip(readers, outputs, output_bytes, strict=True):
                selector.register(reader, selectors.EVENT_READ, (output, most))
            selector.register(log_reader, selectors.EVENT_READ, (log, None))
            within = _read_all(selector, deadline)
        late = within is None
        if not within:
            process.kill()
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()) if within else None)
        except subprocess.TimeoutExpired:
            late = True
    if late:
        raise subprocess.TimeoutExpired("ffmpeg", timeout_s)
    return Finished(outputs, log.decode("utf-8", "replace"), code, not within)


def _read_all(selector: selectors.BaseSelector, deadline: float) -> bool | None:
    """Read what is registered to its end; False where there is more than there may be, None where it is late.

    Each file stands with what is read of it and the most that this may be in bytes; None keeps the first `LOG_BYTES`
    and passes over the rest.
    """
    while selector.get_map():
        left = deadline - time.monotonic()
        ready = selector.select(left) if left > 0 else []
        if not ready:
            return None
        for key, _ in ready:
            read, most = key.data
            block = os.read(key.fd, _BLOCK)
            if not block:
                selector.unregister(key.fileobj)
            elif most is None:
                read += block[: LOG_BYTES - len(read)]
            else:
                read += block[: most - len(read)]
                if len(read) >= most:
                    return False
    return True
