"""The fusions and the rows of tables of a config that a corpus allows."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from exvo.corpus.errors import CorpusError
from exvo.workflow.systems import System, merged

# The submission that is the fusion or single system with the best score on the validation set.
BEST = "best"


def possible_fusions(
    config: Mapping, systems: Mapping[str, System]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the fusions that the corpus allows, and notices for the others.

    Parameters
    ----------
    config : mapping
    systems : mapping of str to System
        Systems that the corpus allows.

    Returns
    -------
    fusions : dict of str to dict
        Entries of the config by name, with the systems that the corpus allows. ``training`` of a feature fusion has all
        settings.
    notices : list of str

    Raises
    ------
    CorpusError
        If an entry is invalid, the submission is left out, or no fusion is left.
    """
    submission = config["submission"]
    notices: list[str] = []
    fusions: dict[str, dict[str, Any]] = {}
    named = {name: entry for name, entry in config["fusions"].items() if entry is not None}
    if submission not in (BEST, *named):
        raise CorpusError(
            f"config: submission names {submission}, but the fusions are: {', '.join(named)}; or say {BEST}"
        )
    for name, entry in named.items():
        _check_entry(config, name, entry)
        left = available(config, systems, entry["systems"], f"fusions.{name}.systems")
        why = _missing(entry, left, systems)
        if why is None:
            fusions[name] = _completed(config, name, {**entry, "systems": left}, systems)
        elif submission == name:
            raise CorpusError(f"config: submission names the fusion {name}, but the corpus allows {why}")
        else:
            notices.append(f"fusion {name} is left out: the corpus allows {why}")
    if not fusions:
        raise CorpusError("config: the corpus allows none of the fusions; name systems that it allows")
    return fusions, notices


def possible_tables(config: Mapping, systems: Collection[str]) -> dict[str, dict[str, str]]:
    """Return, by table, the system of each row that the corpus allows; empty tables are left out.

    Raises
    ------
    CorpusError
        If a row names a system that does not exist.
    """
    tables = {}
    for table, rows in config["tables"].items():
        named = {row: name for row, name in (rows or {}).items() if name}
        left = available(config, systems, list(named.values()), f"tables.{table}")
        tables[table] = {row: name for row, name in named.items() if name in left}
    return {table: rows for table, rows in tables.items() if rows}


def available(config: Mapping, systems: Collection[str], names: Sequence[str], key: str) -> list[str]:
    """Return the names of systems that the corpus allows.

    Parameters
    ----------
    config : mapping
    systems : collection of str
        All systems that the corpus allows.
    names : sequence of str
    key : str
        Place of the names in the config, for the message.

    Raises
    ------
    CorpusError
        If a name is not in ``systems`` of the config.
    """
    unknown = [name for name in names if name not in config["systems"]]
    if unknown:
        known = ", ".join(config["systems"])
        raise CorpusError(f"config: {key} names {', '.join(unknown)}, but the systems are: {known}")
    return [name for name in names if name in systems]


def _check_entry(config: Mapping, name: str, entry: Mapping) -> None:
    where = f"config: fusions.{name}"
    if name == BEST or name in config["systems"]:
        raise CorpusError(f"{where}: {BEST} and the names of systems are taken; choose another name")
    source = entry.get("emotion_from")
    if source is not None and source not in entry["systems"]:
        raise CorpusError(f"{where}.emotion_from names {source}, which is not in its systems")
    if entry.get("training") and entry.get("rule") != "feature_fusion":
        raise CorpusError(
            f"{where}.training: only a feature fusion is trained; remove it, or set rule to feature_fusion"
        )


def _missing(entry: Mapping, left: Sequence[str], systems: Mapping[str, System]) -> str | None:
    """Return what the corpus allows of a fusion if that is too little; None if it is enough."""
    if not left:
        return "none of its systems"
    if entry.get("rule") == "feature_fusion":
        if len(left) < 2:
            return f"only {left[0]} of its systems, and a feature fusion needs two"
        features = {(systems[name].feature, systems[name].stage) for name in left}
        if entry["inputs"] == "features" and len(features) < 2:
            return "only one feature among its systems, and a feature fusion needs two"
    source = entry.get("emotion_from")
    return None if source in (None, *left) else f"not {source}, its system for emotion"


def _completed(
    config: Mapping, name: str, entry: dict[str, Any], systems: Mapping[str, System]
) -> dict[str, Any]:
    """Return the entry of a fusion with all settings of its training."""
    where = f"fusions.{name}"
    if entry.get("rule") == "feature_fusion":
        return entry | {"training": merged(config["feature_fusion"], entry["training"], f"{where}.training")}
    source = entry.get("emotion_from") or entry["systems"][0]
    if entry.get("rule") == "paper" and "emotion" not in systems[source].tasks:
        raise CorpusError(
            f"config: emotion would come from {source}, which does not predict it; set {where}.emotion_from to a"
            f" system of {where}.systems that does"
        )
    return entry
