"""Which fusions and which rows of tables of a config a corpus allows: what the last rules are told."""

from collections.abc import Collection, Mapping, Sequence

from exvo.corpus.table import CorpusError
from exvo.workflow.systems import System, merged

# As a submission: the fusion or single system that does best on Val.
BEST = "best"


def possible_fusions(
    config: Mapping, systems: Mapping[str, System]
) -> tuple[dict[str, dict[str, object]], list[str]]:
    """Return the fusions that the corpus allows, and notices of those that it does not.

    Parameters
    ----------
    config : mapping
    systems : mapping of str to System
        Those that the corpus allows.

    Returns
    -------
    fusions : dict of str to dict
        Entries of the config by name, their systems as far as the corpus allows them; of a feature fusion, ``training``
        is whole.
    notices : list of str

    Raises
    ------
    CorpusError
        Where an entry cannot be meant so, the submission is left out, or no fusion is left.
    """
    wish, notices = config["submission"], []
    fusions: dict[str, dict[str, object]] = {}
    named = {name: entry for name, entry in config["fusions"].items() if entry is not None}
    if wish not in (BEST, *named):
        raise CorpusError(
            f"config: submission names {wish}, but the fusions are: {', '.join(named)}; or say {BEST}"
        )
    for name, entry in named.items():
        _check_entry(config, name, entry)
        left = available(config, systems, entry["systems"], f"fusions.{name}.systems")
        why = _missing(entry, left, systems)
        if why is None:
            fusions[name] = _whole(config, name, {**entry, "systems": left}, systems)
        elif wish == name:
            raise CorpusError(f"config: submission names the fusion {name}, but the corpus allows {why}")
        else:
            notices.append(f"fusion {name} is left out: the corpus allows {why}")
    if not fusions:
        raise CorpusError("config: the corpus allows none of the fusions; name systems that it can have")
    return fusions, notices


def possible_tables(config: Mapping, systems: Collection[str]) -> dict[str, dict[str, str]]:
    """Return, by table, the system of each row, as far as the corpus allows them; empty tables are left out.

    Raises
    ------
    CorpusError
        Where a row names a system that is not there.
    """
    tables = {}
    for table, rows in config["tables"].items():
        named = {row: name for row, name in (rows or {}).items() if name}
        left = available(config, systems, list(named.values()), f"tables.{table}")
        tables[table] = {row: name for row, name in named.items() if name in left}
    return {table: rows for table, rows in tables.items() if rows}


def available(config: Mapping, systems: Collection[str], names: Sequence[str], key: str) -> list[str]:
    """Return those of some names of systems that the corpus allows.

    Parameters
    ----------
    config : mapping
    systems : collection of str
        Those that the corpus allows.
    names : sequence of str
    key : str
        Where in the config they stand, for the message.

    Raises
    ------
    CorpusError
        Where a name is in no entry of ``systems``.
    """
    unknown = [name for name in names if name not in config["systems"]]
    if unknown:
        known = ", ".join(config["systems"])
        raise CorpusError(f"config: {key} names {', '.join(unknown)}, but the systems are: {known}")
    return [name for name in names if name in systems]


def _check_entry(config: Mapping, name: str, entry: Mapping) -> None:
    where = f"config: fusions.{name}"
    if name == BEST or name in config["systems"]:
        raise CorpusError(f"{where}: {BEST} and the names of systems mean something else; call it otherwise")
    source = entry.get("emotion_from")
    if source is not None and source not in entry["systems"]:
        raise CorpusError(f"{where}.emotion_from names {source}, which is not in its systems")
    if entry.get("training") and entry.get("rule") != "feature_fusion":
        raise CorpusError(
            f"{where}.training: only a feature fusion is trained; take it out, or set rule to feature_fusion"
        )


def _missing(entry: Mapping, left: Sequence[str], systems: Mapping[str, System]) -> str | None:
    """Return what the corpus allows of a fusion where that is too little; None where it is enough."""
    if not left:
        return "none of its systems"
    if entry.get("rule") == "feature_fusion":
        if len(left) < 2:
            return f"only {left[0]} of its systems, and a feature fusion needs two"
        read = {(systems[name].feature, systems[name].stage) for name in left}
        if entry["inputs"] == "features" and len(read) < 2:
            return "only one feature among its systems, and a feature fusion needs two"
    source = entry.get("emotion_from")
    return None if source in (None, *left) else f"not {source}, which gives its emotion"


def _whole(
    config: Mapping, name: str, entry: dict[str, object], systems: Mapping[str, System]
) -> dict[str, object]:
    where = f"fusions.{name}"
    if entry.get("rule") == "feature_fusion":
        return entry | {"training": merged(config["feature_fusion"], entry["training"], f"{where}.training")}
    giving = entry.get("emotion_from") or entry["systems"][0]
    if entry.get("rule") == "paper" and "emotion" not in systems[giving].tasks:
        raise CorpusError(
            f"config: emotion would come from {giving}, which does not predict it; set {where}.emotion_from to a"
            f" system of {where}.systems that does"
        )
    return entry
