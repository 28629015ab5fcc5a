"""The last step: fuse the systems, write the submission, score what can be scored, and write the tables.

Everything is chosen on Val. The Test labels are read here and nowhere else, once everything is chosen.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from exvo.audio.stages import SOURCE_FOLDER
from exvo.audio.store import WITHOUT_AUDIO
from exvo.corpus.labels import TASKS, Labels
from exvo.corpus.table import Corpus, read_test_labels
from exvo.evaluation.bootstrap import METRICS, BootstrapConfig, SpeakerBootstrap
from exvo.evaluation.metrics import labelled, score
from exvo.evaluation.predictions import Predictions, align, read_predictions, write_predictions
from exvo.evaluation.submission import write_submission
from exvo.fusion.comparisons import Reference, Rivals
from exvo.fusion.fuse import CrossFit, FusionConfig, Run
from exvo.fusion.margins import margins, margins_json
from exvo.fusion.selection import Candidate, describe, find_candidates, interval_json, ranked
from exvo.report.tables.emotion_table import emotion_sheet
from exvo.report.tables.group_table import group_sheet
from exvo.report.tables.sheet import Sheet, write_sheet
from exvo.report.tables.systems_layout import interval_notes, systems_sheet
from exvo.report.tables.systems_table import TABLES, TableSpec, reference_row, table_rows
from exvo.report.tables.table4 import constant, table4
from exvo.training.priors import priors
from exvo.util.atomic import write_text

SNR_COLUMN = "denoised_snr_before_db"


@dataclass(frozen=True)
class OutcomePaths:
    """Where the outcome goes: three files and the folder of the tables.

    ``val`` holds the submission's predictions of Val, each clip by what was learned from other speakers.
    """

    submission: Path
    fusion: Path
    val: Path
    tables: Path


@dataclass(frozen=True)
class OutcomePlan:
    """What to combine, compare and submit.

    Attributes
    ----------
    fusions : sequence of FusionConfig
        At least one. A joint one comes with predictions of its own, by its name, beside those of the systems.
    submission : str or None
        The name of a fusion; None takes the best candidate.
    tables : mapping of str to mapping of str to str
        By table (``table1`` to ``table3``), the system of each of its rows.
    bootstrap : BootstrapConfig
    cross : CrossFit
    notices : sequence of str
        What was left out and why; stands under the tables and in fusion.json.
    """

    fusions: Sequence[FusionConfig]
    submission: str | None
    tables: Mapping[str, Mapping[str, str]]
    bootstrap: BootstrapConfig
    cross: CrossFit
    notices: Sequence[str]


@dataclass(frozen=True)
class Scored:
    """A split with labels, and every system's seeds and every fusion on it."""

    labels: Labels
    source: SpeakerBootstrap
    systems: Mapping[str, Sequence[Predictions]]

    def sheet(
        self,
        spec: TableSpec,
        rows: Mapping[str, Sequence[Predictions]],
        reference: str | None,
        notes: Sequence[str],
    ) -> Sheet:
        """Score the rows of a table, each a list of seeds, and lay it out."""
        draws = {name: self.source.draws(seeds) for name, seeds in rows.items()}
        scores = {name: [score(self.labels, seed) for seed in seeds] for name, seeds in rows.items()}
        notes = [*interval_notes(self.source, spec.split), *notes]
        return systems_sheet(spec, table_rows(spec, scores, draws, reference), notes, reference)


