"""Table 4: scores on Test, after all choices are made: the Train prior, the reference, single systems and fusions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from exvo.corpus.labels import Labels
from exvo.evaluation.bootstrap import METRICS, SpeakerBootstrap
from exvo.evaluation.metrics import score
from exvo.evaluation.predictions import Predictions, align
from exvo.fusion.comparisons import ComparedSystems, Comparison, compare, comparisons_json
from exvo.fusion.selection import Candidate, interval_json, sd_json
from exvo.report.tables import paper
from exvo.report.tables.sheet import Grid, Sheet, signed
from exvo.report.tables.systems_layout import PLACES, interval_notes, systems_sheet
from exvo.report.tables.systems_table import TABLES, TableSpec, blind_rows, table_rows

PRIOR = "Train prior (no audio)"
BLIND = "the corpus has no test_labels.csv, so Test is not scored"


def constant(priors: Mapping[str, Any], labels: Labels) -> Predictions:
    """Return the Train prior as the prediction for some clips."""
    n = len(labels)
    return Predictions(
        clip_id=labels.clip_id,
        age=np.full(n, priors["age"], dtype=np.float64),
        country=np.tile(np.asarray(priors["country"], dtype=np.float64), (n, 1)),
        emotion=np.tile(np.asarray(priors["emotion"], dtype=np.float64), (n, 1)),
        country_codes=tuple(country.code for country in labels.countries),
    )


def table4(
    compared: ComparedSystems,
    candidates: Sequence[Candidate],
    notices: Sequence[str],
    priors: Mapping[str, Any],
    source: SpeakerBootstrap | None,
    labels: Labels | None,
) -> tuple[Sheet, dict[str, Any]]:
    """Lay out Table 4, and return with it the Test record of ``fusion.json``.

    Every system has one row. Only the best single system may have two: its seeds scored one by one, and averaged.

    Parameters
    ----------
    compared : ComparedSystems
        With the submission, the runs of all systems, and the single systems that have a row.
    candidates : sequence of Candidate
    notices : sequence of str
    priors : mapping
        As `exvo.training.priors.priors`.
    source, labels : SpeakerBootstrap and Labels
        Of the Test clips; None where Test has no labels.
    """
    submitted = compared.submitted
    single = {row: name for name, row in compared.row_names.items()}
    shown = [c for c in candidates if c.kind == "fusion" or c is submitted or c is compared.best_single]
    # With one seed, the average over seeds is the single system itself.
    fused = {row: c for c in shown if (row := compared.name_of(c)) not in single}
    spec = _spec([PRIOR, *single], fused)
    notes = _notes(single, compared, notices)
    if source is None or labels is None:
        sheet = systems_sheet(
            spec, blind_rows(spec, [PRIOR, *single, *fused]), [f"Test is blind: {BLIND}.", *notes]
        )
        return sheet, {"blind": BLIND}

    def of_test(predictions: Predictions) -> Predictions:
        return align(predictions, labels.clip_id)

    entries = {PRIOR: [constant(priors, labels)]}
    entries |= {row: [of_test(run.test) for run in compared.runs[name]] for row, name in single.items()}
    entries |= {row: [of_test(c.fusion.test)] for row, c in fused.items()}
    draws = {row: source.draws(seeds) for row, seeds in entries.items()}
    scores = {row: [score(labels, seed) for seed in seeds] for row, seeds in entries.items()}
    averaged = {row: (max(len(c.seeds), 1), c.sd_over_seeds(labels, "test")) for row, c in fused.items()}
    chosen = compared.name_of(submitted)
    laid = table_rows(spec, scores, draws, chosen, {PRIOR: (0, {}), **averaged})
    found = compare(draws[chosen], compared.draws("test", labels, source))
    sheet = systems_sheet(spec, laid, [*interval_notes(source, spec.split), *notes], chosen)
    sheet = replace(sheet, grids=[*sheet.grids, comparison_grid(found, chosen)])
    return sheet, {
        "fusion": scores[chosen][0].to_json(),
        "intervals": {metric: interval_json(draws[chosen].interval(metric)) for metric in METRICS},
        "sd": sd_json(submitted.sd_over_seeds(labels, "test")),
        "few_speakers": source.few_speakers(),
        "comparisons": comparisons_json(found),
        "fusions": {c.name: scores[compared.name_of(c)][0].to_json() for c in shown},
        "systems": {
            name: [score(labels, of_test(run.test)).to_json() for run in compared.runs[name]]
            for name in submitted.fusion.description["systems"]
        },
        "train_prior": scores[PRIOR][0].to_json(),
    }


def comparison_grid(comparisons: Sequence[Comparison], submitted: str) -> Grid:
    """Lay out the differences of the submission from the systems that it is compared with."""
    return Grid(
        ["compared with", "UAR", "MAE", "CCC", "S_MTL", "S_MTL, %"],
        [
            [
                one.name,
                *(signed(one.differences[metric], PLACES[metric]) for metric in METRICS),
                signed(one.percent, 1),
            ]
            for one in comparisons
        ],
        f"The submission, {submitted}, minus the reference and the best single system, on the same speakers",
        folded=True,
    )


def _spec(single: Sequence[str], fused: Mapping[str, Candidate]) -> TableSpec:
    """Return the specification of this table, with the paper's figures for the rows that have them."""
    figures = {row: paper.paper_figures(row, paper.TABLE4) or paper.NO_FIGURES for row in single}
    for row, candidate in fused.items():
        by_paper = candidate.fusion.description["rule"] == "paper"
        figures[row] = paper.TABLE4[paper.FUSION] if by_paper else paper.NO_FIGURES
    return replace(TABLES["table4"], figures=figures)


def _notes(single: Mapping[str, str], compared: ComparedSystems, notices: Sequence[str]) -> list[str]:
    notes = [f"Submitted: {compared.name_of(compared.submitted)}. Differences are taken from it."]
    if compared.reference:
        notes.append(
            f"Reference: {compared.reference.name}, the first row of Table 1. Best single system on validation: "
            f"{compared.best_single.name}. Both were fixed before Test was read."
        )
    else:
        notes.append("No reference row: Table 1, whose first row is the reference, has no system.")
    notes.append(
        f"{PRIOR}: a constant prediction, the median age, mean emotions and most frequent country of Train. Its CCC is "
        "0, so its S_MTL is undefined."
    )
    if single:
        notes.append(f"Rows: {', '.join(f'{row} is {name}' for row, name in single.items())}.")
    return [*notes, *(f"{notice}." for notice in notices)]
