"""Quality table: one row per clip with its status, reason and measures at every stage."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exvo.audio.store import OK, SAMPLE_RATE
from exvo.corpus.labels import SPLITS, Labels
from exvo.util.atomic import atomic_path, write_text
from exvo.util.markdown import code

MAX_CLIPS_NAMED = 20


def summarise_quality(
    shards: Mapping[str, Sequence[str | Path]],
    labels: Labels,
    clips_path: str | Path,
    summary_path: str | Path,
) -> None:
    """Join the stages of every clip and summarise them.

    Parameters
    ----------
    shards : mapping of str to sequence of str or Path
        Audio shards by stage, in the order of the stages.
    labels : Labels
        Of all clips; only ids and splits are read.
    clips_path : str or Path
        Parquet: ``clip_id``, ``split``, ``status`` and ``reason`` (of the first stage whose status is not ``ok``),
        then per stage ``<stage>_status``, ``<stage>_reason``, ``<stage>_n_samples`` and its measures.
    summary_path : str or Path
        Markdown report.

    Raises
    ------
    ValueError
        Where a stage lacks a clip, because no stage may drop one.
    """
    order = np.argsort(labels.clip_id.astype(str), kind="stable")
    clip_ids, splits = labels.clip_id[order], labels.split[order]
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for stage, paths in shards.items():
        table = _stage_table(stage, paths, clip_ids)
        columns |= {f"{stage}_{name}": table[name] for name in table.column_names if name != "clip_id"}
    statuses = np.array([columns[f"{stage}_status"].to_pylist() for stage in shards], dtype=object)
    reasons = np.array([columns[f"{stage}_reason"].to_pylist() for stage in shards], dtype=object)
    first = np.argmax(statuses != OK, axis=0)
    status = statuses[first, np.arange(len(clip_ids))]
    reason = reasons[first, np.arange(len(clip_ids))]
    joined = pa.table(
        {
            "clip_id": pa.array(clip_ids, pa.string()),
            "split": pa.array(splits, pa.string()),
            "status": pa.array(status, pa.string()),
            "reason": pa.array(reason, pa.string()),
            **columns,
        }
    )
    with atomic_path(clips_path) as temporary:
        pq.write_table(joined, temporary, compression="zstd")
    write_text(summary_path, _summary(joined, list(shards)))


def _stage_table(stage: str, paths: Sequence[str | Path], clip_ids: np.ndarray) -> pa.Table:
    """Read the columns of a stage except the audio, in id order."""
    tables = []
    for path in paths:
        names = [name for name in pq.read_schema(path).names if name != "audio"]
        tables.append(pq.read_table(path, columns=names).replace_schema_metadata(None))
    table = pa.concat_tables(tables).sort_by("clip_id")
    found = np.asarray(table["clip_id"].to_pylist(), dtype=object)
    if not np.array_equal(found, clip_ids):
        raise ValueError(
            f"stage {stage}: {len(found)} clips in its shards, {len(clip_ids)} in the label table"
        )
    return table


def _summary(table: pa.Table, stages: Sequence[str]) -> str:
    lines = [
        "# Quality of the clips",
        "",
        f"{table.num_rows} clips. The reason for a status other than `{OK}` is",
    ]
    lines += [
        "in `clips.parquet`. A clip without audio keeps its row and is predicted with the prior of Train.",
        "",
    ]
    lines += ["| stage | clips | hours | " + " | ".join(_statuses(table, stages)) + " |"]
    lines += ["|---|---:|---:|" + "---:|" * len(_statuses(table, stages))]
    for stage in stages:
        counts = Counter(table[f"{stage}_status"].to_pylist())
        hours = sum(filter(None, table[f"{stage}_n_samples"].to_pylist())) / SAMPLE_RATE / 3600
        cells = " | ".join(str(counts.get(status, 0)) for status in _statuses(table, stages))
        lines.append(f"| {stage} | {table.num_rows} | {hours:.2f} | {cells} |")
    lines += ["", "| measure | 5 % | median | 95 % | clips |", "|---|---:|---:|---:|---:|"]
    for name in table.column_names:
        column = table[name]
        if pa.types.is_floating(column.type):
            values = column.drop_null().to_numpy()
            if len(values):
                low, middle, high = np.percentile(values, [5, 50, 95])
                lines.append(f"| {name} | {low:.4g} | {middle:.4g} | {high:.4g} | {len(values)} |")
    split = table["split"].to_pylist()
    lines += ["", "Clips by split: " + ", ".join(f"{name} {split.count(name)}" for name in SPLITS) + "."]
    lines += _named_clips(table)
    return "\n".join(lines) + "\n"


def _statuses(table: pa.Table, stages: Sequence[str]) -> list[str]:
    found = {status for stage in stages for status in table[f"{stage}_status"].unique().to_pylist()}
    return [OK, *sorted(found - {OK})]


def _named_clips(table: pa.Table) -> list[str]:
    odd = [row for row in table.select(["clip_id", "status", "reason"]).to_pylist() if row["status"] != OK]
    if not odd:
        return []
    lines = [
        "",
        "Clips with a status other than ok"
        + (f" (the first {MAX_CLIPS_NAMED})" * (len(odd) > MAX_CLIPS_NAMED)),
    ]
    lines[-1] += f", {len(odd)} in all:"
    lines.append("")
    for row in odd[:MAX_CLIPS_NAMED]:
        # File names and messages of ffmpeg are not Markdown.
        lines.append(f"- {code(row['clip_id'])} {row['status']}: {code(row['reason'])}")
    return lines
