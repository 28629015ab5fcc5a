"""The outcome: what was submitted, its scores, and by how much it is ahead of the other candidates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from exvo.report.page.drawing import BLUE, GREY, TASK_COLOURS, VERMILION, picture
from exvo.report.page.parts import Picture, Section, Table, Tiles, Words, without_folders
from exvo.report.sheet import DASH, Grid, estimate, number, signed
from exvo.report.systems_layout import PLACES
from exvo.scoring.bootstrap import METRICS
from exvo.scoring.intervals import Difference, Interval

NAMES = {"uar": "UAR (country)", "mae": "MAE (age, years)", "ccc": "CCC (emotion)", "s_mtl": "S_MTL"}


def outcome_section(record: Mapping[str, Any]) -> Section:
    """Say what was submitted and how good it is.

    Parameters
    ----------
    record : mapping
        ``fusion.json``.
    """
    selection, test = record["selection"], record["test"]
    submitted = _submitted(selection)
    n_test = record["n_test_clips"]
    lead = (
        f"Submitted: {submitted['name']}, {_what(record)} The submission, results/fusion/test_preds.csv, answers "
        f"for {n_test:,} Test clips."
    )
    val = submitted["cross_fitted_val"]
    statistics = record["statistics"]
    parts: list = [
        Tiles(
            [
                ("S_MTL on Test", *_tile(test.get("fusion"), test.get("intervals"))),
                ("S_MTL on validation", *_tile(val, submitted["intervals"])),
            ]
        ),
        _score_table(record, submitted),
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


def fusion_section(record: Mapping[str, Any]) -> Section:
    """Show what the submission is made of: each system's part in each task."""
    lead = "What each system contributes to the submission, task by task."
    name, tasks = record["selection"]["submitted"], record["tasks"]
    if len(record["systems"]) == 1:
        only = next(iter(record["systems"]))
        return Section(
            "fusion", "Fusion", lead, [Words(f"{name} is {only} alone: there are no weights to show.")]
        )
    chosen = {task: entry for task, entry in tasks.items() if entry["chosen_by"] != "none"}
    parts: list = [
        Words(f"No system predicts {task}, so there is nothing to combine.")
        for task in tasks
        if task not in chosen
    ]
    if record["joint"]:
        parts.append(Words(_joint(name, record["joint"], list(record["systems"]))))
    elif chosen:
        parts.append(_weights(name, list(record["systems"]), chosen))
    rows = [
        [
            task,
            entry.get("rule", record["rule"]).replace("_", " "),
            ", ".join(f"{key} {entry[key]}" for key in ("model", "penalty", "inputs") if key in entry)
            or DASH,
            entry["chosen_by"],
            f"{entry['metric'].upper()} {_number(entry['val_score'])}",
            f"{entry['metric'].upper()} {_number(entry['cross_fitted_val_score'])}",
            f"{entry['n_clips']:,}",
            f"{entry['n_speakers']:,}",
        ]
        for task, entry in tasks.items()
    ]
    header = [
        "task",
        "rule",
        "combiner",
        "chosen by",
        "on what it learned from",
        "cross-fitted",
        "clips",
        "speakers",
    ]
    parts.append(Table("How each task is combined", [Grid(header, rows)]))
    parts += [Words(f"{without_folders(note)}.") for note in record["notes"]]
    return Section("fusion", "Fusion", lead, parts)


def _joint(name: str, joint: Mapping[str, Any], systems: Sequence[str]) -> str:
    read = {
        "pooled": "what their heads read of a clip",
        "features": "their features, each clip as a whole",
    }[joint["representation"]]
    return (
        f"{name} is a model of its own, trained on Train with {joint['n_seeds']} seeds on representations by "
        f"{', '.join(systems)}: {read}. It has no weights of systems to show; its answers are its seeds' mean."
    )