def write_outcome(
    corpus: Corpus,
    runs: Mapping[str, Sequence[tuple[str | Path, str | Path]]],
    plan: OutcomePlan,
    quality: str | Path,
    paths: OutcomePaths,
) -> None:
    """Fuse, submit, score and tabulate.

    Parameters
    ----------
    corpus : Corpus
    runs : mapping of str to sequence of (str or Path, str or Path)
        Files of predictions of Val and Test, a pair a seed, by system and feature fusion.
    plan : OutcomePlan
    quality : str or Path
        The quality table, which says which clips have no audio, and how noisy they are.
    paths : OutcomePaths
    """
    labels = corpus.labels
    val_labels = labels.take(labels.split == "Val")
    test_ids = labels.clip_id[labels.split == "Test"]
    read = {
        name: [Run(read_predictions(val_path), read_predictions(test_path)) for val_path, test_path in seeds]
        for name, seeds in runs.items()
    }
    source = SpeakerBootstrap(val_labels, plan.bootstrap)
    prior = train_prior(labels)
    age_prior = None if np.isnan(prior["age"]) else prior["age"]
    candidates = find_candidates(plan.fusions, read, val_labels, test_ids, plan.cross, source, age_prior)
    submitted = _submitted(candidates, plan.submission)
    write_submission(paths.submission, submitted.fusion.test, corpus)
    write_predictions(paths.val, submitted.fusion.out_of_fold)
    val = Scored(
        val_labels,
        source,
        {name: [align(run.val, val_labels.clip_id) for run in seeds] for name, seeds in read.items()},
    )
    notices = [f"{notice}." for notice in plan.notices]
    for name, systems in plan.tables.items():
        spec, rows = TABLES[name], {row: val.systems[system] for row, system in systems.items()}
        said = _reference_notes(spec, reference_row(spec, rows), systems)
        sheet = val.sheet(spec, rows, reference_row(spec, rows), [*said, *notices])
        write_sheet(paths.tables, name, sheet)
    _write_parts_of_val(val_labels, candidates, submitted, quality, plan, paths.tables)

    rivals = Rivals(submitted, candidates, _reference(plan.tables), read, val_labels, test_ids)
    learned = source.draws([submitted.fusion.val])
    ahead = margins(submitted.draws, rivals.draws("val", val_labels, source))

    # From here on nothing is chosen any more, so Test may be read.
    test_labels = read_test_labels(corpus)
    test_source = None if test_labels is None else SpeakerBootstrap(test_labels, plan.bootstrap)
    rows = plan.tables.get("table3", {})
    sheet, test_record = table4(rows, rivals, candidates, plan.notices, prior, test_source, test_labels)
    write_sheet(paths.tables, "table4", sheet)
    record = submitted.fusion.description | {
        "kind": submitted.kind,
        "selection": describe(candidates, submitted, plan.submission, val_labels),
        "reference": rivals.reference.name if rivals.reference else None,
        "margins": margins_json(ahead),
        "val_intervals": {metric: interval_json(learned.interval(metric)) for metric in METRICS},
        "train_prior": score(val_labels, constant(prior, val_labels)).to_json(),
        "statistics": {
            "resamples": plan.bootstrap.resamples,
            "confidence": plan.bootstrap.confidence,
            "seed": plan.bootstrap.seed,
            "folds": plan.cross.folds,
            "n_clips": source.n_clips,
            "n_speakers": source.n_speakers,
            "n_clips_without_speaker": source.n_unnamed,
            "few_speakers": source.few_speakers(),
        },
        "fusions": {c.name: c.fusion.description for c in candidates if c.kind == "fusion"},
        "test": test_record,
        "test_clips_without_audio": _without_audio(quality, set(test_ids)),
        "notices": list(plan.notices),
    }
    write_text(paths.fusion, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def train_prior(labels: Labels) -> dict[str, Any]:
    """Return the answer of no system at all, as `exvo.training.priors.priors`, NaN where Train has no label of a task."""
    train = labels.take(labels.split == "Train")
    return priors(train, [task for task in TASKS if labelled(train, task).any()])


def _reference(tables: Mapping[str, Mapping[str, str]]) -> Reference | None:
    """Return the organisers' network on the first stage of Table 1 that the corpus allows."""
    rows = tables.get("table1", {})
    stage = reference_row(TABLES["table1"], rows)
    return None if stage is None else Reference(f"organisers' network ({stage})", rows[stage])


def _submitted(candidates: Sequence[Candidate], wish: str | None) -> Candidate:
    if wish is None:
        return ranked(candidates)[0]
    return next(c for c in candidates if c.kind == "fusion" and c.name == wish)


def _write_parts_of_val(
    labels: Labels,
    candidates: Sequence[Candidate],
    submitted: Candidate,
    quality: str | Path,
    plan: OutcomePlan,
    folder: Path,
) -> None:
    """Write the tables of emotions and of groups, from out-of-fold predictions."""
    singles = [c for c in ranked(candidates) if c.kind == "system"]
    shown = [submitted, *(c for c in (*candidates, singles[0]) if c.kind == "fusion" or c is singles[0])]
    shown = list({c.name: c for c in shown}.values())
    confidence = (
        f"Brackets: {plan.bootstrap.confidence:.0%}, {plan.bootstrap.resamples:,} resamples of speakers. ±: deviation "
        "over seeds (n - 1), of the same made of one seed of each system at a time."
    )
    about = [
        f"Submitted: {submitted.name}. Best single system (seeds averaged): {singles[0].name}. Predictions of each "
        "clip are by what was learned from other speakers.",
        confidence,
    ]
    predictions = {c.name: c.fusion.out_of_fold for c in shown}
    draws = {c.name: c.draws for c in shown}
    sds = {c.name: c.sd_over_seeds(labels) for c in shown}
    sheet = emotion_sheet(labels, predictions, draws, sds, submitted.name, about)
    write_sheet(folder, "emotions", sheet)
    snr = _snr(quality)
    about = [
        f"Of {submitted.name}, which is submitted; each clip by what was learned from other speakers.",
        confidence,
    ]
    seeds = [seed.out_of_fold for seed in submitted.seeds]
    sheet = group_sheet(labels, submitted.fusion.out_of_fold, seeds, snr, plan.bootstrap, about)
    write_sheet(folder, "groups", sheet)


def _reference_notes(spec: TableSpec, reference: str | None, systems: Mapping[str, str]) -> list[str]:
    notes = [f"Rows: {', '.join(f'{row} is {system}' for row, system in systems.items())}."]
    if reference is None:
        return [
            *notes,
            f"No differences: the row {spec.reference} that the others are compared with is not there.",
        ]
    return [*notes, f"Compared with {reference}: fixed before anything was scored."]


def _snr(quality: str | Path) -> dict[str, float] | None:
    """Return the SNR of every clip that has one, None where no stage measured it."""
    if SNR_COLUMN not in pq.read_schema(quality).names:
        return None
    rows = pq.read_table(quality, columns=["clip_id", SNR_COLUMN]).to_pylist()
    return {row["clip_id"]: np.nan if row[SNR_COLUMN] is None else row[SNR_COLUMN] for row in rows}


def _without_audio(quality: str | Path, test_ids: set[str]) -> list[dict[str, str]]:
    """List the Test clips without audio, with the stage that lacks it: its systems predict them as the Train prior."""
    table = pq.read_table(quality)
    stages = [stage for stage in SOURCE_FOLDER if f"{stage}_status" in table.column_names]
    return [
        {
            "clip_id": row["clip_id"],
            "stage": stage,
            "status": row[f"{stage}_status"],
            "reason": row[f"{stage}_reason"],
        }
        for row in table.to_pylist()
        for stage in stages
        if row["clip_id"] in test_ids and row[f"{stage}_status"] in WITHOUT_AUDIO
    ]
