"""Table 4: Test, once everything is chosen. Single systems, fusions, and what they should be ahead of."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from exvo.corpus.labels import Labels
from exvo.evaluation.bootstrap import METRICS, SpeakerBootstrap
from exvo.evaluation.metrics import score
from exvo.evaluation.predictions import Predictions, align
from exvo.fusion.comparisons import Rivals
from exvo.fusion.margins import Margin, margins, margins_json
from exvo.fusion.selection import Candidate, interval_json, sd_json
from exvo.report.tables import paper
from exvo.report.tables.sheet import Grid, Sheet, signed
from exvo.report.tables.systems_layout import PLACES, interval_notes, systems_sheet
from exvo.report.tables.systems_table import TABLES, TableSpec, blind_rows, table_rows
from exvo.training.results import predictions_or_priors

PRIOR = "Train prior (no audio)"
BLIND = "the corpus has no test_labels.csv, so Test is not scored"


def constant(priors: Mapping[str, Any], labels: Labels) -> Predictions:
    """Return the Train prior as the answer to some clips."""
    nobody = np.zeros(len(labels), dtype=bool)
    return predictions_or_priors(labels.clip_id, nobody, priors, labels.countries, np.asarray)


def table4(
    rows: Mapping[str, str],
    rivals: Rivals,
    candidates: Sequence[Candidate],
    notices: Sequence[str],
    priors: Mapping[str, Any],
    source: SpeakerBootstrap | None,
    labels: Labels | None,
) -> tuple[Sheet, dict[str, Any]]:
    """Lay out Table 4, and return with it what ``fusion.json`` says of Test.

    Parameters
    ----------
    rows : mapping of str to str
        Single systems that are to stand in it, by row.
    rivals : Rivals
        With the submission and the runs of all systems.
    candidates : sequence of Candidate
    notices : sequence of str
    priors : mapping
        As `exvo.training.priors.priors`.
    source, labels : SpeakerBootstrap and Labels
        Of the Test clips; None where Test is blind.
    """
    submitted = rivals.submitted
    combined = {
        rivals.name_of(c): c
        for c in (*candidates, rivals.best_single)
        if c.kind == "fusion" or c is submitted or c is rivals.best_single
    }
    single = {row if row not in combined else f"{row} (system)": name for row, name in rows.items()}
    if rivals.reference:
        single = {rivals.reference.name: rivals.reference.system, **single}
    spec = _spec([PRIOR, *single], combined)
    said = _notes(single, rivals, notices)
    if source is None or labels is None:
        sheet = systems_sheet(
            spec, blind_rows(spec, [PRIOR, *single, *combined]), [f"Blind: {BLIND}.", *said]
        )
        return sheet, {"blind": BLIND}

    def of_test(answers: Predictions) -> Predictions:
        return align(answers, labels.clip_id)

    entries = {PRIOR: [constant(priors, labels)]}
    entries |= {row: [of_test(run.test) for run in rivals.runs[name]] for row, name in single.items()}
    entries |= {row: [of_test(c.fusion.test)] for row, c in combined.items()}
    draws = {row: source.draws(seeds) for row, seeds in entries.items()}
    scores = {row: [score(labels, seed) for seed in seeds] for row, seeds in entries.items()}
    apart = {row: (max(len(c.seeds), 1), c.sd_over_seeds(labels, "test")) for row, c in combined.items()}
    chosen = rivals.name_of(submitted)
    laid = table_rows(spec, scores, draws, chosen, {PRIOR: (0, {}), **apart})
    found = margins(draws[chosen], rivals.draws("test", labels, source))
    sheet = systems_sheet(spec, laid, [*interval_notes(source, spec.split), *said], chosen)
    sheet = replace(sheet, grids=[*sheet.grids, margin_grid(found, submitted.name)])
    return sheet, {
        "fusion": scores[chosen][0].to_json(),
        "intervals": {metric: interval_json(draws[chosen].interval(metric)) for metric in METRICS},
        "sd": sd_json(apart[chosen][1]),
        "few_speakers": source.few_speakers(),
        "margins": margins_json(found),
        "fusions": {c.name: scores[row][0].to_json() for row, c in combined.items()},
        "systems": {
            name: [score(labels, of_test(run.test)).to_json() for run in rivals.runs[name]]
            for name in submitted.fusion.description["systems"]
        },
        "train_prior": scores[PRIOR][0].to_json(),
    }


def margin_grid(found: Sequence[Margin], submitted: str) -> Grid:
    """Lay out by how much the submission is ahead."""
    return Grid(
        ["ahead of", "UAR", "MAE", "CCC", "S_MTL", "S_MTL, %"],
        [
            [
                margin.over,
                *(signed(margin.differences[metric], PLACES[metric]) for metric in METRICS),
                signed(margin.percent, 1),
            ]
            for margin in found
        ],
        f"Margin of {submitted}, the submission: its score minus the other's, on the same speakers",
    )


def _spec(plain: Sequence[str], combined: Mapping[str, Candidate]) -> TableSpec:
    """Return what is particular to this table, with the paper's figures beside the rows that have them."""
    figures = {row: paper.TABLE4.get(paper.paper_row(row, paper.TABLE4), paper.NO_FIGURES) for row in plain}
    for row, candidate in combined.items():
        by_paper = candidate.fusion.description["rule"] == "paper"
        figures[row] = paper.TABLE4[paper.FUSION] if by_paper else paper.NO_FIGURES
    return replace(TABLES["table4"], figures=figures)


def _notes(single: Mapping[str, str], rivals: Rivals, notices: Sequence[str]) -> list[str]:
    said = [f"Submitted: {rivals.submitted.name}, which the others are compared with."]
    if rivals.reference:
        said.append(
            f"Reference: {rivals.reference.name}, the first row of Table 1. It, and the best single system "
            f"({rivals.best_single.name}, chosen on validation), were fixed before Test was read."
        )
    else:
        said.append("No reference row: Table 1, whose first row it would be, has no system.")
    said.append(
        f"{PRIOR}: what a constant scores, namely Train's median age, mean emotions and most frequent country; its "
        "CCC is 0, so it has no S_MTL."
    )
    if single:
        said.append(f"Rows: {', '.join(f'{row} is {name}' for row, name in single.items())}.")
    return [*said, *(f"{notice}." for notice in notices)]
