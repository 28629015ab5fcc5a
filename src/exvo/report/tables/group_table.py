"""Scores on groups of Val clips: by country, age band and noise level."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from exvo.corpus.labels import Labels
from exvo.evaluation.bootstrap import METRICS, BootstrapConfig, Draws, SpeakerBootstrap
from exvo.evaluation.metrics import Scores, score
from exvo.evaluation.predictions import Predictions, align
from exvo.evaluation.seeds import sd_over_seeds
from exvo.report.tables.sheet import Grid, Sheet, estimate, number
from exvo.report.tables.systems_layout import PLACES
from exvo.report.tables.systems_table import COUNTS

# Lower edges of the bands, in years and in dB; a band ends at the next edge.
AGE_EDGES = (0, 20, 25, 30, 35, 40)
SNR_EDGES = (-np.inf, 10, 20, 30, 40)


@dataclass(frozen=True)
class _Group:
    kind: str
    name: str
    scores: Scores
    draws: Draws
    n_clips: int
    sd: Mapping[str, float]


def group_sheet(
    labels: Labels,
    predictions: Predictions,
    seeds: Sequence[Predictions],
    snr: Mapping[str, float] | None,
    config: BootstrapConfig,
    notes: Sequence[str] = (),
) -> Sheet:
    """Score predictions on groups of clips.

    Parameters
    ----------
    labels : Labels
        Of the Val clips.
    predictions : Predictions
        Of the same clips in the same order.
    seeds : sequence of Predictions
        The same fusion made from one seed at a time, for the SD over seeds.
    snr : mapping of str to float, or None
        SNR of clips in dB, estimated by the denoiser; None where no system uses that stage.
    config : BootstrapConfig
        Each group is resampled over its own speakers.
    notes : sequence of str
    """
    groups = []
    for kind, name, rows in _groups(labels, snr):
        part = labels.take(rows)
        predicted = align(predictions, part.clip_id)
        draws = SpeakerBootstrap(part, config).draws([predicted])
        sd = sd_over_seeds([score(part, align(seed, part.clip_id)) for seed in seeds])
        groups.append(_Group(kind, name, score(part, predicted), draws, len(rows), sd))
    header = ["group", "of", "UAR", "MAE", "CCC", "S_MTL", "clips", "labelled clips", "speakers"]
    lines, records = [], []
    for group in groups:
        values = {metric: getattr(group.scores, metric) for metric in METRICS}
        intervals = {metric: group.draws.interval(metric) for metric in METRICS}
        n = [getattr(group.scores, count) for count in COUNTS]
        speakers = [group.draws.source.n_speakers_of[count[2:]] for count in COUNTS]
        sd = {metric: group.sd.get(metric, np.nan) for metric in METRICS}
        texts = [estimate(values[m], PLACES[m], intervals[m], sd[m]) for m in METRICS]
        counts = [" / ".join(f"{count:,}" for count in part) for part in (n, speakers)]
        lines.append([group.name, group.kind, *texts, f"{group.n_clips:,}", *counts])
        record = {"kind": group.kind, "group": group.name, "n_clips": str(group.n_clips)}
        for metric in METRICS:
            record[metric] = number(values[metric], 4, "")
            record[f"{metric}_low"] = number(intervals[metric].low, 4, "")
            record[f"{metric}_high"] = number(intervals[metric].high, 4, "")
            record[f"{metric}_sd"] = number(sd[metric], 4, "")
        record |= {count: str(value) for count, value in zip(COUNTS, n, strict=True)}
        record |= {f"speakers_{c[2:]}": str(value) for c, value in zip(COUNTS, speakers, strict=True)}
        records.append(record)
    own = [
        "Each group is resampled over its own speakers. Within one country, UAR is the recall of that country. Bands "
        "include their lower edge.",
    ]
    if snr is None:
        own.append("No noise levels: the stage that estimates the SNR (denoised) is not used.")
    else:
        own.append("Noise level: SNR of the clip before denoising, estimated by the denoiser.")
    return Sheet(
        "Groups of clips on validation", [Grid(header, lines)], [*own, *notes], list(records[0]), records
    )


def _groups(labels: Labels, snr: Mapping[str, float] | None) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield kind, name and rows of every group that has clips."""
    yield "all", "all", np.arange(len(labels))
    for index, country in enumerate(labels.countries):
        if (rows := np.flatnonzero(labels.country == index)).size:
            yield "country", country.name, rows
    for name, inside in _bands(labels.age, AGE_EDGES, "years"):
        yield "age", name, inside
    if snr is not None:
        level = np.array([snr.get(clip_id, np.nan) for clip_id in labels.clip_id.tolist()], dtype=float)
        for name, inside in _bands(level, SNR_EDGES, "dB"):
            yield "SNR", name, inside
        if (rows := np.flatnonzero(np.isnan(level))).size:
            yield "SNR", "not measured", rows


def _bands(values: np.ndarray, edges: Sequence[float], unit: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and rows of every band that has clips."""
    for low, high in pairwise((*edges, np.inf)):
        rows = np.flatnonzero((values >= low) & (values < high))
        if not len(rows):
            continue
        if high == np.inf:
            yield f"{low:g} {unit} and over", rows
        else:
            yield f"below {high:g} {unit}" if low == edges[0] else f"{low:g} to {high:g} {unit}", rows
