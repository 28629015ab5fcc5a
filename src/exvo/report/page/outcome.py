"""The outcome: what was submitted, its scores, and by how much it is ahead of the other candidates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from exvo.evaluation.bootstrap import METRICS
from exvo.report.page.drawing import BLUE, VERMILION, picture
from exvo.report.page.parts import Picture, Section, Table, Tiles, Words, without_folders
from exvo.report.page.record import cell, counts, difference, interval, submitted_candidate
from exvo.report.tables.sheet import DASH, Grid, estimate, signed
from exvo.report.tables.systems_layout import PLACES, few_speakers_note

COUNTED = ("clips", "speakers")
NAMES = {"uar": "UAR (country)", "mae": "MAE (age, years)", "ccc": "CCC (emotion)", "s_mtl": "S_MTL"}


def outcome_section(record: Mapping[str, Any]) -> Section:
    """Say what was submitted and how good it is.

    Parameters
    ----------
    record : mapping
        ``fusion.json``.
    """
    selection, test = record["selection"], record["test"]
    submitted = submitted_candidate(selection)
    n_test = record["n_test_clips"]
    lead = (
        f"Submitted: {submitted['name']}, {_what(record)} The submission, results/fusion/test_preds.csv, answers "
        f"for {n_test:,} Test clips."
    )
    val = submitted["out_of_fold_val"]
    statistics = record["statistics"]
    parts: list = [
        Tiles(
            [
                ("S_MTL on Test", *_tile(test.get("fusion"), test.get("intervals"))),
                ("S_MTL on validation", *_tile(val, submitted["intervals"])),
                *_margin_tile(record),
            ]
        ),
        _score_table(record, submitted),
        *_margins(record),
    ]
    if "blind" in test:
        parts.append(Words(f"Test is blind: {without_folders(test['blind'])}. All scores are of validation."))
    parts += [Words(text) for text in _comparisons(selection)]
    parts += _candidates(selection, statistics["confidence"])
    missing = record["test_clips_without_audio"]
    if missing:
        parts.append(
            Words(
                f"{len(missing):,} of {n_test:,} Test clips have no audio and get the prior of the training set."
            )
        )
    parts += [Words(f"Left out: {without_folders(notice)}.") for notice in record["notices"]]
    return Section("outcome", "Outcome", lead, parts)


def _what(record: Mapping[str, Any]) -> str:
    n, asked = len(record["systems"]), record["selection"]["asked_for"]
    what = "a single system, its seeds averaged" if record["kind"] == "system" else f"a fusion of {n} systems"
    why = "the candidate that does best on validation" if asked == "best" else "as the config asks"
    return f"{what}, {why}."


def _tile(scores: Mapping[str, Any] | None, intervals: Mapping[str, Any] | None) -> tuple[str, str]:
    if scores is None:
        return "blind", "no labels"
    if scores["s_mtl"] is None:
        return DASH, "a term is missing or not positive"
    text = estimate(scores["s_mtl"], 3, interval((intervals or {}).get("s_mtl")))
    value, _, limits = text.partition(" ")
    return value, limits or "too few speakers for an interval"


def _margin_tile(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return how many percent of S_MTL the submission is ahead of the reference, on Test or else on validation."""
    if record["reference"] is None:
        return []
    split = "Test" if "margins" in record["test"] else "validation"
    found = (record["test"] if split == "Test" else record)["margins"][0]
    percent = difference(found["s_mtl_percent"])
    label = f"S_MTL over the {record['reference']}, {split}"
    if not np.isfinite(percent.value):
        return [(label, DASH, "a term is missing or not positive")]
    if np.isnan(percent.p):
        return [(label, f"{percent.value:+.0f} %", "too few speakers for an interval")]
    low, high = (f"{end:+.0f}" if np.isfinite(end) else DASH for end in (percent.low, percent.high))
    return [(label, f"{percent.value:+.0f} %", f"[{low}, {high}]")]


def _score_table(record: Mapping[str, Any], submitted: Mapping[str, Any]) -> Table:
    test, cells = record["test"], []
    if "fusion" in test:
        cells.append(["Test", test["fusion"], test["intervals"], test["sd"]])
    val = submitted["out_of_fold_val"]
    cells.append(["validation, out-of-fold", val, submitted["intervals"], submitted["sd"]])
    rows = [
        [name, *(cell(m, scores, intervals, spread) for m in METRICS), *counts(scores, intervals)]
        for name, scores, intervals, spread in cells
    ]
    statistics = record["statistics"]
    notes = [
        f"Brackets: {statistics['confidence']:.0%} confidence interval from {statistics['resamples']:,} resamples of "
        "speakers. ±: deviation over seeds, of the same made of one seed of each system at a time. Out-of-fold: each "
        "speaker's clips are predicted by what was learned from other speakers. Clips and speakers: with a label of "
        "country / age / emotion."
    ]
    for split, few in (("Test", test.get("few_speakers", {})), ("Validation", statistics["few_speakers"])):
        notes += [f"{split}: {note}" for note in few_speakers_note(few)]
    return Table("Scores of the submission", [Grid(["scored on", *NAMES.values(), *COUNTED], rows)], notes)