def _submitted(selection: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(c for c in selection["candidates"] if c["name"] == selection["submitted"])


def _what(record: Mapping[str, Any]) -> str:
    n, asked = len(record["systems"]), record["selection"]["asked_for"]
    what = "a single system, its seeds averaged" if record["kind"] == "system" else f"a fusion of {n} systems"
    why = "the candidate that does best on validation" if asked == "best" else "as the config asks"
    return f"{what}, {why}."


def _number(value: float | None, places: int = 3) -> str:
    return number(np.nan if value is None else value, places, DASH)


def _interval(record: Mapping[str, Any] | None) -> Interval | None:
    if record is None:
        return None
    high = np.nan if record["high"] is None else record["high"]
    # No lower limit beside an upper one: the metric was undefined in many resamples.
    low = record["low"] if record["low"] is not None else (-np.inf if np.isfinite(high) else np.nan)
    return Interval(low, high, record["n_speakers"], record["n_undefined"])


def _difference(record: Mapping[str, float | None]) -> Difference:
    return Difference(**{name: np.nan if value is None else value for name, value in record.items()})


def _tile(scores: Mapping[str, Any] | None, intervals: Mapping[str, Any] | None) -> tuple[str, str]:
    if scores is None:
        return "blind", "no labels"
    if scores["s_mtl"] is None:
        return DASH, "a term is missing or not positive"
    interval = _interval((intervals or {}).get("s_mtl"))
    text = estimate(scores["s_mtl"], 3, interval)
    value, _, limits = text.partition(" ")
    return value, limits or "too few speakers for an interval"


def _score_table(record: Mapping[str, Any], submitted: Mapping[str, Any]) -> Table:
    rows = [("validation, cross-fitted", submitted["cross_fitted_val"], submitted["intervals"])]
    if "fusion" in record["test"]:
        rows.insert(0, ("Test", record["test"]["fusion"], record["test"]["intervals"]))
    cells = []
    for name, scores, intervals in rows:
        values = [
            estimate(
                np.nan if scores[metric] is None else scores[metric],
                PLACES[metric],
                _interval(intervals[metric]),
            )
            for metric in METRICS
        ]
        counts = " / ".join(f"{scores[count]:,}" for count in ("n_country", "n_age", "n_emotion"))
        speakers = " / ".join(f"{intervals[metric]['n_speakers']:,}" for metric in ("uar", "mae", "ccc"))
        cells.append([name, *values, counts, speakers])
    statistics = record["statistics"]
    note = (
        f"Brackets: {statistics['confidence']:.0%} confidence interval from {statistics['resamples']:,} resamples of "
        "speakers. Cross-fitted: each speaker's clips are predicted by what was learned from other speakers. Clips and "
        "speakers: with a label of country / age / emotion."
    )
    header = ["scored on", *NAMES.values(), "clips", "speakers"]
    return Table("Scores of the submission", [Grid(header, cells)], [note])


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
        found = _difference(selection["differences"][name]["s_mtl"])
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
    drawn = [c for c in candidates if c["cross_fitted_val"]["s_mtl"] is not None]
    parts: list = []
    if drawn:
        parts.append(
            picture(
                "Candidates on validation",
                f"S_MTL of {len(drawn)} candidates with intervals; the best is {drawn[0]['name']}.",
                f"S_MTL of every fusion and single system, cross-fitted, with {confidence:.0%} intervals over "
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
            *(_number(c["cross_fitted_val"][metric], PLACES[metric]) for metric in METRICS),
            DASH
            if c["name"] == selection["submitted"]
            else signed(_difference(selection["differences"][c["name"]]["s_mtl"]), 3),
        ]
        for c in candidates
    ]
    header = ["candidate", "kind", "UAR", "MAE", "CCC", "S_MTL", "submission minus it, S_MTL"]
    note = "The best of many is best by luck too: its validation score is a little too high, and p-values too low."
    return [*parts, Table("Candidates", [Grid(header, rows)], [note])]


def _forest(figure: Figure, candidates: Sequence[Mapping[str, Any]], submitted: str) -> None:
    axes = figure.subplots()
    for row, candidate in enumerate(candidates):
        colour = VERMILION if candidate["name"] == submitted else BLUE
        value, interval = candidate["cross_fitted_val"]["s_mtl"], _interval(candidate["intervals"]["s_mtl"])
        if interval is not None and np.isfinite(interval.high):
            axes.plot([max(interval.low, 0), interval.high], [row, row], color=colour, linewidth=2)
        axes.plot([value], [row], "o" if candidate["kind"] == "fusion" else "s", color=colour, markersize=6)
    axes.set_yticks(range(len(candidates)), [c["name"] for c in candidates])
    axes.invert_yaxis()
    axes.grid(True, axis="x")
    axes.set_xlabel("S_MTL on validation (dots: fusions, squares: single systems; red: submitted)")


def _weights(name: str, systems: Sequence[str], tasks: Mapping[str, Mapping[str, Any]]) -> Picture:
    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(tasks), sharey=True, sharex=True, squeeze=False)[0]
        for axes, (task, entry) in zip(panels, tasks.items(), strict=True):
            parts = entry.get("weights") or entry["shares"]
            values = [parts.get(system, 0.0) for system in systems]
            axes.barh(range(len(systems)), values, color=TASK_COLOURS[task], height=0.65)
            for row, value in enumerate(values):
                axes.text(value + 0.01, row, f"{value:.2f}", va="center", fontsize=8, color=GREY)
            axes.set_title(f"{task}: {'weights' if 'weights' in entry else 'shares'}", loc="left")
            axes.grid(True, axis="x")
        panels[0].set_yticks(range(len(systems)), systems)
        panels[0].invert_yaxis()
        panels[0].set_xlim(0, min(1.0, panels[0].get_xlim()[1]) * 1.15)

    return picture(
        "Parts of the systems",
        f"Bars: the part of {len(systems)} systems in each task of {name}.",
        "Weights of an average add to one; shares of a trained combiner are its absolute standardised coefficients, "
        "added up by system. A system with a small part may still be good by itself, where others say the same.",
        (10.5, 0.26 * len(systems) + 0.9),
        paint,
    )
