import subprocess
import sys

import pytest

from exvo.audio.limited import LOG_BYTES, run_limited


def run(code, output_bytes=(), timeout_s=60.0):
    """Run Python code that may write to the files ``out[0]``, ``out[1]``..."""

    def command(targets):
        return [sys.executable, "-c", f"import os, sys\nout = {list(targets)}\n{code}"]

    return run_limited(command, output_bytes, timeout_s=timeout_s, memory_mb=4000)


def test_outputs_are_read_side_by_side():
    # More than a pipe holds, to one after the other and in turns.
    done = run("for i in range(40): os.write(out[i % 2], bytes([i]) * 50_000)", [10**7, 10**7])
    assert (done.log, done.code, done.stopped) == ("", 0, False)
    assert done.outputs == [b"".join(bytes([i]) * 50_000 for i in range(first, 40, 2)) for first in (0, 1)]


def test_no_more_is_read_than_an_output_may_have():
    done = run("while True: os.write(out[0], bytes(1000))", [123_456, 10])
    assert done.stopped and [len(output) for output in done.outputs] == [123_456, 0]


def test_a_program_that_prints_without_end_is_cut_short():
    done = run("for _ in range(3000): sys.stderr.write('x' * 9999)\nos.write(out[0], b'done')", [100])
    assert (done.outputs, done.log, done.code) == ([b"done"], "x" * LOG_BYTES, 0)


@pytest.mark.parametrize(
    "how", ["time.sleep(600)", "os.close(2); [os.close(i) for i in out]; time.sleep(600)"]
)
def test_a_program_that_hangs_is_killed(how):
    with pytest.raises(subprocess.TimeoutExpired):
        run(f"import time\nos.write(out[0], b'some')\n{how}", [100], timeout_s=0.5)


def test_an_exit_code_is_reported():
    assert run("sys.exit(3)").code == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process from outside")
def test_memory_is_limited():
    def command(_):
        # It waits until it is limited.
        return [sys.executable, "-c", "import time; time.sleep(0.3); x = bytearray(500_000_000)"]

    done = run_limited(command, [], timeout_s=60, memory_mb=400)
    assert done.code == 1 and "MemoryError" in done.log
