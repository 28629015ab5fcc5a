"""How the submission combines the systems: rules and weights."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from exvo.report.page.drawing import GREY, TASK_COLOURS, picture
from exvo.report.page.parts import Part, Picture, Section, Table, Words, without_folders
from exvo.report.page.record import cell, plain, submitted_candidate
from exvo.report.tables.sheet import DASH, Grid
from exvo.report.tables.systems_layout import PLACES

# Rules with weights or shares fitted on Val.
FITTED = ("weighted", "stacked", "per_task")


def fusion_section(record: Mapping[str, Any]) -> Section:
    """Show the weight of each system in each task of the submission.

    A single system and a feature fusion have no weights; the best fusion with fitted weights is drawn instead.
    """
    lead = "The contribution of each system to the submission, task by task."
    name, tasks = record["selection"]["submitted"], record["tasks"]
    parts: list[Part] = [
        Words(f"No system predicts {task}.") for task, entry in tasks.items() if entry["chosen_by"] == "none"
    ]
    if record["kind"] == "system":
        parts.append(Words(f"{name} is a single system and has no weights."))
    elif record["feature_fusion"]:
        parts.append(Words(_feature_fusion(name, record["feature_fusion"], list(record["systems"]))))
    drawn = _drawn(record)
    if drawn is not None:
        parts.append(_weights(drawn["name"], list(drawn["systems"]), drawn["tasks"], drawn["name"] == name))
    parts.append(_table(record))
    parts += [Words(f"{without_folders(note)}.") for note in record["notes"]]
    return Section("fusion", "Fusion", lead, parts)


def _drawn(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the fusion whose weights are drawn, None where none combines several systems."""
    found: Mapping[str, Any] | None
    if record["kind"] == "fusion" and not record["feature_fusion"]:
        found = record
    else:
        order = [c["name"] for c in record["selection"]["candidates"] if c["rule"] in FITTED]
        found = record["fusions"][order[0]] if order else None
    if found is None or len(found["systems"]) == 1:
        return None
    tasks = {task: entry for task, entry in found["tasks"].items() if entry["chosen_by"] != "none"}
    return {"name": found["name"], "systems": found["systems"], "tasks": tasks} if tasks else None


def _table(record: Mapping[str, Any]) -> Table:
    """Lay out how each task is combined, its scores, and those of the Train prior."""
    submitted = submitted_candidate(record["selection"])
    rows = []
    for task, entry in record["tasks"].items():
        metric = entry["metric"]
        combiner = [f"{key} {entry[key]}" for key in ("model", "penalty", "inputs") if key in entry]
        if "train_prior" in entry:
            prior = entry["train_prior"]
            combiner.append(f"Train prior ({prior['years']:g} years) {prior['weight']:.2f}")
        rows.append(
            [
                task,
                entry.get("rule", record["rule"]).replace("_", " "),
                ", ".join(combiner) or DASH,
                entry["chosen_by"],
                metric.upper(),
                cell(metric, record["val"], record["val_intervals"]),
                cell(metric, submitted["out_of_fold_val"], submitted["intervals"], submitted["sd"]),
                plain(record["train_prior"][metric], PLACES[metric]),
                f"{entry['n_clips']:,}",
                f"{entry['n_speakers']:,}",
            ]
        )
    header = [
        "task",
        "rule",
        "combiner",
        "chosen by",
        "metric",
        "in-sample",
        "out-of-fold",
        "Train prior alone",
        "clips",
        "speakers",
    ]
    note = (
        "In-sample: scored on the clips that the rule was fitted on. Train prior alone: the constant median age, mean "
        "emotions and most frequent country of Train. Rules fitted on validation may give weight to the prior of age; "
        "the weight is in the column 'combiner'."
    )
    return Table("How each task is combined", [Grid(header, rows)], [note])


def _feature_fusion(name: str, fusion: Mapping[str, Any], systems: Sequence[str]) -> str:
    read = {"embeddings": "utterance embeddings", "features": "features"}[fusion["inputs"]]
    return (
        f"{name} is a network that was trained on Train with {fusion['n_seeds']} seeds. It reads the {read} of "
        f"{', '.join(systems)}. It has no weights per system; its predictions are averaged over its seeds."
    )


def _weights(
    name: str, systems: Sequence[str], tasks: Mapping[str, Mapping[str, Any]], is_submitted: bool
) -> Picture:
    has_prior = any("train_prior" in entry for entry in tasks.values())
    labels = [*systems, *(["Train prior (age only)"] if has_prior else [])]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(tasks), sharey=True, sharex=True, squeeze=False)[0]
        for axes, (task, entry) in zip(panels, tasks.items(), strict=True):
            parts = entry.get("weights") or entry["shares"]
            values = [parts.get(system, 0.0) for system in systems]
            values += [entry["train_prior"]["weight"]] if "train_prior" in entry else []
            axes.barh(range(len(values)), values, color=TASK_COLOURS[task], height=0.65)
            for row, value in enumerate(values):
                axes.text(value + 0.01, row, f"{value:.2f}", va="center", fontsize=8, color=GREY)
            axes.set_title(f"{task}: {'weights' if 'weights' in entry else 'shares'}", loc="left")
            axes.grid(True, axis="x")
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].invert_yaxis()
        panels[0].set_xlim(0, min(1.0, panels[0].get_xlim()[1]) * 1.15)

    chosen = "" if is_submitted else "The best fusion with fitted weights, because the submission has none. "
    return picture(
        "Weights of the systems"
        if is_submitted
        else f"Weights of the systems in {name}, which is not submitted",
        f"Bars: the weight of {len(systems)} systems in each task of {name}.",
        f"{chosen}Weights of an average sum to one. Shares of a trained combiner are sums of its absolute standardised "
        "coefficients by system. A good system may have a small weight where its predictions are correlated with those "
        "of others.",
        (10.5, 0.26 * len(labels) + 0.9),
        paint,
    )
