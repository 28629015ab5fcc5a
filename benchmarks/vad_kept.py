"""What the vad stage keeps of a corpus, by source: energy, length, and clips in which it finds nothing.

The stages run in the workflow's order with its functions: raw, dc, denoised, vad. Energy kept is that of the stage's
output over that of its input. Clips are drawn by a hash of their ids, and a further bit of it splits them in two: the
constants of `exvo.audio.vad` were chosen on one half and are to be judged on the other.

Run: ``python benchmarks/vad_kept.py --corpus PATH --work FOLDER [--clips N] [--sources FILE]``. FILE is a table of
``File_ID`` and ``source`` (by default PATH/sources.csv). The shards stay in FOLDER; raw and dc are not made again, so
empty it after a change to these.
"""

import argparse
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from exvo.audio.convert import ConvertConfig, convert_shard
from exvo.audio.stage_dc import HighpassConfig, dc_shard
from exvo.audio.stage_denoised import DenoiseConfig, denoised_shard
from exvo.audio.stage_vad import VadConfig, vad_clips
from exvo.audio.store import NO_VOICE, Clip, iter_shard

CLIPS_A_SHARD = 250
ENOUGH = 0.95  # of a clip's energy
PAPER = Path(__file__).parents[1] / "config/paper.yaml"


def hash_of(clip_id: str) -> bytes:
    """Return what decides whether a clip is drawn, and its half."""
    return hashlib.sha256(clip_id.encode()).digest()


def draw(table: Path, n_clips: int) -> dict[str, str]:
    """Return the source of each clip drawn, at most ``n_clips`` of each source."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = [(row["File_ID"].strip("[]"), row["source"]) for row in csv.DictReader(file)]
    rows.sort(key=lambda row: hash_of(row[0]).hex())
    drawn: dict[str, list[str]] = {}
    for clip_id, source in rows:
        ids = drawn.setdefault(source, [])
        if len(ids) < n_clips:
            ids.append(clip_id)
    return {clip_id: source for source, ids in drawn.items() for clip_id in ids}


def denoised_shards(corpus: Path, clip_ids: Sequence[str], work: Path) -> list[Path]:
    """Make the stages up to denoised in ``work``; raw and dc only where they are not there."""
    files = {path.stem: path.name for path in (corpus / "raw").iterdir()}
    shards = []
    for first in range(0, len(clip_ids), CLIPS_A_SHARD):
        ids = clip_ids[first : first + CLIPS_A_SHARD]
        # Named by what it holds: another sample in the same folder is another shard.
        name = f"{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:12]}.parquet"
        raw, dc, denoised = (work / f"{stage}-{name}" for stage in ("raw", "dc", "denoised"))
        if not dc.exists():
            names = {clip_id: files.get(clip_id) for clip_id in ids}
            convert_shard(corpus / "raw", names, raw, ConvertConfig(), bits=24, n_threads=2)
            dc_shard(raw, dc, HighpassConfig())
        denoised_shard(dc, denoised, DenoiseConfig())
        shards.append(denoised)
    return shards


def measure(before: Clip, after: Clip) -> tuple[float, float, bool]:
    """Return the share of the energy and of the length that a clip keeps, and whether it is flagged."""
    energy, kept = (float(np.square(clip.audio, dtype=np.float64).sum()) for clip in (before, after))
    return kept / energy if energy else 1.0, len(after.audio) / len(before.audio), after.status == NO_VOICE


def print_table(name: str, measures: dict[str, tuple[float, float, bool]], sources: dict[str, str]) -> None:
    """Print a row for each source and half."""
    print(f"\n{name}\n")
    print(
        "| source | clips | half | nothing found | keep 95 % of the energy | energy, 5th percentile | median length |"
    )
    print("|---|---:|---|---:|---:|---:|---:|")
    for source in dict.fromkeys(sources.values()):
        for half, bit in (("chosen on", 1), ("held out", 0)):
            rows = [
                of_clip
                for clip_id, of_clip in measures.items()
                if sources[clip_id] == source and hash_of(clip_id)[0] & 1 == bit
            ]
            if rows:
                energy, length, flagged = np.array(rows, float).T
                cells = [f"{flagged.mean():.1%}", f"{np.mean(energy >= ENOUGH):.1%}"]
                cells += [f"{np.percentile(energy, 5):.3f}", f"{np.median(length):.0%}"]
                print(f"| {source} | {len(rows)} | {half} | " + " | ".join(cells) + " |")


def main() -> None:
    """Make the stages and print the tables of the default config and the paper's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder with raw/")
    parser.add_argument("--work", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--sources", type=Path, help="table of File_ID and source (PATH/sources.csv)")
    parser.add_argument("--clips", type=int, default=2000, help="most clips of a source (2000)")
    arguments = parser.parse_args()
    sources = draw(arguments.sources or arguments.corpus / "sources.csv", arguments.clips)
    arguments.work.mkdir(parents=True, exist_ok=True)
    shards = denoised_shards(arguments.corpus, sorted(sources), arguments.work)
    paper = yaml.safe_load(PAPER.read_text())["audio"]["vad"]
    for name, config in (
        ("default config", VadConfig()),
        ("Silero alone (config/paper.yaml)", VadConfig(**paper)),
    ):
        measures = {}
        for shard in shards:
            before = [clip for clip in iter_shard(shard) if clip.audio is not None]
            after = vad_clips(before, config)
            measures |= {a.clip_id: measure(a, b) for a, b in zip(before, after, strict=True)}
        print_table(name, measures, sources)


if __name__ == "__main__":
    main()
