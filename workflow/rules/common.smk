import os
import re
import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import validate

# The library is used from the checkout, here and in the jobs, also where it is not installed (conda).
SOURCE = os.path.join(workflow.basedir, "src")
sys.path.insert(0, SOURCE)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))

import yaml

from exvo.config import with_types
from exvo.corpus.table import CorpusError
from exvo.plan import MADE_FROM, Plan

SCHEMA = os.path.join(workflow.basedir, "workflow/schemas/config.schema.yaml")
with open(SCHEMA) as file:
    config = with_types(config, yaml.safe_load(file))
validate(config, SCHEMA)
try:
    PLAN = Plan(config)
except CorpusError as error:
    raise WorkflowError(str(error))

if workflow.is_main_process:
    for notice in PLAN.notices:
        logger.warning(f"Notice: {notice}.")


wildcard_constraints:
    shard=r"\d{4}",
    stage=r"baseline|raw|dc|denoised|vad",
    feature=r"compare|logmel",
    seed=r"\d+",


def shards(pattern, **wildcards):
    """Return the files of a pattern for every shard that has clips."""
    return expand(pattern, shard=PLAN.shard_names(), **wildcards)


def system_predictions(names, split):
    """Return the files of predictions of some systems, every seed of each."""
    return expand("results/models/{system}/{seed}/" + split + ".parquet", system=names, seed=PLAN.seeds())


def names_pattern(names):
    """Return a pattern that matches some names and nothing else; none of them matches where there are none."""
    return "|".join(map(re.escape, names)) if names else r"(?!)"
