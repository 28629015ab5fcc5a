"""Run every benchmark and write the table ``results/bench/summary.md``.

Run: ``python benchmarks/run_all.py [--corpus PATH] [--clips N] [--only STAGE ...]`` or ``make bench``. Without a
corpus, one demo corpus is made for all. Each benchmark has a process of its own, one after another. The table
holds the records of ``results/bench/``, and says which are of an earlier run, maybe on other clips.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench_memory import SHARD_CLIPS
from common import corpus_folder

from exvo.util.cores import n_cores

HERE = Path(__file__).parent
RESULTS = Path("results/bench")
# Which arguments each takes: the audio of a corpus, and how many clips of it. The others set their own size.
BENCHMARKS = {
    "convert": ("corpus", "clips"),
    "highpass": ("corpus", "clips"),
    "denoise": ("corpus", "clips"),
    "vad": ("corpus", "clips"),
    "opensmile": ("corpus", "clips"),
    "logmel": ("corpus", "clips"),
    "hubert": ("corpus",),
    "strf": (),
    "training": (),
    "organisers": (),
    "bootstrap": (),
    "memory": ("corpus",),
    "workflow": (),
}
# The least ratio that the issues ask for: stage, words of the peer, ratio.
TARGETS = (
    ("convert", "ffmpeg process per clip, one after another", 1.5),
    ("denoise", "logmmse", 8),
    ("vad", "get_speech_timestamps", 5),
    ("logmel", "librosa", 3),
    ("opensmile", "process_files", 1),
    ("training", "network alone", 0.85),
    ("strf", "plain conv2d", 1),
    ("organisers", "DataFrame", 5),
    ("workflow", "naive", 50),
    ("hubert", "clip by clip", 1.1),
    ("hubert", "sgemm", 1),
    ("", "budget", 1),
)


# Of which job bench_memory measured the peak for a stage.
JOBS = {
    "convert": "convert_clips",
    "highpass": "filter_clips",
    "denoise": "denoise_clips",
    "vad": "trim_clips",
    "opensmile": "extract_opensmile",
    "logmel": "extract_logmel",
    "hubert": "extract_hubert",
    "speed perturbation": "perturb_clips",
    "training of systems": "train_system",
    "feature fusion": "train_feature_fusion",
    "pooling": "pool_clips",
    "quality": "summarise_quality",
    "fusion, scores, tables": "fuse_systems",
    "report": "write_report",
}


def run_benchmarks(stages: list[str], corpus: Path, n_clips: int) -> dict[str, str]:
    """Run benchmarks one after another; return for each, in words, how busy the machine was or what failed."""
    words = {}
    for stage in stages:
        given = {"corpus": ["--corpus", str(corpus)], "clips": ["--clips", str(n_clips)]}
        chosen = [word for name in BENCHMARKS[stage] for word in given[name]]
        print(f"== {stage}", flush=True)
        before, start = os.getloadavg()[0], time.perf_counter()
        run = subprocess.run([sys.executable, str(HERE / f"bench_{stage}.py"), *chosen], check=False)
        took = (
            f"{time.perf_counter() - start:.0f} s, load {before:.1f} before, {os.getloadavg()[0]:.1f} after"
        )
        words[stage] = took if run.returncode == 0 else f"**failed** with code {run.returncode} after {took}"
        print(f"== {stage}: {words[stage]}", flush=True)
    return words


def target(stage: str, peer: str) -> float | None:
    """Return the least ratio that the issues ask for, None where they ask for none."""
    return next((least for where, word, least in TARGETS if stage.startswith(where) and word in peer), None)


def read_records(stage: str) -> list[dict]:
    """Return the records of a stage that are on disk."""
    path = RESULTS / f"{stage}.json"
    return json.loads(path.read_text()) if path.is_file() else []


def table_rows(stages: list[str]) -> Iterator[str]:
    """Give a row of Markdown for every record that is on disk."""
    for stage in stages:
        for record in read_records(stage):
            least = target(stage, record["peer"])
            asked = (
                "" if least is None else f"{least:g} ({'met' if record['ratio'] >= least else '**missed**'})"
            )
            match = {True: "yes", False: "**no**"}.get(record["outputs_match"], record["outputs_match"])
            cells = [stage, record["peer"], f"{record['ours']:g}", f"{record['theirs']:g}", record["unit"]]
            rates = [record.get(name) for name in ("cpu_ratio", "ours_per_core", "theirs_per_core")]
            cells += [f"{record['ratio']:g}", asked, *("" if rate is None else f"{rate:g}" for rate in rates)]
            yield "| " + " | ".join([*cells, str(match)]) + " |"


def peak_lines() -> list[str]:
    """Return a table of the peak memory of the stages' jobs, empty where it was not measured."""
    peaks = {r["peer"]: r["ours"] for r in read_records("memory") if r["unit"] == "MB peak"}
    rows = [
        f"| {stage} | {peer.removeprefix('budget: ')} | {mb:g} |"
        for stage, job in JOBS.items()
        for peer, mb in peaks.items()
        if job in peer
    ]
    return ["", "| stage | job | peak memory, MB |", "|---|---|---|", *rows, ""] if rows else []


def summary(words: dict[str, str], corpus: str, n_clips: int) -> str:
    """Return the table in Markdown, with what it was measured on."""
    stages = [stage for stage in BENCHMARKS if (RESULTS / f"{stage}.json").is_file()]
    lines = [
        "# Benchmarks",
        "",
        f"{n_cores()} cores ({platform.processor() or platform.machine()}), {n_clips} clips of {corpus}.",
        "Ours and the peer run in turn in one process, on the same clips; rates are medians, and a ratio is the",
        "median over pairs: over 1, ours is faster or smaller. A budget is what an issue allows. Per core: clips a",
        "second of CPU time, child processes included; its ratio is disturbed less by what else the machine does.",
        "",
        "| stage | peer | ours | theirs | unit | ratio | asked | ratio per core | ours per core | theirs per core |"
        " equal outputs |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *table_rows(stages),
        *peak_lines(),
        "",
    ]
    lines += [
        f"- {stage}: {words.get(stage, 'from an earlier run')}" for stage in dict.fromkeys([*stages, *words])
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmarks and write the table; end with code 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--corpus", type=Path, help="folder with raw/<id>.*; by default a demo corpus is made"
    )
    parser.add_argument("--clips", type=int, default=200, help="how many clips (200)")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="STAGE")
    arguments = parser.parse_args()
    with corpus_folder(arguments.corpus, max(arguments.clips, SHARD_CLIPS)) as corpus:
        words = run_benchmarks(arguments.only, corpus, arguments.clips)
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = summary(words, str(arguments.corpus or "the demo corpus"), arguments.clips)
    (RESULTS / "summary.md").write_text(text)
    print(text)
    if any("failed" in word for word in words.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
