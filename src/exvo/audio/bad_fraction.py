"""Stop a run before training when too many of its recordings are broken."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from exvo.audio.store import MISSING, WITHOUT_AUDIO
from exvo.util.atomic import write_text

MAX_NAMED = 3


class TooManyBadClips(ValueError):
    """More clips without audio than ``corpus.max_bad_fraction`` allows."""


def check_bad_fraction(shards: Sequence[str | Path], max_fraction: float, target: str | Path) -> None:
    """Count the clips without audio by reason, and write the counts if they are below the limit.

    Parameters
    ----------
    shards : sequence of str or Path
        All audio shards of a stage that is decoded from recordings.
    max_fraction : float
        The largest share of clips without audio, from 0 to 1.
    target : str or Path
        JSON with ``n_clips``, ``n_without_audio`` and ``reasons``, the most frequent reason first. A reason has
        ``status``, ``reason``, ``n`` and ``clips`` (the first few of them).

    Raises
    ------
    TooManyBadClips
        Where there are too many. The message gives the counts, examples and what to do.
    """
    n_clips = 0
    clips: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in shards:
        rows = pq.read_table(path, columns=["clip_id", "status", "reason"]).to_pylist()
        n_clips += len(rows)
        for row in rows:
            if row["status"] in WITHOUT_AUDIO:
                clips[row["status"], _general(row["status"], row["reason"])].append(row["clip_id"])
    n_bad = sum(map(len, clips.values()))
    order = sorted(clips, key=lambda key: (-len(clips[key]), key))
    reasons: list[dict[str, Any]] = [
        {"status": key[0], "reason": key[1], "n": len(clips[key]), "clips": sorted(clips[key])[:MAX_NAMED]}
        for key in order
    ]
    if n_bad > max_fraction * n_clips:
        lines = [
            f"{n_bad} of {n_clips} clips have no audio ({n_bad / n_clips:.1%}), more than corpus.max_bad_fraction"
            f" allows ({max_fraction:.1%}), so nothing is trained:"
        ]
        for part in reasons:
            named = ", ".join(part["clips"]) + (", ..." if part["n"] > MAX_NAMED else "")
            lines.append(f"- {part['n']} {part['status']}: {part['reason']} ({named})")
        lines.append(
            f"{_what_to_do(reasons, n_clips)} Or, to train without these clips and predict them with the prior of"
            f" Train, set corpus.max_bad_fraction to {_at_least(n_bad / n_clips)} or more."
        )
        raise TooManyBadClips("\n".join(lines))
    record = {"n_clips": n_clips, "n_without_audio": n_bad, "reasons": reasons}
    write_text(target, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _what_to_do(reasons: Sequence[Mapping[str, Any]], n_clips: int) -> str:
    """Return what to do. Where every clip fails for one reason, the recordings are not the likely cause."""
    if n_clips > 1 and reasons[0]["n"] == n_clips and reasons[0]["status"] != MISSING:
        return (
            "All clips fail for the same reason. The likely cause is the decoder or its limits (audio.convert), or how"
            " the corpus was copied, and not the recordings."
        )
    return "Repair or remove these recordings (`exvo check` examines a corpus before a run)."


def _general(status: str, reason: str) -> str:
    """Return a reason without the name of the clip and without details that vary between clips."""
    if status == MISSING:
        return "no recording"
    return reason.partition(": ")[2].partition(" (")[0] or reason


def _at_least(fraction: float) -> float:
    """Return a fraction with two decimals that is not below the given one."""
    return min(1.0, int(fraction * 100 + 1) / 100)
