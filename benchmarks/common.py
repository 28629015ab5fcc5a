"""What the benchmarks share: their clips, timing ours against a named peer in the same run, and the records.

A benchmark is a script: ``python benchmarks/bench_<stage>.py [--corpus PATH] [--clips N]``. Without a corpus it
makes the demo corpus in a temporary folder. It writes ``results/bench/<stage>.json``, a list of records.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 16_000
MIN_DEMO_CLIPS = 12
# The challenge as config/paper.yaml cuts it: shards of 1,850 clips.
CHALLENGE_CLIPS, CHALLENGE_SHARDS = 59_201, 32


@dataclass
class Record:
    """One comparison; ``ratio`` is how many times better ours is (over 1 is better).

    Attributes
    ----------
    stage, peer : str
        What was measured, and against what: a package, or the budget that an issue sets.
    ratio, ours, theirs : float
        ``ours`` and ``theirs`` are in ``unit``; the ratio is over 1 where ours is faster or smaller.
    unit : str
    outputs_match : bool or str
        Whether both gave the same, or in words how far and why not.
    cpu_ratio : float or None
        The ratio of CPU times, child processes included, which other programs on the machine disturb less.
    ours_per_core, theirs_per_core : float or None
        Clips per second of CPU time.
    """

    stage: str
    peer: str
    ratio: float
    ours: float
    theirs: float
    unit: str
    outputs_match: bool | str
    cpu_ratio: float | None = None
    ours_per_core: float | None = None
    theirs_per_core: float | None = None


def parse_arguments(description: str, *, n_clips: int) -> argparse.Namespace:
    """Parse ``--corpus`` and ``--clips``; ``n_clips`` is the default of the latter."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--corpus", type=Path, help="folder with raw/<id>.*; by default a demo corpus is made"
    )
    parser.add_argument("--clips", type=int, default=n_clips, help=f"how many clips ({n_clips})")
    return parser.parse_args()


@contextmanager
def corpus_folder(corpus: Path | None, n_clips: int) -> Iterator[Path]:
    """Give a corpus with ``raw/``: the one named, or a demo corpus that is deleted afterwards."""
    if corpus is not None:
        yield corpus.resolve()
        return
    from exvo.corpus.demo import make_demo_corpus

    with tempfile.TemporaryDirectory(prefix="exvo_bench_") as folder:
        make_demo_corpus(Path(folder) / "demo", n_clips=max(n_clips, MIN_DEMO_CLIPS))
        yield Path(folder) / "demo"


def clip_files(corpus: Path, n_clips: int) -> list[Path]:
    """Return recordings spread evenly over the corpus in id order, always the same ones."""
    paths = sorted(path for path in (corpus / "raw").iterdir() if path.is_file())
    n = min(n_clips, len(paths))
    return [paths[i * len(paths) // n] for i in range(n)]


def read_clips(corpus: Path | None, n_clips: int, *, min_seconds: float = 0.0) -> list["np.ndarray"]:
    """Decode clips to 16 kHz mono float32, as the stage raw does.

    Parameters
    ----------
    corpus : Path or None
        None takes clips of the demo corpus.
    n_clips : int
    min_seconds : float
        Shorter clips are left out; some peers cannot take them.
    """
    import numpy as np

    from exvo.audio.convert import convert_clip
    from exvo.audio.decode import ConvertConfig
    from exvo.audio.program import ffmpeg_binary

    config = ConvertConfig()
    binary = ffmpeg_binary(config.ffmpeg)

    def decoded(path: Path) -> np.ndarray:
        files = {path.stem: path.name}
        clip = convert_clip(path.stem, folder=path.parent, files=files, config=config, binary=binary)
        return np.empty(0, np.float32) if clip.audio is None else clip.audio

    with corpus_folder(corpus, n_clips) as folder, ThreadPoolExecutor(2) as pool:
        clips = pool.map(decoded, clip_files(folder, n_clips))
        return [clip for clip in clips if len(clip) >= max(1, min_seconds * SAMPLE_RATE)]


def peer_module(name: str) -> ModuleType:
    """Import a peer that only benchmarks need; where it is not installed, end with what to do.

    Parameters
    ----------
    name : str
        Of the module.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        sys.exit(
            f"{error}: this benchmark races the package {name}, which only benchmarks need."
            " Run `make bench`, or: pip install -r benchmarks/requirements.lock"
        )


def one_thread() -> None:
    """Let the numerical libraries use one thread; call before they are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def race(
    stage: str,
    peer: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    n_clips: int,
    outputs_match: bool | str,
    repeats: int = 3,
    unit: str = "clips/s",
) -> Record:
    """Run the two in turn, ``repeats`` times, and compare pair by pair; rates are medians."""
    wall, cpu = ([], []), ([], [])
    for _ in range(repeats):
        for side, function in enumerate((ours, theirs)):
            start, cpu_start = time.perf_counter(), cpu_seconds()
            function()
            cpu[side].append(cpu_seconds() - cpu_start)
            wall[side].append(time.perf_counter() - start)

    def ratio(times: tuple[list[float], list[float]]) -> float:
        return round(statistics.median(theirs / ours for ours, theirs in zip(*times, strict=True)), 2)

    rates = [round(n_clips / statistics.median(seconds), 2) for seconds in (*wall, *cpu)]
    return Record(stage, peer, ratio(wall), *rates[:2], unit, outputs_match, ratio(cpu), *rates[2:])


def cpu_seconds() -> float:
    """Return the CPU time that this process and its ended children have taken, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def against_budget(
    stage: str, peer: str, ours: float, budget: float, unit: str, outputs_match: bool | str
) -> Record:
    """Compare a cost with what an issue allows: the ratio is 1 at the budget, more below it."""
    return Record(stage, peer, round(budget / ours, 2), round(ours, 2), round(budget, 2), unit, outputs_match)


def write_records(records: list[Record], folder: Path = Path("results/bench")) -> None:
    """Write the records of one stage to ``<folder>/<stage>.json`` and print them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{records[0].stage}.json"
    path.write_text(json.dumps([asdict(record) for record in records], indent=2) + "\n")
    for r in records:
        cpu = "" if r.cpu_ratio is None else f"; by CPU time {r.cpu_ratio} x"
        print(
            f"{r.stage} against {r.peer}: {r.ratio} x ({r.ours} and {r.theirs} {r.unit}){cpu};"
            f" equal: {r.outputs_match}"
        )
    sys.stdout.flush()
