"""The data: clips, speakers and labels, measures of the stages, and clips with a problem."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exvo.audio.store import OK, SAMPLE_RATE
from exvo.corpus.labels import SPLITS, TASKS, Labels
from exvo.evaluation.metrics import labelled
from exvo.report.page.drawing import BLUE, ORANGE, VERMILION, log_scale, picture
from exvo.report.page.parts import Part, Picture, Section, Table, Words, without_folders
from exvo.report.tables.sheet import DASH, Grid

MAX_CLIPS_NAMED = 40
CLIPPING = {"raw": "raw_clipping_rate", "baseline": "baseline_clipping_rate"}
SNR = {"before denoising": "denoised_snr_before_db", "after denoising": "denoised_snr_after_db"}

Row = Mapping[str, Any]


def quality_section(rows: Sequence[Row], stages: Sequence[str], labels: Labels) -> Section:
    """Show the corpus, the measures of the stages and clips with a problem.

    Parameters
    ----------
    rows : sequence of mapping
        The quality table.
    stages : sequence of str
        Those in it, in order.
    labels : Labels
        Of the complete corpus; labels of Test are counted, not shown.
    """
    lead = f"{len(rows):,} clips. Every clip keeps its row at every stage; its status describes any problem."
    parts: list[Part] = [
        _labels_table(labels),
        _stages_table(rows, stages),
        _durations(rows, stages),
        _snr(rows),
        _clipping(rows, stages),
        _odd_clips(rows),
    ]
    return Section("quality", "Data quality", lead, parts)


def _labels_table(labels: Labels) -> Table:
    known = {task: labelled(labels, task) for task in TASKS}
    lines = []
    for split in SPLITS:
        inside = labels.split == split
        named = labels.speaker[inside]
        lines.append(
            [
                split,
                f"{inside.sum():,}",
                f"{len(set(named.tolist()) - {''}):,}",
                f"{(named == '').sum():,}",
                *(f"{(known[task] & inside).sum():,}" for task in TASKS),
            ]
        )
    header = ["split", "clips", "speakers", "clips without speaker", *(f"with {task}" for task in TASKS)]
    note = "Labels in data_info.csv. Those of Test are usually in test_labels.csv."
    return Table("The corpus", [Grid(header, lines)], [note])


def _stages_table(rows: Sequence[Row], stages: Sequence[str]) -> Table:
    counts = {stage: Counter(row[f"{stage}_status"] for row in rows) for stage in stages}
    statuses = [OK, *sorted({status for found in counts.values() for status in found} - {OK})]
    lines = [
        [
            stage,
            f"{sum(row[f'{stage}_n_samples'] for row in rows) / SAMPLE_RATE / 3600:.2f}",
            *(f"{counts[stage][status]:,}" for status in statuses),
        ]
        for stage in stages
    ]
    return Table("Clips by stage and status", [Grid(["stage", "hours", *statuses], lines)])


def _values(rows: Sequence[Row], column: str) -> np.ndarray:
    return np.array([row[column] for row in rows if row.get(column) is not None], dtype=float)


def _durations(rows: Sequence[Row], stages: Sequence[str]) -> Picture | Words:
    shown = {}
    first = "raw" if "raw" in stages else stages[0]
    for stage in dict.fromkeys((first, stages[-1])):
        seconds = _values(rows, f"{stage}_n_samples") / SAMPLE_RATE
        shown[stage] = seconds[seconds > 0]
    if not all(len(values) for values in shown.values()):
        return Words("Durations: no clip has audio.")
    middle = "; ".join(f"{stage} {np.median(values):.2f} s" for stage, values in shown.items())
    return picture(
        "Durations",
        f"Histograms of durations; medians: {middle}.",
        f"Durations of the clips with audio (medians: {middle}). The last stage is shorter where leading and trailing "
        "silence was removed.",
        (4.6, 3.1),
        lambda figure: _histograms(figure, shown, "seconds"),
        wide=False,
    )


def _snr(rows: Sequence[Row]) -> Picture | Words:
    shown = {name: _values(rows, column) for name, column in SNR.items()}
    if not all(len(values) for values in shown.values()):
        return Words("SNR: the stage that estimates it (denoised) is not used.")
    gain = np.median(shown["after denoising"]) - np.median(shown["before denoising"])
    return picture(
        "Signal-to-noise ratio",
        f"Histograms of the SNR before and after denoising; the median changes by {gain:.1f} dB.",
        f"SNR before and after denoising, estimated by the denoiser; the median changes by {gain:+.1f} dB. The "
        "estimate uses the clip only, so it ranks clips better than it measures absolute noise levels.",
        (4.6, 3.1),
        lambda figure: _histograms(figure, shown, "SNR (dB)"),
        wide=False,
    )


def _clipping(rows: Sequence[Row], stages: Sequence[str]) -> Picture | Words:
    measured = {stage: _values(rows, column) for stage, column in CLIPPING.items() if stage in stages}
    measured = {stage: values for stage, values in measured.items() if len(values)}
    if not measured:
        return Words("Clipping: no stage measured it.")
    clipped = {stage: values[values > 0] for stage, values in measured.items()}
    n_clipped = "; ".join(
        f"{stage} {len(clipped[stage]):,} of {len(measured[stage]):,}" for stage in measured
    )
    drawn = {stage: values for stage, values in clipped.items() if len(values)}
    if not drawn:
        return Words(f"Clipping: no clip has a clipped sample ({n_clipped}).")

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        low = min(values.min() for values in drawn.values())
        edges = np.geomspace(low * 0.99, 1, 30).tolist()
        for (stage, values), colour in zip(drawn.items(), (BLUE, VERMILION), strict=False):
            axes.hist(values, edges, color=colour, alpha=0.6, label=stage)
        log_scale(axes)
        _finish(axes, "share of clipped samples")

    return picture(
        "Clipping",
        f"Histogram of the share of clipped samples. Clips with any: {n_clipped}.",
        f"Share of clipped samples in the clips with any: {n_clipped}. Clipping adds overtones that no later stage "
        "removes.",
        (4.6, 3.1),
        paint,
        wide=False,
    )


def _histograms(figure: Figure, shown: Mapping[str, np.ndarray], label: str) -> None:
    axes = figure.subplots()
    low = min(values.min() for values in shown.values())
    # The longest 1 % would compress all others.
    high = max(np.percentile(values, 99) for values in shown.values())
    edges = np.linspace(low, high if high > low else low + 1, 31).tolist()
    for (name, values), colour in zip(shown.items(), (ORANGE, BLUE), strict=False):
        axes.hist(np.minimum(values, edges[-1]), edges, color=colour, alpha=0.6, label=name)
    _finish(axes, label)


def _finish(axes: Axes, label: str) -> None:
    axes.set(xlabel=label, ylabel="clips")
    axes.grid(True, axis="y")
    axes.legend()


def _odd_clips(rows: Sequence[Row]) -> Table | Words:
    odd = sorted(
        (row for row in rows if row["status"] != OK), key=lambda row: (row["status"], row["clip_id"])
    )
    if not odd:
        return Words("Clips with a problem: none.")
    lines = [
        [
            row["clip_id"],
            row["split"],
            row["status"],
            without_folders(" ".join(row["reason"].split())) or DASH,
        ]
        for row in odd[:MAX_CLIPS_NAMED]
    ]
    notes = []
    if len(odd) > MAX_CLIPS_NAMED:
        more = len(odd) - MAX_CLIPS_NAMED
        notes.append(f"And {more:,} more, all in results/quality/clips.parquet.")
    title = f"Clips with a problem: {len(odd):,} of {len(rows):,}"
    return Table(title, [Grid(["clip", "split", "status", "reason"], lines)], notes)