def _margins(record: Mapping[str, Any]) -> list[Table]:
    """Show by how much the submission is ahead of the reference and of the best single system."""
    by_split = {"Test": record["test"].get("margins", []), "validation": record["margins"]}
    header = ["ahead of", *NAMES.values(), "S_MTL, %"]
    grids = [
        Grid(
            header,
            [
                [
                    margin["over"],
                    *(signed(difference(margin["differences"][m]), PLACES[m]) for m in METRICS),
                    signed(difference(margin["s_mtl_percent"]), 1),
                ]
                for margin in found
            ],
            f"On {split}",
        )
        for split, found in by_split.items()
        if found
    ]
    note = (
        "The submission's score minus the other's on the same speakers, with its interval and p-value; of MAE, less is "
        "better. Where seeds are averaged, as a fusion averages them, none of the margin comes from that."
    )
    return [Table("Margin of the submission", grids, [note])] if grids else []


def _comparisons(selection: Mapping[str, Any]) -> list[str]:
    """Say how far the submission is ahead of the next candidate and of the best single system."""
    others = {}
    if selection["runner_up"]:
        others[selection["runner_up"]] = "the next best candidate"
    singles = [c["name"] for c in selection["candidates"] if c["kind"] == "system"]
    if singles and singles[0] != selection["submitted"]:
        already = others.get(singles[0])
        others[singles[0]] = f"{already} and best single system" if already else "the best single system"
    lines = []
    for name, what in others.items():
        found = difference(selection["differences"][name]["s_mtl"])
        against = f"Against {name}, {what}, the difference in S_MTL on validation"
        if not np.isfinite(found.value):
            lines.append(f"{against} is not defined: a term of one of them is missing or not positive.")
            continue
        if np.isnan(found.p):
            lines.append(f"{against} is {signed(found, 3)}; there are too few speakers for an interval.")
            continue
        zero = "excludes" if found.low > 0 or found.high < 0 else "includes"
        lines.append(f"{against} is {signed(found, 3)}: the interval {zero} zero.")
    return lines


def _candidates(selection: Mapping[str, Any], confidence: float) -> list[Picture | Table | Words]:
    candidates = selection["candidates"]
    drawn = [c for c in candidates if c["out_of_fold_val"]["s_mtl"] is not None]
    parts: list = []
    if drawn:
        parts.append(
            picture(
                "Candidates on validation",
                f"S_MTL of {len(drawn)} candidates with intervals; the best is {drawn[0]['name']}.",
                f"S_MTL of every fusion and single system, out-of-fold, with {confidence:.0%} intervals over "
                "speakers. Intervals that overlap may still differ for certain, since all are of the same speakers: "
                "the differences in the table are the better judge.",
                (9, 0.27 * len(drawn) + 0.9),
                lambda figure: _forest(figure, drawn, selection["submitted"]),
            )
        )
    left = [c["name"] for c in candidates if c not in drawn]
    if left:
        parts.append(Words(f"Without S_MTL, a term being missing or not positive: {', '.join(left)}."))
    rows = [
        [
            c["name"],
            (f"fusion, {c['rule'].replace('_', ' ')}" if c["kind"] == "fusion" else "system")
            + (", submitted" if c["name"] == selection["submitted"] else ""),
            *(cell(m, c["out_of_fold_val"], c["intervals"], c["sd"]) for m in METRICS),
            DASH
            if c["name"] == selection["submitted"]
            else signed(difference(selection["differences"][c["name"]]["s_mtl"]), 3),
            *counts(c["out_of_fold_val"], c["intervals"]),
        ]
        for c in candidates
    ]
    header = ["candidate", "kind", "UAR", "MAE", "CCC", "S_MTL", "submission minus it, S_MTL", *COUNTED]
    note = (
        "Out-of-fold validation, seeds averaged; brackets, ±, clips and speakers as above. The best of many is best "
        "by luck too: its validation score is a little too high, and p-values too low."
    )
    return [*parts, Table("Candidates", [Grid(header, rows)], [note])]


def _forest(figure: Figure, candidates: Sequence[Mapping[str, Any]], submitted: str) -> None:
    axes = figure.subplots()
    for row, candidate in enumerate(candidates):
        colour = VERMILION if candidate["name"] == submitted else BLUE
        value, ends = candidate["out_of_fold_val"]["s_mtl"], interval(candidate["intervals"]["s_mtl"])
        if ends is not None and np.isfinite(ends.high):
            axes.plot([max(ends.low, 0), ends.high], [row, row], color=colour, linewidth=2)
        axes.plot([value], [row], "o" if candidate["kind"] == "fusion" else "s", color=colour, markersize=6)
    axes.set_yticks(range(len(candidates)), [c["name"] for c in candidates])
    axes.invert_yaxis()
    axes.grid(True, axis="x")
    axes.set_xlabel("S_MTL on validation (dots: fusions, squares: single systems; red: submitted)")
