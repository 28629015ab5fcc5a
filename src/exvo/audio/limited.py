"""Run a decoder on untrusted files, with limits on its time, its memory and the size of its output."""

import os
import resource
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

# The head of the log has the first error. A broken file can make a decoder print without end.
LOG_BYTES = 64 * 1024
# Capacity of a pipe on Linux.
_BLOCK = 64 * 1024


@dataclass(frozen=True)
class Finished:
    """Result of a program.

    Attributes
    ----------
    outputs : list of bytearray
        Data written to each output, up to its limit.
    log : str
        The first 64 kB of its error stream.
    code : int
        Exit code; negative for a signal.
    stopped : bool
        Whether it was killed because it wrote more than its limit.
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
        Takes the file descriptors for the outputs of the program, one per entry of ``output_bytes``. Returns the
        program and its arguments; no shell is involved.
    output_bytes : sequence of int
        Limit of each output. A program that writes more is killed.
    timeout_s : float
        The program is killed after this many seconds.
    memory_mb : float
        Limit of its address space, in MB; an allocation beyond it fails. Only Linux can limit another process;
        elsewhere the limit is not applied.
    handles : sequence of int
        Further open files that the program may use, under the same numbers.

    Raises
    ------
    subprocess.TimeoutExpired
        After ``timeout_s`` seconds.
    OSError
        Where the program cannot be started.
    """
    # By default glibc reserves 64 MB or 128 MB of address space per thread, depending on timing. What fits into the
    # memory limit would then vary from run to run.
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
        # This ends a process that still runs after an error here; a finished process is not affected.
        stack.callback(process.kill)
        deadline = time.monotonic() + timeout_s
        if hasattr(resource, "prlimit"):
            limit = round(memory_mb * 1e6)
            # A short clip can be finished before the limit is set.
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
    """Read the registered files to their ends. Return False if one exceeds its limit, None after the deadline.

    Each file is registered with its buffer and its limit in bytes. With the limit None, the first `LOG_BYTES` are kept
    and the rest is discarded.
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
