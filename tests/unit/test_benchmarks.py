"""The benchmarks start, at a tiny size where that takes no more than seconds, and verdicts meet the right records.

What they measure is not tested: only that a change elsewhere cannot break them unseen until someone runs all.
"""

import json
import runpy
import sys
from pathlib import Path

import pytest
from workflow_copy import PARTS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("bench_*.py"))
# Those that make their own small data and race nothing but what the tests' environment has.
TINY = {
    "bench_strf": ["--batch", "1", "--repeats", "1", "--threads", "1"],
    "bench_organisers": ["--clips", "24", "--epochs", "2", "--repeats", "1"],
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a benchmark's script in this process, which has imported torch already, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    # Set by the benchmarks for themselves; other tests of this process keep theirs.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        torch = sys.modules.get("torch")
        n_threads = torch and torch.get_num_threads()
        try:
            return runpy.run_path(str(BENCHMARKS / f"{script}.py"), run_name="__main__")
        finally:
            if torch:
                torch.set_num_threads(n_threads)

    return call


@pytest.mark.parametrize("script", [*SCRIPTS, "run_all"])
def test_every_benchmark_starts(run, capsys, script):
    with pytest.raises(SystemExit) as end:
        run(script, "--help")
    assert end.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("script", TINY)
def test_a_benchmark_writes_its_records_at_a_tiny_size(run, script):
    run(script, *TINY[script])
    (path,) = Path("results/bench").iterdir()
    records = json.loads(path.read_text())
    assert path.stem == script.removeprefix("bench_")
    assert all(record["ours"] > 0 and record["theirs"] > 0 and record["outputs_match"] for record in records)


def test_every_benchmark_is_run_by_run_all(run, monkeypatch):
    import run_all

    alone = {"scale"}  # of finished runs
    assert {script.removeprefix("bench_") for script in SCRIPTS} - alone == set(run_all.BENCHMARKS)


@pytest.mark.parametrize(
    ("stage", "peer", "least"),
    [
        ("convert", "one ffmpeg process per clip, one after another", 1.5),
        ("convert", "one ffmpeg process per clip, two at a time", None),
        ("convert", "PyAV in process, one after another", None),
        ("strf", "plain conv2d, 2 threads", 1),
        ("strf", "separable conv2d, 1 thread", None),
        ("organisers", "DataFrame Dataset, DataLoader, autograd, torch.optim.Adam (19,990 clips)", 5),
        ("organisers", "the floor: bare matrix products and fused Adam over the same arrays", None),
        ("workflow", "budget 3 s, 59,201 clips in 128 shards: plan with nothing to do", 1),
    ],
)
def test_a_target_belongs_to_the_peer_that_it_was_asked_against(run, stage, peer, least):
    import run_all

    assert run_all.target(stage, peer) == least


def test_what_the_workflow_benchmark_copies_is_a_whole_workflow(run, tmp_path):
    """What its copy lacks, no plan of it could have."""
    import bench_workflow

    assert set(bench_workflow.PARTS) == set(PARTS)
    bench_workflow.copy_workflow(tmp_path / "code")
    assert all((tmp_path / "code" / part).exists() for part in PARTS)
