"""The steps of a run and the benchmarks that Snakemake writes of their jobs; read with the Snakefile, so light."""

from exvo.joint_plan import JointPlan
from exvo.plan import Plan
from exvo.systems import SPEEDS


def benchmark_steps(plan: Plan) -> dict[str, list[str]]:
    """Return, by step, the benchmarks of the jobs that the report rests on.

    Returns
    -------
    dict of str to list of str
        Paths below ``results/benchmarks``, without their ending: those of this config, whatever older ones are there.
    """
    shards, systems = plan.shard_names(), [plan.systems[name] for name in plan.compared_systems()]
    steps = {
        f"audio, {stage}": [f"audio/{stage}/{shard}" for shard in shards] for stage in plan.used_stages()
    }
    for system in systems:
        feature, stage = system.feature, system.stage
        steps[f"{feature}, {stage}"] = [f"features/{feature}/{stage}/{shard}" for shard in shards]
        if system.training.get("speed_perturbation"):
            derived = [f"{stage}@{speed}/{shard}" for speed in SPEEDS for shard in shards]
            steps[f"audio, {stage} at other speeds"] = [f"audio/{name}" for name in derived]
            steps[f"{feature}, {stage} at other speeds"] = [f"features/{feature}/{name}" for name in derived]
    for system in systems:
        steps[f"training, {system.name}"] = [f"models/{system.name}/{seed}" for seed in plan.seeds()]
    joint = JointPlan(plan)
    read = [
        path.removeprefix("results/").removesuffix(".npy")
        for fusion in joint.fusions
        for seed in plan.seeds()
        for path in joint.vectors(fusion, seed, "npy")
    ]
    if read:
        steps["representations"] = list(dict.fromkeys(read))
    for fusion in joint.fusions:
        steps[f"training, {fusion}"] = [f"fusion/{fusion}/{seed}" for seed in plan.seeds()]
    return steps | {"quality": ["quality"], "fusion, scores, tables": ["fusion"]}
