"""What the submission is made of, and the weights of systems."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from exvo.report.page.drawing import GREY, TASK_COLOURS, picture
from exvo.report.page.parts import Picture, Section, Table, Words, without_folders
from exvo.report.page.record import cell, plain, submitted_candidate
from exvo.report.tables.sheet import DASH, Grid
from exvo.report.tables.systems_layout import PLACES

# Rules that give systems parts of their own, learned on Val.
LEARNED = ("weighted", "stacked", "per_task")


def fusion_section(record: Mapping[str, Any]) -> Section:
    """Show what the submission is made of: each system's part in each task.

    Of a submission without weights, a single system or a feature fusion, the weights of the best fusion that has learned
    some are drawn in its place.
    """
    lead = "What each system contributes to the submission, task by task."
    name, tasks = record["selection"]["submitted"], record["tasks"]
    parts: list = [
        Words(f"No system predicts {task}, so there is nothing to combine.")
        for task, entry in tasks.items()
        if entry["chosen_by"] == "none"
    ]
    if record["kind"] == "system":
        parts.append(Words(f"{name} is a single system: there are no weights to show."))
    elif record["feature_fusion"]:
        parts.append(Words(_joint(name, record["feature_fusion"], list(record["systems"]))))
    drawn = _drawn(record)
    if drawn is not None:
        parts.append(_weights(drawn["name"], list(drawn["systems"]), drawn["tasks"], drawn["name"] == name))
    parts.append(_table(record))
    parts += [Words(f"{without_folders(note)}.") for note in record["notes"]]
    return Section("fusion", "Fusion", lead, parts)


def _drawn(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the fusion whose weights are drawn, None where there is none of several systems."""
    if record["kind"] == "fusion" and not record["feature_fusion"]:
        found = record
    else:
        order = [c["name"] for c in record["selection"]["candidates"] if c["rule"] in LEARNED]
        found = next((record["fusions"][name] for name in order), None)
    if found is None or len(found["systems"]) == 1:
        return None
    tasks = {task: entry for task, entry in found["tasks"].items() if entry["chosen_by"] != "none"}
    return {"name": found["name"], "systems": found["systems"], "tasks": tasks} if tasks else None


def _table(record: Mapping[str, Any]) -> Table:
    """Say how each task is combined, and what it scores beside the Train prior."""
    submitted = submitted_candidate(record["selection"])
    rows = []
    for task, entry in record["tasks"].items():
        metric = entry["metric"]
        said = [f"{key} {entry[key]}" for key in ("model", "penalty", "inputs") if key in entry]
        if "train_prior" in entry:
            prior = entry["train_prior"]
            said.append(f"Train prior ({prior['years']:g} years) {prior['weight']:.2f}")
        rows.append(
            [
                task,
                entry.get("rule", record["rule"]).replace("_", " "),
                ", ".join(said) or DASH,
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
        "on what it learned from",
        "out-of-fold",
        "Train prior alone",
        "clips",
        "speakers",
    ]
    note = (
        "Train prior alone: what a constant scores, Train's median age, mean emotions and most frequent country. What "
        "learns on validation may lean on that age by the weight under `combiner`."
    )
    return Table("How each task is combined", [Grid(header, rows)], [note])


def _joint(name: str, joint: Mapping[str, Any], systems: Sequence[str]) -> str:
    read = {
        "pooled": "what their heads read of a clip",
        "features": "their features, each clip as a whole",
    }[joint["inputs"]]
    return (
        f"{name} is a model of its own, trained on Train with {joint['n_seeds']} seeds on representations by "
        f"{', '.join(systems)}: {read}. It has no weights of systems to show; its answers are its seeds' mean."
    )


def _weights(
    name: str, systems: Sequence[str], tasks: Mapping[str, Mapping[str, Any]], is_submitted: bool
) -> Picture:
    leaning = any("train_prior" in entry for entry in tasks.values())
    labels = [*systems, *(["Train prior (age alone)"] if leaning else [])]

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

    chosen = "" if is_submitted else "The best fusion that learned weights, since the submission has none. "
    return picture(
        "Parts of the systems" if is_submitted else f"Parts of the systems in {name}, which is not submitted",
        f"Bars: the part of {len(systems)} systems in each task of {name}.",
        f"{chosen}Weights of an average add to one; shares of a trained combiner are its absolute standardised "
        "coefficients, added up by system. A system with a small part may still be good by itself, where others say "
        "the same.",
        (10.5, 0.26 * len(labels) + 0.9),
        paint,
    )
