"""The output files of a synthetic run, written in a second by the writers of the library."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from matplotlib.image import imsave

from exvo.audio.quality import summarise_quality
from exvo.audio.store import SAMPLE_RATE, Clip, write_shard
from exvo.corpus.labels import EMOTIONS
from exvo.corpus.table import read_corpus
from exvo.evaluation.bootstrap import BootstrapConfig
from exvo.evaluation.metrics import score
from exvo.evaluation.predictions import Predictions, write_predictions
from exvo.fusion.fuse import CrossFit, FusionConfig
from exvo.report.outcome import OutcomePaths, OutcomePlan, write_outcome
from exvo.report.page.write import ReportFiles, write_report
from exvo.workflow.config import complete

REPOSITORY = Path(__file__).parents[1]
# Names that would run as code in an unescaped page, or be set as a formula in a figure.
COUNTRY = r"<script>alert(1)</script> $\no{formula$"
CLIP = '"><img src=x onerror=alert(1)>'
BROKEN = "zz-broken"
FOLDER = "/home/someone/secret"
STAGES = ("raw", "dc", "denoised", "vad")
MEASURES = {
    "raw": {"clipping_rate": pa.float64(), "codec": pa.string()}
    | {"recorded_sample_rate": pa.int64(), "source_channels": pa.string()},
    "dc": {},
    "denoised": {"snr_before_db": pa.float64(), "snr_after_db": pa.float64()},
    "vad": {"start": pa.int64(), "end": pa.int64(), "kept": pa.float64()},
}
SYSTEMS = {"mlp-raw": 0.4, "conformer-strf": 0.8}
SEEDS = (0, 1)


class MadeRun:
    """A run of two systems on 72 clips of 24 speakers.

    ``unlabelled`` names tasks without a label in Val; ``blind`` leaves ``test_labels.csv`` out.
    """

    def __init__(self, root, *, blind=False, unlabelled=(), fusions=("weighted", "stacked")):
        self.root, self.results = root, root / "results"
        self.random = np.random.default_rng(0)
        self._write_corpus(blind, unlabelled)
        self.corpus = read_corpus(root / "corpus")
        self._write_audio()
        self.runs = {name: [self._write_model(name, seed) for seed in SEEDS] for name in SYSTEMS}
        self.files = self._files()
        self.plan = OutcomePlan(
            [FusionConfig(name, tuple(SYSTEMS), rule=name) for name in fusions],
            None,
            {"table1": {"raw": "mlp-raw"}, "table3": {"Conformer (STRF)": "conformer-strf"}},
            BootstrapConfig(resamples=100),
            CrossFit(4),
            [f"system x is left out: {FOLDER}/wav is not there"],
        )
        self.write_outcome(self.results)
        schema = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
        config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
        config["corpus"]["root"] = f"{FOLDER}/bursts"
        config["audio"] = {"convert": {"ffmpeg": f"{FOLDER}/bin/ffmpeg"}}
        config["seeds"] = list(SEEDS)
        self.config = json.loads(json.dumps(complete(config, schema)))
        spec = {"stage": "raw", "feature": "opensmile", "encoder": "mlp", "tasks": ["emotion", "age"]}
        self.systems = dict.fromkeys(SYSTEMS, spec)

    def write_outcome(self, results):
        """Write the outputs of the last rule into a folder of results."""
        fusion = results / "fusion"
        paths = OutcomePaths(
            fusion / "test_preds.csv",
            fusion / self.files.fusion.name,
            fusion / self.files.val.name,
            results / "tables",
        )
        write_outcome(self.corpus, self.runs, self.plan, self.files.quality, paths)

    def write(self, path, *, clips=(), **changes):
        """Write the report, with some of its files changed, and return its text."""
        config = self.config | {"report": {"clips": list(clips)}}
        write_report(replace(self.files, **changes), self.corpus.labels, config, self.systems, path)
        return path.read_text()

    def _write_corpus(self, blind, unlabelled):
        folder = self.root / "corpus"
        folder.mkdir(parents=True)
        rows = []
        for split in ("Train", "Val", "Test"):
            for i in range(24):
                speaker = i // 3
                country = speaker % 2
                labels = {
                    "country": {"Country": country, "Country_string": (COUNTRY, "Chile")[country]},
                    "age": {"Age": 20 + 2 * speaker + self.random.integers(3)},
                    "emotion": dict(zip(EMOTIONS, self.random.uniform(size=10).round(3), strict=True)),
                }
                for task in unlabelled if split == "Val" else ():
                    labels[task] = dict.fromkeys(labels[task], "")
                name = {("Val", 0): CLIP, ("Test", 5): BROKEN}.get((split, i), f"{split.lower()}{i:02d}")
                head = {"File_ID": f"[{name}]", "Split": split, "Subject_ID": f"{split}{speaker}"}
                rows.append(head | labels["country"] | labels["age"] | labels["emotion"])
        hidden = dict.fromkeys(["Country", "Country_string", "Age", *EMOTIONS], "")
        tables = {"data_info": [row | hidden if row["Split"] == "Test" else row for row in rows]}
        if not blind:
            tables["test_labels"] = [row for row in rows if row["Split"] == "Test"]
        for name, table in tables.items():
            with (folder / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(table)

    def _write_audio(self):
        ids = sorted(self.corpus.labels.clip_id)
        paths = {
            stage: [self.results / f"audio/{stage}/000{i}.parquet" for i in range(2)] for stage in STAGES
        }
        for i in range(2):
            sounds = {name: self._sound() for name in ids[i::2]}
            for stage in STAGES:
                clips = [self._clip(name, stage, sounds[name]) for name in sounds]
                write_shard(paths[stage][i], clips, MEASURES[stage], bits=24 if stage == "raw" else 16)
        self.audio = paths
        folder = self.results / "quality"
        summarise_quality(paths, self.corpus.labels, folder / "clips.parquet", folder / "summary.md")

    def _sound(self):
        n = int(self.random.integers(4000, 12000))
        tone = 0.5 * np.sin(2 * np.pi * self.random.uniform(200, 2000) * np.arange(n) / SAMPLE_RATE)
        return (tone * np.hanning(n) + 0.01 * self.random.standard_normal(n)).astype(np.float32)

    def _clip(self, name, stage, sound):
        if name == BROKEN:
            return Clip(name, None, "unreadable", f"{FOLDER}/raw/x.webm: no <script>data</script>")
        snr, cut = float(self.random.uniform(5, 45)), len(sound) // 4
        measures = {
            "raw": {"clipping_rate": max(0.0, (snr - 40) / 100), "codec": "opus"}
            | {"recorded_sample_rate": 48_000, "source_channels": "mono"},
            "denoised": {"snr_before_db": snr, "snr_after_db": snr + 8},
            "vad": {"start": cut, "end": len(sound) - cut, "kept": 1 - 2 * cut / len(sound)},
        }
        heard = sound[cut : len(sound) - cut] if stage == "vad" else sound
        return Clip(name, heard, measures=measures.get(stage, {}))

    def _write_model(self, name, seed):
        folder = self.results / f"models/{name}/{seed}"
        folder.mkdir(parents=True)
        labels, pair = self.corpus.labels, []
        for split in ("Val", "Test"):
            part = labels.take(labels.split == split)
            noise = self.random.standard_normal((len(part), 12)) * SYSTEMS[name]
            chance = np.clip(0.5 + 0.3 * noise[:, 0], 0, 1)
            predictions = Predictions(
                part.clip_id,
                np.nan_to_num(part.age, nan=27.0) + 3 * noise[:, 1],
                np.stack([chance, 1 - chance], axis=1),
                np.clip(np.nan_to_num(part.emotion, nan=0.5) + 0.3 * noise[:, 2:], 0, 1),
                tuple(country.code for country in labels.countries),
            )
            pair.append(folder / f"{split.lower()}.parquet")
            write_predictions(pair[-1], predictions)
            if split == "Val":
                record = {"val": score(part, predictions).to_json(), "best_epoch": 2, "n_epochs": 3}
                (folder / "metrics.json").write_text(json.dumps(record))
        (folder / "history.csv").write_text(
            "epoch,loss,val_loss,val_selection\n1,3,3,0.1\n2,2,2.5,0.3\n3,1,2.7,nan\n"
        )
        return tuple(pair)

    def _files(self):
        results = self.results
        figures = (results / "kernels.png", results / "paths.png")
        for path in figures:
            imsave(path, np.linspace(0, 1, 300 * 600).reshape(300, 600))
        benchmark = results / "benchmarks/fusion.tsv"
        benchmark.parent.mkdir()
        benchmark.write_text("s\th:m:s\tmax_rss\tcpu_time\n75.5\t0:01:15\t210.25\t60\n")
        tables = [
            results / f"tables/{name}.json" for name in ("table1", "table3", "table4", "emotions", "groups")
        ]
        return ReportFiles(
            results / "fusion/fusion.json",
            results / "fusion/val_out_of_fold.parquet",
            results / "quality/clips.parquet",
            tables,
            self.audio,
            {name: {seed: results / f"models/{name}/{seed}" for seed in SEEDS} for name in SYSTEMS},
            {"conformer-strf": figures},
            {"fusion": [benchmark], "quality": [results / "benchmarks/quality.tsv"]},
        )
