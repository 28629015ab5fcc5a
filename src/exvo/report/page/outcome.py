"""The first two sections: the result of the submission, and the comparison of all systems."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from exvo.evaluation.bootstrap import METRICS
from exvo.report.page.drawing import BLUE, VERMILION, picture
from exvo.report.page.parts import Notes, Overview, Part, Section, Table, Words, without_folders
from exvo.report.page.record import cell, counts, difference, interval, submitted_candidate
from exvo.report.tables.sheet import DASH, Grid, signed
from exvo.report.tables.systems_layout import PLACES

NAMES = {
    "s_mtl": "S_MTL",
    "ccc": "CCC (emotion)",
    "uar": "UAR (country)",
    "mae": "MAE (age, years)",
}


def result_section(record: Mapping[str, Any]) -> Section:
    """Show the submission, its scores and the difference from the reference.

    Parameters
    ----------
    record : mapping
        ``fusion.json``.
    """
    selection, test = record["selection"], record["test"]
    submitted, n_test = submitted_candidate(selection), record["n_test_clips"]
    grids = []
    if "fusion" in test:
        grids.append(
            _scores(
                "Test", test["fusion"], test["intervals"], test["sd"], _first(record, test["comparisons"])
            )
        )
    val = submitted["out_of_fold_val"]
    comparison = _first(record, record["comparisons"])
    grids.append(_scores("validation", val, submitted["intervals"], submitted["sd"], comparison))
    confidence = f"{record['statistics']['confidence']:.0%}"
    scores = Table(
        "Scores of the submission",
        grids,
        [
            f"Brackets: {confidence} confidence interval over speakers. ±: SD over seeds. MAE: lower is better."
        ],
    )
    n_candidates, asked_for = len(selection["candidates"]), selection["asked_for"]
    chosen = (
        f"It is the best of {n_candidates} candidates on validation"
        if asked_for == "best"
        else "It is submitted because the config names it"
    )
    parts: list[Part] = [
        _overview(scores, selection, confidence),
        Words(f"{chosen}. The submission, results/fusion/test_preds.csv, has {n_test:,} Test clips."),
    ]
    if "blind" in test:
        parts.append(Words(f"Test is blind: {without_folders(test['blind'])}. All scores are on validation."))
    missing = record["test_clips_without_audio"]
    if missing:
        parts.append(
            Words(
                f"{len(missing):,} of {n_test:,} Test clips have no audio at some stage. Systems of that stage predict "
                "the Train prior for them."
            )
        )
    parts += [Words(f"Left out: {without_folders(notice)}.") for notice in record["notices"]]
    return Section("result", "Result", _sentence(record), parts)


def systems_section(record: Mapping[str, Any], tables: Sequence[Table], shared: Sequence[str]) -> Section:
    """Compare all systems: which one is best, and by how much.

    Parameters
    ----------
    record : mapping
        ``fusion.json``.
    tables : sequence of Table
        Tables 1 to 4, in the order wanted.
    shared : sequence of str
        Notes that hold for several tables of the page.
    """
    lead = (
        "Candidates for the submission are the fusions and the single systems, their seeds averaged. They are ranked "
        "by S_MTL on validation, out-of-fold: each speaker is predicted with weights fitted on the other speakers."
    )
    parts: list[Part] = [Words(text) for text in _differences_in_words(record["selection"])]
    parts += [*_candidates(record), Notes("How to read the tables", shared), *tables]
    return Section("systems", "Systems", lead, parts)


def _what(record: Mapping[str, Any]) -> str:
    if record["kind"] == "system":
        return "a single system"
    return f"a {'feature' if record['feature_fusion'] else 'late'} fusion of {len(record['systems'])} systems"


def _sentence(record: Mapping[str, Any]) -> str:
    """Return the result in one sentence."""
    selection, test = record["selection"], record["test"]
    submitted = submitted_candidate(selection)
    if "fusion" in test:
        split, scores, intervals, comparisons = "Test", test["fusion"], test["intervals"], test["comparisons"]
    else:
        split, scores = "validation", submitted["out_of_fold_val"]
        intervals, comparisons = submitted["intervals"], record["comparisons"]
    subject = f"{submitted['name']}, {_what(record)}, is submitted"
    if scores["s_mtl"] is None:
        return f"{subject}. Its S_MTL on {split} is undefined: a term is missing or not positive."
    sentence = f"{subject} and reaches S_MTL {cell('s_mtl', scores, intervals)} on {split}"
    comparison = _first(record, comparisons)
    if comparison is None:
        return f"{sentence}."
    found = difference(comparison["differences"]["s_mtl"])
    if not np.isfinite(found.value):
        return f"{sentence}. The difference from the {comparison['name']} is undefined."
    text = signed(found, 3)
    return f"{sentence}, a difference of {text}{',' if ' p ' in text else ''} from the {comparison['name']}."


def _first(record: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the comparison with the reference, None where there is no reference."""
    return None if record["reference"] is None else comparisons[0]


