"""The last step: fuse the systems, write the submission, score it, and write the tables.

All choices are made on Val. The Test labels are read only here, after all choices.
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
from exvo.fusion.comparisons import ComparedSystems, Reference, compare, comparisons_json
from exvo.fusion.fuse import CrossFit, FusionConfig, Run
from exvo.fusion.selection import Candidate, describe, find_candidates, interval_json, ranked
from exvo.report.tables.emotion_table import emotion_sheet
from exvo.report.tables.group_table import group_sheet
from exvo.report.tables.sheet import Sheet, write_sheet
from exvo.report.tables.systems_layout import OUT_OF_FOLD_NOTE, SEEDS_NOTE, interval_notes, systems_sheet
from exvo.report.tables.systems_table import TABLES, TableSpec, reference_row, table_rows
from exvo.report.tables.table4 import constant, table4
from exvo.training.priors import priors
from exvo.util.atomic import write_text

SNR_COLUMN = "denoised_snr_before_db"


@dataclass(frozen=True)
class OutcomePaths:
    """Output paths: three files and the folder of the tables; ``val`` is for out-of-fold predictions of Val."""

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
        At least one. A feature fusion has predictions of its own under its name.
    submission : str or None
        The name of a fusion; None submits the best candidate.
    tables : mapping of str to mapping of str to str
        By table (``table1`` to ``table3``), the system of each of its rows.
    bootstrap : BootstrapConfig
    cross : CrossFit
    notices : sequence of str
        What was left out and why; repeated under the tables and in fusion.json.
    """

    fusions: Sequence[FusionConfig]
    submission: str | None
    tables: Mapping[str, Mapping[str, str]]
    bootstrap: BootstrapConfig
    cross: CrossFit
    notices: Sequence[str]


@dataclass(frozen=True)
class Scored:
    """A split with labels, and the predictions of every seed of every system for it."""

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
        """Score the rows of a table, each a list of seeds, and lay the table out."""
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
    """Fuse the systems; write submission, scores and tables.

    Parameters
    ----------
    corpus : Corpus
    runs : mapping of str to sequence of (str or Path, str or Path)
        Files of the predictions for Val and Test, one pair per seed, by system and feature fusion.
    plan : OutcomePlan
    quality : str or Path
        The quality table, with the status and the SNR of every clip.
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
        notes = _reference_notes(spec, reference_row(spec, rows), systems)
        sheet = val.sheet(spec, rows, reference_row(spec, rows), [*notes, *notices])
        write_sheet(paths.tables, name, sheet)
    _write_emotions_and_groups(val_labels, source, candidates, submitted, quality, plan, paths.tables)

    row_names = _row_names(plan.tables.get("table3", {}), plan.fusions)
    compared = ComparedSystems(
        submitted, candidates, _reference(plan.tables), read, row_names, val_labels, test_ids
    )
    in_sample = source.draws([submitted.fusion.val])
    comparisons = compare(submitted.draws, compared.draws("val", val_labels, source))

    # All choices are made, so Test may be read.
    test_labels = read_test_labels(corpus)
    test_source = None if test_labels is None else SpeakerBootstrap(test_labels, plan.bootstrap)
    sheet, test_record = table4(compared, candidates, plan.notices, prior, test_source, test_labels)
    write_sheet(paths.tables, "table4", sheet)
    record = submitted.fusion.description | {
        "kind": submitted.kind,
        "selection": describe(candidates, submitted, plan.submission, val_labels),
        "reference": compared.reference.name if compared.reference else None,
        "comparisons": comparisons_json(comparisons),
        "val_intervals": {metric: interval_json(in_sample.interval(metric)) for metric in METRICS},
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
    """Return the constant prediction of `exvo.training.priors.priors`; NaN for a task without labels in Train."""
    train = labels.take(labels.split == "Train")
    return priors(train, [task for task in TASKS if labelled(train, task).any()])


def _reference(tables: Mapping[str, Mapping[str, str]]) -> Reference | None:
    """Return the organisers' network on the first stage of Table 1 that the corpus allows."""
    rows = tables.get("table1", {})
    stage = reference_row(TABLES["table1"], rows)
    return None if stage is None else Reference(f"organisers' network ({stage})", rows[stage])


def _row_names(rows: Mapping[str, str], fusions: Sequence[FusionConfig]) -> dict[str, str]:
    """Return the row in Table 4 by system: the first row of Table 3, marked where a fusion has the same name."""
    names: dict[str, str] = {}
    for row, system in rows.items():
        is_fusion = any(row == fusion.name for fusion in fusions)
        names.setdefault(system, f"{row} (system)" if is_fusion else row)
    return names


def _submitted(candidates: Sequence[Candidate], asked_for: str | None) -> Candidate:
    if asked_for is None:
        return ranked(candidates)[0]
    return next(c for c in candidates if c.kind == "fusion" and c.name == asked_for)


def _write_emotions_and_groups(
    labels: Labels,
    source: SpeakerBootstrap,
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
    notes = [*interval_notes(source, "validation"), SEEDS_NOTE, OUT_OF_FOLD_NOTE]
    about = f"Submitted: {submitted.name}. Best single system (seeds averaged): {singles[0].name}."
    predictions = {c.name: c.fusion.out_of_fold for c in shown}
    draws = {c.name: c.draws for c in shown}
    sds = {c.name: c.sd_over_seeds(labels) for c in shown}
    sheet = emotion_sheet(labels, predictions, draws, sds, submitted.name, [*notes, about])
    write_sheet(folder, "emotions", sheet)
    snr = _snr(quality)
    about = f"Scores of the submission, {submitted.name}."
    seeds = [seed.out_of_fold for seed in submitted.seeds]
    sheet = group_sheet(labels, submitted.fusion.out_of_fold, seeds, snr, plan.bootstrap, [*notes, about])
    write_sheet(folder, "groups", sheet)


def _reference_notes(spec: TableSpec, reference: str | None, systems: Mapping[str, str]) -> list[str]:
    notes = [f"Rows: {', '.join(f'{row} is {system}' for row, system in systems.items())}."]
    if reference is None:
        return [
            *notes,
            f"No differences: the reference row, {spec.reference}, is missing.",
        ]
    return [*notes, f"Differences are from {reference}, which was fixed before scoring."]


def _snr(quality: str | Path) -> dict[str, float] | None:
    """Return the SNR of every clip in dB, NaN where it is unknown; None where no stage estimated it."""
    if SNR_COLUMN not in pq.read_schema(quality).names:
        return None
    rows = pq.read_table(quality, columns=["clip_id", SNR_COLUMN]).to_pylist()
    return {row["clip_id"]: np.nan if row[SNR_COLUMN] is None else row[SNR_COLUMN] for row in rows}


def _without_audio(quality: str | Path, test_ids: set[str]) -> list[dict[str, str]]:
    """List the Test clips without audio at a stage; systems of that stage predict the Train prior for them."""
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
