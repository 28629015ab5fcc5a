"""Write the report."""

from typing import Any

from exvo.workflow.jobs import run_job


def main(snakemake: Any) -> None:
    """Map the job to `exvo.report.page.write.write_report`."""
    from pathlib import Path

    from exvo.corpus.table import read_corpus
    from exvo.report.page.write import ReportFiles, write_report

    report, files = snakemake.params.report, snakemake.input
    config = report["config"]
    # Systems by name, then feature fusions.
    audio: dict[str, list[str]] = {}
    models: dict[str, dict[int, Path]] = {name: {} for name in report["systems"]}
    for path in files.audio:
        audio.setdefault(Path(path).parent.name, []).append(path)
    for path in files.history:
        folder = Path(path).parent
        models.setdefault(folder.parent.name, {})[int(folder.name)] = folder
    figures = [files.strf[i : i + 2] for i in range(0, len(files.strf), 2)]
    seed = f"_{config['seeds'][0]}_kernels.png"
    benchmarks = Path(snakemake.output.page).parents[1] / "benchmarks"
    write_report(
        ReportFiles(
            files.fusion,
            files.val,
            files.quality,
            files.tables,
            audio,
            models,
            {Path(kernels).name.removesuffix(seed): (kernels, paths) for kernels, paths in figures},
            {
                step: [benchmarks / f"{name}.tsv" for name in names]
                for step, names in snakemake.params.steps.items()
            },
        ),
        read_corpus(Path(files.table).parent, config["corpus"]["limit"]).labels,
        config,
        report["systems"],
        snakemake.output.page,
    )


if "snakemake" in globals():
    run_job(main, globals()["snakemake"])
