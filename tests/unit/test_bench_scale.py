"""The cost of runs against clips, and its projection to more cores, on made-up runs whose answers are known."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COLUMNS = (
    "s",
    "h:m:s",
    "max_rss",
    "max_vms",
    "max_uss",
    "max_pss",
    "io_in",
    "io_out",
    "mean_load",
    "cpu_time",
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


class MadeUpRun:
    """A run whose files are written one by one."""

    def __init__(self, root: Path):
        self.root = root

    def shard(self, stage: str, shard: str, n_clips: int) -> None:
        path = self.root / "results/audio" / stage / f"{shard}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"clip_id": [f"{i:05d}" for i in range(n_clips)]}), path)

    def job(
        self, name: str, wall_s: float | str, cpu_s: float | str = 1.0, peak_mb: float | str = 100.0
    ) -> None:
        path = self.root / "results/benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = dict.fromkeys(COLUMNS, "-") | {"s": wall_s, "cpu_time": cpu_s, "max_rss": peak_mb}
        path.write_text("\t".join(COLUMNS) + "\n" + "\t".join(map(str, row.values())) + "\n")

    def trained(self, system: str, feature: str, stage: str) -> None:
        path = self.root / "results/models" / system / "0/config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"system": {"feature": feature, "stage": stage}}))


def of_size(root: Path, n_clips: int) -> MadeUpRun:
    """A run of two shards: decoding takes 2 s + 10 ms a clip, training 5 s + 1 ms a clip and 300 MB + 0.5 MB a clip."""
    run = MadeUpRun(root)
    for shard in ("0000", "0001"):
        run.shard("raw", shard, n_clips // 2)
        run.job(f"audio/raw/{shard}", 1 + 0.005 * n_clips, 1 + 0.005 * n_clips, 200)
    run.job("models/mlp-raw/0", 5 + 0.001 * n_clips, 5 + 0.001 * n_clips, 300 + 0.5 * n_clips)
    return run


def test_a_step_is_all_shards_of_a_stage_or_all_seeds_of_a_system(tmp_path):
    from scale_costs import read_run, step_costs

    of_size(tmp_path, 1000).job("audio/raw@0.9/0001", 3.0, "NA", "-")
    run = read_run(tmp_path)
    assert run.n_clips == 1000
    costs = step_costs(run)
    assert list(costs) == ["audio/raw", "audio/raw@0.9", "models/mlp-raw"]
    assert costs["audio/raw"] == {"jobs": 2, "clips": 1000, "wall_s": 12.0, "cpu_s": 12.0, "peak_mb": 200.0}
    # One shard of two has been perturbed so far, in too short a time to be measured.
    assert costs["audio/raw@0.9"]["clips"] == 500
    assert costs["audio/raw@0.9"]["cpu_s"] == 0.0 and costs["audio/raw@0.9"]["wall_s"] == 3.0
    assert costs["models/mlp-raw"]["clips"] == 1000


def test_the_line_of_cost_against_clips_is_found(tmp_path):
    from bench_scale import gather

    folders = [tmp_path / str(n) for n in (4000, 1000, 16000)]
    for folder in folders:
        of_size(folder, int(folder.name))
    found = gather(folders, 59_201, 32)
    assert [run["clips"] for run in found["runs"]] == [1000, 4000, 16000]
    decoding, training = found["lines"]["audio/raw"], found["lines"]["models/mlp-raw"]
    assert decoding["cpu_s"] == pytest.approx({"fixed": 2.0, "per_clip": 0.01})
    assert decoding["peak_mb"] == pytest.approx({"fixed": 200.0, "per_clip": 0.0}, abs=1e-9)
    assert training["wall_s"] == pytest.approx({"fixed": 5.0, "per_clip": 0.001})
    assert training["peak_mb"] == pytest.approx({"fixed": 300.0, "per_clip": 0.5})
    assert found["runs"][-1]["above_budget"] == ["models/mlp-raw"]
    # At 59,201 clips two decoding jobs on two threads take (2 + 592.01) / 2 s each, then training 64.201 s.
    chain_s, work_s = 594.01 / 2 + 64.201, 2 * 594.01 + 64.201
    for projection in found["projections"]:
        assert projection["chain_s"] == pytest.approx(chain_s)
        assert projection["work_s"] == pytest.approx(work_s)
        beside_s = work_s - 594.01 - 64.201
        assert projection["wall_s"] == pytest.approx(chain_s + beside_s / projection["cores"])
        assert projection["least_s"] == pytest.approx(max(chain_s, work_s / projection["cores"]))
    on_two, on_many = (projection["bottleneck"] for projection in found["projections"])
    assert on_two == "the work of all jobs, in it audio/raw (95%)"
    assert on_many == "the longest chain of jobs, in it audio/raw (82%)"


def test_one_size_gives_a_cost_a_clip_and_no_fixed_part(tmp_path):
    from bench_scale import gather

    of_size(tmp_path, 1000)
    assert gather([tmp_path], 1000, 32)["lines"]["audio/raw"]["cpu_s"] == {"fixed": 0.0, "per_clip": 0.012}


def test_jobs_wait_for_their_own_shard_and_training_for_the_shards_of_its_feature(tmp_path):
    from scale_costs import read_run
    from scale_graph import dependencies, longest_chain

    run = MadeUpRun(tmp_path)
    for shard in ("0000", "0001"):
        run.shard("raw", shard, 5)
        for name in (
            "audio/raw",
            "audio/dc",
            "audio/raw@0.9",
            "features/opensmile/dc",
            "features/logmel/raw@0.9",
        ):
            run.job(f"{name}/{shard}", 1.0)
        run.job(f"features/logmel/raw/{shard}", 4.0 if shard == "0001" else 1.0)
    run.trained("mlp-dc", "opensmile", "dc")
    run.trained("conformer-logmel", "logmel", "raw")
    singles = ("features/logmel/raw/statistics", "quality/check_raw", "quality", "fusion", "report")
    seeds = ("models/mlp-dc/0", "models/conformer-logmel/0", "models/unknown/0")
    later = (
        "utterance_embeddings/systems/mlp-dc/0",
        "utterance_embeddings/features/opensmile/dc",
        "fusion/feature-fusion/0",
    )
    for name in (*singles, *seeds, *later):
        run.job(name, 1.0)
    waits_for = {
        name: set(names) for name, names in dependencies(read_run(tmp_path), tmp_path / "results").items()
    }
    assert waits_for["audio/raw/0001"] == set()
    assert waits_for["audio/dc/0001"] == {"audio/raw/0001"}
    assert waits_for["audio/raw@0.9/0001"] == {"audio/raw/0001"}
    assert waits_for["features/logmel/raw@0.9/0001"] == {"audio/raw@0.9/0001"}
    assert waits_for["features/logmel/raw/statistics"] == {
        "features/logmel/raw/0000",
        "features/logmel/raw/0001",
    }
    assert waits_for["quality/check_raw"] == {"audio/raw/0000", "audio/raw/0001"}
    checked = {"quality/check_raw"}
    assert waits_for["models/mlp-dc/0"] - checked == {
        "features/opensmile/dc/0000",
        "features/opensmile/dc/0001",
    }
    logmel = {
        f"features/logmel/{stage}/{shard}" for stage in ("raw", "raw@0.9") for shard in ("0000", "0001")
    }
    statistics = {"features/logmel/raw/statistics"}
    assert waits_for["models/conformer-logmel/0"] - checked >= logmel
    assert waits_for["models/unknown/0"] - checked > logmel | statistics
    assert waits_for["fusion/feature-fusion/0"] == set(later[:2])
    assert waits_for["utterance_embeddings/systems/mlp-dc/0"] == {"models/mlp-dc/0"}
    assert waits_for["fusion"] == {*seeds, "fusion/feature-fusion/0", "quality"}
    assert waits_for["report"] == {"fusion"}
    seconds = {name: job.wall_s for name, job in read_run(tmp_path).jobs.items()}
    waits_for = {name: sorted(names) for name, names in waits_for.items()}
    chain = longest_chain(waits_for, seconds)
    assert chain[:3] == ["audio/raw/0001", "features/logmel/raw/0001", "features/logmel/raw/statistics"]
    assert chain[-2:] == ["fusion", "report"]


def test_disk_is_counted_by_kind_of_file(tmp_path):
    from scale_costs import disk_bytes

    for name, size in (
        ("audio/raw/0000.parquet", 7),
        ("features/logmel/raw/0000.npy", 5),
        ("models/a/0/m", 3),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    assert disk_bytes(tmp_path) == {"audio/raw": 7, "features/logmel/raw": 5, "models": 3}


def test_a_folder_without_a_run_is_refused(tmp_path):
    from scale_costs import read_run

    with pytest.raises(ValueError, match="no decoded shard"):
        read_run(tmp_path)
    MadeUpRun(tmp_path).shard("raw", "0000", 3)
    with pytest.raises(ValueError, match="no benchmark files"):
        read_run(tmp_path)
