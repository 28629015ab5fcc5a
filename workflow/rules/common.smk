import gc
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# A plan has millions of small objects that all stay. With Python's default, a collection after every 700 new objects,
# garbage collection takes a tenth of the time of a call.
gc.set_threshold(100_000)

# Use the library of the checkout, even if none is installed (conda).
SOURCE = Path(workflow.basedir).parent / "src"
sys.path.insert(0, str(SOURCE))

from exvo.workflow.config import check_config, complete
from exvo.corpus.errors import CorpusError
from exvo.util.code_digest import code_digest
from exvo.workflow.jobs import lend_to_scripts
from exvo.workflow.params import as_param
from exvo.workflow.plan import Plan
from exvo.workflow.renamed import refuse_old_names
from exvo.workflow.benchmark_steps import benchmark_steps
from exvo.util.yaml_schema import read_schema
from exvo.workflow.training_settings import checked_training

lend_to_scripts(SOURCE)

SCHEMA_FILE = Path(workflow.basedir, "schemas/config.schema.yaml")
SCHEMA = read_schema(SCHEMA_FILE)
try:
    refuse_old_names(config)
    config = complete(config, SCHEMA)
    check_config(config, SCHEMA)
    PLAN = Plan(checked_training(config, SCHEMA))
    if workflow.is_main_process:
        FINDINGS = PLAN.check_sources()
except CorpusError as error:
    raise WorkflowError(str(error))

# Exclude all present objects from garbage collection, also from the collections at the end of Python.
gc.freeze()

if workflow.is_main_process:
    for notice in [*PLAN.notices, *FINDINGS]:
        logger.warning(f"Notice: {notice}.")


wildcard_constraints:
    shard=r"\d{4}",
    # A stage, or the training clips of a stage at another speed.
    stage=r"(baseline|raw|dc|denoised|vad)(@\d\.\d+)?",
    feature=r"(opensmile|logmel|hubert)(-[A-Za-z0-9]+)*(_frontend)?",
    seed=r"\d+",


def shards(pattern, **wildcards):
    """Return the files of a pattern for every shard that has clips."""
    return expand(pattern, shard=PLAN.shard_names(), **wildcards)


def system_predictions(names, split):
    """Return the prediction files of some systems, for every seed."""
    return expand(
        "results/models/{system}/{seed}/{split}.parquet", system=names, seed=PLAN.seeds(), split=split
    )


def feature_fusion_predictions(split):
    """Return the prediction files of the feature fusions, for every seed."""
    return expand(
        "results/fusion/{fusion}/{seed}/{split}.parquet",
        fusion=PLAN.feature_fusions(),
        seed=PLAN.seeds(),
        split=split,
    )


def names_pattern(names):
    """Return a pattern that matches some names and nothing else; it matches nothing if there are no names."""
    return "|".join(map(re.escape, names)) if names else r"(?!)"


def growing(amount):
    """Return a resource that grows with each attempt of a job: once, twice, and so on (profiles/slurm)."""
    return lambda wildcards, attempt: attempt * amount
