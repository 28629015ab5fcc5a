"""What systems and feature fusions change of the settings of their encoders, read and checked by the schema.

The schema of an entry of ``systems`` cannot say of what its ``training`` is: that depends on the entry's encoder. A
value that does not fit would be found by the training alone, hours later.
"""

from collections.abc import Mapping

from exvo.workflow.config import check_config, complete
from exvo.workflow.systems import merged


def checked_training(config: Mapping, schema: Mapping) -> dict:
    """Return a config whose ``training`` of every system and fusion holds what the encoder's schema wants.

    Parameters
    ----------
    config : mapping
        Completed, and valid but for these.
    schema : mapping
        Of the whole config; ``$defs`` has the encoders, and ``feature_fusion`` for the fusions.

    Returns
    -------
    dict
        Texts are read as the schema wants them; nothing is added.

    Raises
    ------
    CorpusError
        Where a key is unknown or a value does not fit.
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
    # Of the fusions only joint ones are trained; `exvo.workflow.fusion_plan` refuses `training` in the others.
    fusions = {
        name: checked("fusions", name, entry, "feature_fusion")
        if entry and entry["rule"] == "feature_fusion"
        else entry
        for name, entry in config["fusions"].items()
    }
    return {**config, "systems": systems, "fusions": fusions}
