"""Check the section ``training`` of systems and feature fusions against the schema of their encoders.

The schema of an entry of ``systems`` has no types for ``training``, because they depend on the entry's encoder. Without
this check, only the training would find an invalid value, hours later.
"""

from collections.abc import Mapping
from typing import Any

from exvo.workflow.config import check_config, complete
from exvo.workflow.systems import merged


def checked_training(config: Mapping, schema: Mapping) -> dict[str, Any]:
    """Return a config in which ``training`` of every system and fusion fits the schema of its encoder.

    Parameters
    ----------
    config : mapping
        Complete, and valid except for these sections.
    schema : mapping
        Schema of the config; ``$defs`` has the encoders, and ``feature_fusion`` for the fusions.

    Returns
    -------
    dict
        The config with texts read as the schema's types; no key is added.

    Raises
    ------
    CorpusError
        If a key is unknown or a value invalid.
    """
    definitions = schema["$defs"]
    settings = {**config["encoders"], "feature_fusion": config["feature_fusion"]}

    def checked(section: str, name: str, entry: Mapping | None, kind: str) -> Mapping | None:
        if not entry or not entry["training"]:
            return entry
        where = f"{section}.{name}.training"
        changes = complete(entry["training"], definitions[kind], definitions, defaults=False)
        check_config(
            merged(settings[kind], changes, where), {"$ref": f"#/$defs/{kind}", "$defs": definitions}, where
        )
        return {**entry, "training": changes}

    systems = {
        name: checked("systems", name, entry, entry["encoder"] if entry else "")
        for name, entry in config["systems"].items()
    }
    # Only feature fusions are trained; `exvo.workflow.fusion_plan` refuses `training` in the others.
    fusions = {
        name: checked("fusions", name, entry, "feature_fusion")
        if entry and entry["rule"] == "feature_fusion"
        else entry
        for name, entry in config["fusions"].items()
    }
    return {**config, "systems": systems, "fusions": fusions}