def _scores(
    split: str,
    scores: Mapping[str, Any],
    intervals: Mapping[str, Any],
    sd: Mapping[str, float | None],
    comparison: Mapping[str, Any] | None,
) -> Grid:
    """Lay out the scores of the submission beside those of the reference."""
    clips, speakers = counts(scores, intervals)
    header = [f"on {split}", "submission"]
    rows = [[name, cell(metric, scores, intervals, sd)] for metric, name in NAMES.items()]
    if comparison is not None:
        header += [comparison["name"], "difference"]
        for row, metric in zip(rows, NAMES, strict=True):
            row.append(cell(metric, comparison["scores"], comparison["intervals"]))
            row.append(signed(difference(comparison["differences"][metric]), PLACES[metric]))
    how = ", out-of-fold" if split == "validation" else ""
    return Grid(
        header, rows, f"{clips} clips, {speakers} speakers with a label of country / age / emotion{how}"
    )


def _overview(scores: Table, selection: Mapping[str, Any], confidence: str) -> Overview:
    drawn = [c for c in selection["candidates"] if c["out_of_fold_val"]["s_mtl"] is not None]
    if not drawn:
        return Overview(scores, None)
    return Overview(
        scores,
        picture(
            "Candidates on validation",
            f"S_MTL of {len(drawn)} candidates with intervals; the best is {drawn[0]['name']}.",
            f"Out-of-fold S_MTL with {confidence} intervals over speakers. Dots: fusions; squares: single systems; "
            "red: the submission. All candidates are scored on the same speakers, so candidates with overlapping "
            "intervals may still differ: see the differences below.",
            (5.6, 0.25 * len(drawn) + 0.7),
            lambda figure: _forest(figure, drawn, selection["submitted"]),
        ),
    )


def _differences_in_words(selection: Mapping[str, Any]) -> list[str]:
    """Describe the difference of the submission from the next candidate and from the best single system."""
    others = {}
    if selection["runner_up"]:
        others[selection["runner_up"]] = "the next best candidate"
    singles = [c["name"] for c in selection["candidates"] if c["kind"] == "system"]
    if singles and singles[0] != selection["submitted"]:
        role = others.get(singles[0])
        others[singles[0]] = f"{role} and best single system" if role else "the best single system"
    lines = []
    for name, role in others.items():
        found = difference(selection["differences"][name]["s_mtl"])
        text = f"Difference in S_MTL on validation from {name}, {role}"
        if not np.isfinite(found.value):
            lines.append(f"{text}: undefined, because a term is missing or not positive.")
            continue
        if np.isnan(found.p):
            lines.append(f"{text}: {signed(found, 3)}; there are too few speakers for an interval.")
            continue
        zero = "excludes" if found.low > 0 or found.high < 0 else "includes"
        lines.append(f"{text}: {signed(found, 3)}; the interval {zero} zero.")
    return lines


def _candidates(record: Mapping[str, Any]) -> list[Table | Words]:
    """Lay out all candidates, and the comparison with the reference and the best single system on validation."""
    selection = record["selection"]
    candidates, submitted = selection["candidates"], selection["submitted"]
    rows = [
        [
            c["name"],
            (f"fusion, {c['rule'].replace('_', ' ')}" if c["kind"] == "fusion" else "single system")
            + (", submitted" if c["name"] == submitted else ""),
            *(cell(m, c["out_of_fold_val"], c["intervals"], c["sd"]) for m in METRICS),
            DASH
            if c["name"] == submitted
            else signed(difference(selection["differences"][c["name"]]["s_mtl"]), 3),
            *counts(c["out_of_fold_val"], c["intervals"]),
        ]
        for c in candidates
    ]
    header = [
        "candidate",
        "kind",
        "UAR",
        "MAE",
        "CCC",
        "S_MTL",
        "submission minus it, S_MTL",
        "clips",
        "speakers",
    ]
    grids = [Grid(header, rows)]
    if record["comparisons"]:
        grids.append(_comparison_grid(record["comparisons"]))
    note = (
        "The maximum over many candidates is biased: its validation score is slightly too high, and p-values against "
        "it are slightly too low."
    )
    parts: list[Table | Words] = [Table("Candidates on validation", grids, [note])]
    undefined = [c["name"] for c in candidates if c["out_of_fold_val"]["s_mtl"] is None]
    if undefined:
        parts.append(
            Words(f"S_MTL is undefined (a term is missing or not positive): {', '.join(undefined)}.")
        )
    return parts


def _comparison_grid(comparisons: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out the differences of the submission from the reference and from the best single system."""
    rows = [
        [
            one["name"],
            *(signed(difference(one["differences"][metric]), PLACES[metric]) for metric in METRICS),
            signed(difference(one["s_mtl_percent"]), 1),
        ]
        for one in comparisons
    ]
    header = ["compared with", "UAR", "MAE", "CCC", "S_MTL", "S_MTL, %"]
    title = (
        "The submission minus the reference and the best single system, on validation, on the same speakers"
    )
    return Grid(header, rows, title, folded=True)


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
    axes.set_xlabel("S_MTL on validation")
