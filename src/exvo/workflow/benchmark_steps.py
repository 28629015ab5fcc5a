"""The steps of a run and the benchmark files of their jobs. Imports nothing heavy, as the Snakefile reads it."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from exvo.workflow.feature_fusion_plan import FeatureFusionPlan
from exvo.workflow.plan import Plan
from exvo.workflow.pretrain_plan import PretrainPlan
from exvo.workflow.systems import System

PRETRAINED = PurePosixPath("results/pretrain")


def benchmark_steps(plan: Plan) -> dict[str, list[str]]:
    """Return, by step, the benchmarks of the jobs behind the report.

    Returns
    -------
    dict of str to list of str
        Paths below ``results/benchmarks``, without their endings, for the jobs of this config only.
    """
    shards, systems = plan.shard_names(), [plan.systems[name] for name in plan.compared_systems()]
    fused = FeatureFusionPlan(plan)
    steps = {
        f"audio, {stage}": [f"audio/{stage}/{shard}" for shard in shards] for stage in plan.used_stages()
    }
    steps["counting broken clips"] = _benchmarks(plan.check(system.name) for system in systems)
    for system in systems:
        steps |= _pretraining(plan, system)
    for system in systems:
        steps |= _features(plan, plan.feature_files(system.name), system)
    for system in systems:
        steps[f"training, {system.name}"] = [f"models/{system.name}/{seed}" for seed in plan.seeds()]
    vectors = [
        path
        for fusion in fused.fusions
        for seed in plan.seeds()
        for path in fused.vectors(fusion, seed, "npy")
    ]
    if vectors:
        steps["utterance embeddings"] = _benchmarks(vectors)
    for fusion in fused.fusions:
        steps[f"training, {fusion}"] = [f"fusion/{fusion}/{seed}" for seed in plan.seeds()]
    drawn = [system.name for system in systems if system.name in plan.strf_systems()]
    if drawn:
        steps["STRF figures"] = [f"figures/strf/{name}_{plan.seeds()[0]}" for name in drawn]
    return steps | {"quality": ["quality"], "fusion, scores, tables": ["fusion"]}


def _features(plan: Plan, files: list[str], system: System) -> dict[str, list[str]]:
    """Return the steps that make the features of a system; ``files`` are those of its own stage."""
    folder = PurePosixPath(files[0]).parent
    step = f"{folder.parent.name}, {folder.name}"
    steps = {step: _benchmarks(files)}
    if statistics := plan.statistics(system.name):
        steps[f"{system.feature} statistics, {system.stage}"] = _benchmarks(statistics)
    if perturbed := plan.perturbed(system.name):
        features = _benchmarks(perturbed)
        audio = [f"audio/{path.parent.name}/{path.name}" for path in map(PurePosixPath, features)]
        steps[f"audio, {system.stage} at other speeds"] = audio
        steps[f"{step} at other speeds"] = features
    return steps


def _pretraining(plan: Plan, system: System) -> dict[str, list[str]]:
    """Return the steps that make the encoder of a system, if this run pre-trains it."""
    options = system.feature_config
    if options.get("source") != "checkpoint" or options["checkpoint"] is None:
        return {}
    # The folder, or the weights in it.
    path = PurePosixPath(str(options["checkpoint"]))
    name = next((p.name for p in (path, path.parent) if p.parent == PRETRAINED), None)
    pretrain = PretrainPlan(plan)
    return _encoder(pretrain, name) if name is not None and name in pretrain.models else {}


def _encoder(pretrain: PretrainPlan, name: str) -> dict[str, list[str]]:
    """Return the steps that make an encoder, with those of the encoders that it needs."""
    entry, shards = pretrain.models[name], pretrain.plan.shard_names()
    steps: dict[str, list[str]] = {}
    for target in entry["targets"]:
        if pretrain.clusters[target]["of"] == "hidden":
            steps |= _encoder(pretrain, pretrain.clusters[target]["model"])
        steps[f"clusters, {target}"] = [f"clusters/{target}/{part}" for part in ("clusters", *shards)]
    if entry["start"] is not None:
        steps |= _encoder(pretrain, entry["start"])
    for files in (pretrain.logmel("npy"), pretrain.inputs(name, "npy")):
        folder = PurePosixPath(files[0]).parent
        steps[f"{folder.parent.name}, {folder.name}"] = _benchmarks(files)
    return steps | {f"pre-training, {name}": [f"pretrain/{name}"]}


def _benchmarks(files: Iterable[str]) -> list[str]:
    """Return the benchmarks of the jobs that make some files, each once."""
    paths = (PurePosixPath(path).relative_to("results").with_suffix("") for path in files)
    return list(dict.fromkeys(str(path) for path in paths))
