"""Time ours against a named peer on the same clips in the same run, and write the records."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Record:
    """One comparison; ``ratio`` is how many times faster ours is (over 1 is faster)."""

    stage: str
    peer: str
    ratio: float
    ours: float
    theirs: float
    unit: str
    outputs_match: bool | str


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
    ours_s, theirs_s = [], []
    for _ in range(repeats):
        for function, seconds in ((ours, ours_s), (theirs, theirs_s)):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    ratio = statistics.median(t / o for o, t in zip(ours_s, theirs_s, strict=True))
    rates = (n_clips / statistics.median(ours_s), n_clips / statistics.median(theirs_s))
    return Record(stage, peer, round(ratio, 2), round(rates[0], 2), round(rates[1], 2), unit, outputs_match)


def write_records(records: list[Record], folder: Path = Path("results/bench")) -> None:
    """Write the records of one stage to ``<folder>/<stage>.json`` and print them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{records[0].stage}.json"
    path.write_text(json.dumps([asdict(record) for record in records], indent=2) + "\n")
    for r in records:
        print(f"{r.stage} against {r.peer}: {r.ratio} x ({r.ours} and {r.theirs} {r.unit}), equal: {r.outputs_match}")
