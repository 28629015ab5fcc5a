"""Values of ``fusion.json`` as the cells of `exvo.report.tables.sheet`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from exvo.evaluation.intervals import Difference, Interval
from exvo.report.tables.sheet import DASH, estimate, number
from exvo.report.tables.systems_layout import PLACES


def submitted_candidate(selection: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the candidate that was submitted."""
    return next(c for c in selection["candidates"] if c["name"] == selection["submitted"])


def plain(value: float | None, places: int = 3) -> str:
    """Return a number with a fixed number of decimals, a dash where it is missing."""
    return number(np.nan if value is None else value, places, DASH)


def interval(record: Mapping[str, Any] | None) -> Interval | None:
    """Return an interval written by `exvo.fusion.selection.interval_json`."""
    if record is None:
        return None
    high = np.nan if record["high"] is None else record["high"]
    # An upper limit without a lower one: the metric was undefined in many resamples.
    low = record["low"] if record["low"] is not None else (-np.inf if np.isfinite(high) else np.nan)
    return Interval(low, high, record["n_speakers"], record["n_undefined"])


def difference(record: Mapping[str, float | None]) -> Difference:
    """Return a difference written by `exvo.fusion.selection.difference_json`."""
    return Difference(**{name: np.nan if value is None else value for name, value in record.items()})


def cell(
    metric: str,
    scores: Mapping[str, Any],
    intervals: Mapping[str, Any],
    sd: Mapping[str, float | None] | None = None,
) -> str:
    """Return a score with its interval and its SD over seeds, where they are known."""
    value, over_seeds = scores[metric], (sd or {}).get(metric)
    return estimate(
        np.nan if value is None else value,
        PLACES[metric],
        interval(intervals[metric]),
        np.nan if over_seeds is None else over_seeds,
    )


def counts(scores: Mapping[str, Any], intervals: Mapping[str, Any]) -> tuple[str, str]:
    """Return the numbers of scored clips and speakers: country / age / emotion."""
    clips = " / ".join(f"{scores[count]:,}" for count in ("n_country", "n_age", "n_emotion"))
    return clips, " / ".join(f"{intervals[metric]['n_speakers']:,}" for metric in ("uar", "mae", "ccc"))
