"""Output, files and exit codes of `exvo predict`: only recordings get a prediction, and no input is dropped."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from exvo.audio.convert import ConvertConfig
from exvo.audio.store import SAMPLE_RATE, Clip, write_shard
from exvo.cli import app
from exvo.corpus.labels import EMOTIONS, TASKS, Country, Labels
from exvo.corpus.table import Corpus
from exvo.evaluation.predictions import read_predictions
from exvo.features.opensmile import OpensmileConfig, opensmile_shard
from exvo.features.vectors import write_vectors
from exvo.predict import recordings as predict
from exvo.systems.feature_fusion import train_feature_fusion
from exvo.systems.load import KINDS
from exvo.systems.mlp import train_system
from exvo.systems.utterance_embeddings import utterance_embeddings_by

SPLITS = ["Train"] * 4 + ["Val"] * 2 + ["Test"] * 2
IDS = np.array([f"clip{i}" for i in range(len(SPLITS))], dtype=object)
SYSTEMS = {"all": TASKS, "age": ("age",), "country": ("country",), "emotion": ("emotion",)}
AGES = np.array([20.0, 24, 31, 70, 40, 45, 50, 55])
COUNTRIES = (Country(0, "Here"), Country(3, "There, or not"))
ALL_COLUMNS = ["file", "status", "reason", "Age", "P(Here)", "P(There, or not)", *EMOTIONS]


def spec(tasks):
    return {
        "stage": "raw",
        "feature": "opensmile",
        "encoder": "mlp",
        "tasks": list(tasks),
        "training": {"hidden": [16, 8], "max_epochs": 2, "batch_size": 8, "device": "cpu"},
        "feature_config": asdict(OpensmileConfig("eGeMAPSv02")),
        "audio": {"convert": asdict(ConvertConfig())},
    }


def labels(countries=COUNTRIES):
    rng = np.random.default_rng(1)
    country = np.arange(len(IDS)) % 2
    return Labels(
        IDS, np.array(SPLITS), np.full(len(IDS), ""), AGES, country, rng.random((len(IDS), 10)), countries
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Systems of all tasks and of one, a feature fusion of two of those, and the recordings they were trained on."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    signals = [
        0.1 * rng.standard_normal(6000 + 2000 * i) * np.linspace(1, 0.1 * i, 6000 + 2000 * i)
        for i in range(8)
    ]
    signals = [(np.round(signal * 2**15) / 2**15).astype(np.float32) for signal in signals]
    write_shard(home / "audio.parquet", [Clip(*c) for c in zip(IDS, signals, strict=True)], {}, bits=24)
    for name, signal in zip(IDS, signals, strict=True):
        soundfile.write(home / f"{name}.wav", signal, SAMPLE_RATE, subtype="PCM_16")
    shard = home / "opensmile.parquet"
    opensmile_shard(home / "audio.parquet", shard, OpensmileConfig("eGeMAPSv02"))
    corpus = Corpus(home, IDS, labels())
    for name, tasks in SYSTEMS.items():
        train_system([shard], corpus, spec(tasks), 0, home / f"results/models/{name}/0")
    files = []
    for name in ("age", "country"):
        files.append((home / f"{name}.npy", home / f"{name}.parquet"))
        write_vectors(
            [(shard,)], utterance_embeddings_by(home / f"results/models/{name}/0", KINDS), *files[-1]
        )
    joint = {"systems": ["age", "country"], "inputs": "embeddings", "tasks": ["age", "country"]}
    training = {"max_epochs": 2, "batch_size": 4, "device": "cpu"}
    train_feature_fusion(
        files, corpus, joint | {"training": training}, 0, home / "results/fusion/feature-fusion/0"
    )
    return home


def model(home, name):
    kind = "fusion" if name == "feature-fusion" else "models"
    return home / f"results/{kind}/{name}/0"


def command(home, *words, models=("all",)):
    named = [word for name in models for word in ("--model", str(model(home, name)))]
    return CliRunner().invoke(app, ["predict", *map(str, words), *named])


def rows_of(table):
    """Read a CSV of predictions as any program does, by the standard's rules."""
    text = table.decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def numbers(row):
    return [row[name] for name in row if name not in ("file", "status", "reason")]


@pytest.fixture
def not_recordings(tmp_path):
    """Return paths that are none of a recording, and what is said of each."""
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("Not a sound.\n" * 20)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), SAMPLE_RATE)
    os.mkfifo(tmp_path / "pipe.wav")
    said = {
        "lauhg.webm": ("missing", "no such file; check the path"),
        "folder.wav": ("unreadable", "a folder; give the recordings in it"),
        "gone.wav": ("missing", "a link to a missing file; check the path"),
        "loop.wav": ("unreadable", "cannot be opened (Too many levels of symbolic links)"),
        "pipe.wav": ("unreadable", "not a regular file; save the recording as a regular file"),
        "empty.wav": ("empty", "the file is empty"),
        "text.wav": ("unreadable", "not a recording in a known format, or its beginning is damaged"),
        "none.wav": ("empty", "no audio in the file"),
        "empty.wav/inside.wav": ("unreadable", "cannot be opened (Not a directory)"),
    }
    return {tmp_path / name: what for name, what in said.items()}


def test_what_is_not_a_recording_is_not_predicted_and_the_others_are(home, not_recordings, tmp_path):
    good = home / "clip6.wav"
    output = tmp_path / "o.csv"
    words = [*list(not_recordings)[:4], good, *list(not_recordings)[4:]]
    run = command(home, *words, "--output", output)
    assert run.exit_code == 1, run.output
    rows = {Path(row["file"]): row for row in rows_of(output.read_bytes())}
    assert list(rows) == words and list(rows[good]) == ALL_COLUMNS
    lines = run.stderr.splitlines()
    for path, (status, reason) in not_recordings.items():
        assert rows[path]["status"] == status, path
        assert set(numbers(rows[path])) == {""}
        (line,) = [line for line in lines if line.startswith(f"error: {path}: ")]
        assert rows[path]["reason"] == reason and line == f"error: {path}: {reason}"
    assert (
        lines[-1]
        == "without a prediction: 9 of 10; with --prior, their values are the prior of the training set"
    )
    assert rows[good]["status"] == "ok" and "" not in numbers(rows[good])
    assert run.stdout == f"{output}: 1 of 10 recordings predicted\n"


@pytest.mark.parametrize("name", ["lauhg.webm", "folder.wav", "text.wav"])
@pytest.mark.parametrize("models", [("all",), ("feature-fusion",)], ids="-".join)
def test_a_terminal_shows_no_numbers_without_a_recording(home, not_recordings, tmp_path, name, models):
    run = command(home, tmp_path / name, models=models)
    status, _ = not_recordings[tmp_path / name]
    assert run.exit_code == 1
    assert run.stdout == f"{tmp_path / name}  [{status}]  no prediction\n"
    assert run.stderr.startswith(f"error: {tmp_path / name}: ")


def test_the_prior_is_given_on_request_and_is_an_error_still(home, tmp_path):
    run = command(home, "no.wav", home / "clip6.wav", "--prior", "--output", tmp_path / "o.csv")
    missing, good = rows_of((tmp_path / "o.csv").read_bytes())
    assert run.exit_code == 1 and "error: no.wav: no such file; check the path\n" in run.stderr
    assert missing["status"] == "missing" and good["status"] == "ok"
    # Of the four clips of Train: the median age, the share of each country, the mean of each emotion.
    assert missing["Age"] == "27.5" and float(good["Age"]) != 27.5
    assert [missing["P(Here)"], missing["P(There, or not)"]] == ["0.5", "0.5"]
    means = labels().emotion[:4].mean(axis=0)
    np.testing.assert_allclose([float(missing[name]) for name in EMOTIONS], means, rtol=1e-5)
    shown = command(home, "no.wav", "--prior", models=["age"])
    assert shown.exit_code == 1
    assert shown.stdout.splitlines()[1:] == [
        "  no audio; this is the prior of the training set:",
        "  age      27.5",
    ]


def test_a_recording_that_cannot_be_opened_is_said_to_be_so(home, tmp_path, monkeypatch):
    shutil.copy(home / "clip6.wav", tmp_path / "mine.wav")
    real = Path.stat

    def stat(path, **options):
        if path.name == "mine.wav":
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    run = command(home, tmp_path / "mine.wav")
    assert run.exit_code == 1
    assert f"error: {tmp_path / 'mine.wav'}: cannot be opened (Permission denied)\n" in run.stderr


@pytest.mark.parametrize(
    ("models", "columns", "lines"),
    [
        (["age"], ["Age"], ["age"]),
        (["country"], ["P(Here)", "P(There, or not)"], ["country"]),
        (["emotion"], list(EMOTIONS), ["emotion"]),
        (["age", "emotion"], ["Age", *EMOTIONS], ["emotion", "age"]),
        (["feature-fusion"], ["Age", "P(Here)", "P(There, or not)"], ["age", "country"]),
        (["all"], ALL_COLUMNS[3:], ["emotion", "age", "country"]),
    ],
    ids=lambda value: "-".join(value) if len(value) < 3 else "",
)
def test_only_the_tasks_of_the_models_are_printed_and_written(home, tmp_path, models, columns, lines):
    run = command(home, home / "clip6.wav", models=models)
    assert run.exit_code == 0 and run.stderr == ""
    head, *rest = run.stdout.splitlines()
    assert head == f"{home / 'clip6.wav'}  [ok]" and [line.split()[0] for line in rest] == lines
    command(home, home / "clip6.wav", "--output", tmp_path / "o.csv", models=models)
    (row,) = rows_of((tmp_path / "o.csv").read_bytes())
    assert list(row) == ["file", "status", "reason", *columns]
    assert np.isfinite([float(cell) for cell in numbers(row)]).all()


def test_a_task_without_a_label_in_training_is_not_printed(home, tmp_path):
    corpus = Corpus(home, IDS, replace(labels(), age=np.full(len(IDS), np.nan)))
    train_system([home / "opensmile.parquet"], corpus, spec(TASKS), 0, tmp_path / "model")
    (prediction,) = predict.predict_files([home / "clip6.wav"], [tmp_path / "model"])
    assert prediction.age is None and len(prediction.countries) == 2 and len(prediction.emotions) == 10


@pytest.mark.parametrize("name", ["all", "age", "country", "feature-fusion"])
def test_numbers_are_those_of_the_workflow(home, tmp_path, name):
    paths = [home / f"{clip}.wav" for clip in IDS[6:]]
    command(home, *paths, "--output", tmp_path / "o.csv", models=[name])
    expected = read_predictions(model(home, name) / "test.parquet")
    assert expected.clip_id.tolist() == IDS[6:].tolist()
    for row, age, country, emotion in zip(
        rows_of((tmp_path / "o.csv").read_bytes()),
        expected.age,
        expected.country,
        expected.emotion,
        strict=True,
    ):
        known = [number for number in (age, *country, *emotion) if not np.isnan(number)]
        np.testing.assert_allclose([float(cell) for cell in numbers(row)], known, rtol=2e-5)


def test_each_task_is_the_mean_of_the_models_that_do_it(home):
    one, two, three = (
        predict.predict_files([home / "clip7.wav"], [model(home, name) for name in names])[0]
        for names in (["all"], ["age"], ["age", "all"])
    )
    np.testing.assert_allclose(three.age, (one.age + two.age) / 2, rtol=1e-12)
    assert three.countries == one.countries and three.emotions == one.emotions


def test_the_numbers_do_not_depend_on_what_else_is_asked_for(home, tmp_path, monkeypatch):
    paths = [home / f"{clip}.wav" for clip in IDS[4:]]
    whole = predict.predict_files(paths, [model(home, "all"), model(home, "feature-fusion")])
    monkeypatch.setattr(predict, "BATCH", 3)
    again = [paths[0], tmp_path / "no.wav", *paths[1:], paths[0]]
    parts = predict.predict_files(again, [model(home, "all"), model(home, "feature-fusion")])
    assert [part.path for part in parts] == again
    assert [part.predicted for part in parts] == [True, False, True, True, True, True]
    predicted = [part for part in parts if part.predicted]
    for part, expected in zip(predicted, [*whole, whole[0]], strict=True):
        # A product of other rows may be added in another order: the last bits are its own.
        np.testing.assert_allclose(part.age, expected.age, rtol=1e-6)
        np.testing.assert_allclose(
            list(part.countries.values()), list(expected.countries.values()), rtol=1e-6
        )
        np.testing.assert_allclose(list(part.emotions.values()), list(expected.emotions.values()), rtol=1e-6)


def test_flagged_clips_are_predicted(home, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), SAMPLE_RATE)
    soundfile.write(tmp_path / "long.wav", np.full(61 * SAMPLE_RATE, 0.1), SAMPLE_RATE)
    tone = 0.3 * np.sin(np.arange(4 * SAMPLE_RATE) / 5)
    soundfile.write(tmp_path / "whole.flac", tone, SAMPLE_RATE)
    data = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) * 2 // 3])
    names = {"silent.wav": "silent", "long.wav": "truncated", "cut.flac": "damaged"}
    run = command(home, *(tmp_path / name for name in names), "--output", tmp_path / "o.csv")
    assert run.exit_code == 0 and run.stderr == ""
    rows = rows_of((tmp_path / "o.csv").read_bytes())
    assert [row["status"] for row in rows] == list(names.values())
    assert all(row["reason"] and "" not in numbers(row) for row in rows)


NAMES = [
    b"b\xe9.wav",
    b'comma, "quoted".wav',
    b"two\nlines.wav",
    b"return\rback.wav",
    "Brüllen \N{FACE WITH TEARS OF JOY}.wav".encode(),
    b"\x1b[31mred.wav",
]


@pytest.fixture
def named(home, tmp_path):
    """Return recordings of all names, as a command line has them."""
    for name in NAMES:
        shutil.copy(home / "clip6.wav", tmp_path / os.fsdecode(name))
    return [os.fsencode(tmp_path) + b"/" + name for name in NAMES]


def process(home, *words):
    """Return a command that has a true command line and a true standard output."""
    start = [sys.executable, "-c", "from exvo.cli import app; app()", "predict"]
    return [*start, *words, "--model", model(home, "age")]


def test_names_of_any_bytes_survive_to_the_table(home, named, tmp_path):
    output = os.fsencode(tmp_path) + b"/o\xe9.csv"
    done = subprocess.run(process(home, *named, "--output", output), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    table = Path(os.fsdecode(output)).read_bytes()
    assert [os.fsencode(row["file"]) for row in rows_of(table)] == named
    assert done.stdout.endswith(b"/o\\xe9.csv: 6 of 6 recordings predicted\n")


@pytest.mark.parametrize(
    ("encoding", "laughing"),
    [("utf-8", "Brüllen \N{FACE WITH TEARS OF JOY}.wav"), ("ascii", "Br\\xfcllen \\U0001f602.wav")],
)
def test_names_of_any_bytes_are_escaped_on_a_terminal(home, named, encoding, laughing):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command_line = process(home, *named, b"no\xff.wav")
    done = subprocess.run(command_line, capture_output=True, check=False, env=environment)
    assert done.returncode == 1 and done.stderr.startswith(b"error: no\\xff.wav: no such file")
    heads = [line for line in done.stdout.decode(encoding).splitlines() if line.endswith("[ok]")]
    expected = ["b\\xe9.wav", 'comma, "quoted".wav', "two\\nlines.wav", "return\\rback.wav", laughing]
    assert [Path(head.removesuffix("  [ok]")).name for head in heads] == [*expected, "\\x1b[31mred.wav"]


def test_a_reader_that_goes_away_ends_the_command_without_a_traceback(home):
    command_line = process(home, home / "clip6.wav")
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 1


@pytest.mark.parametrize("name", ["=1+1.wav", "+1.wav", "@SUM(A1).wav", "-", "--model.wav"])
def test_a_name_that_looks_like_a_formula_or_an_option_is_a_path(home, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(home / "clip6.wav", name)
    run = command(home, f"./{name}", "--output", "o.csv", models=["age"])
    assert run.exit_code == 0, run.output
    (row,) = rows_of(Path("o.csv").read_bytes())
    assert row["file"] == f"./{name}" and row["status"] == "ok"


def test_standard_output_takes_the_table(home, tmp_path):
    run = command(home, home / "clip6.wav", "--output", "-", models=["age"])
    command(home, home / "clip6.wav", "--output", tmp_path / "o.csv", models=["age"])
    assert run.stdout_bytes == (tmp_path / "o.csv").read_bytes() and run.exit_code == 0
    assert not Path("-").exists()


def test_an_output_that_cannot_be_is_refused_before_any_work(home, tmp_path, monkeypatch):
    recording = tmp_path / "mine.wav"
    shutil.copy(home / "clip6.wav", recording)
    (tmp_path / "same.csv").symlink_to(recording)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    kept = recording.read_bytes()
    refused = {
        tmp_path: "a folder; give a file, such as",
        recording: "an input file, which would be replaced; give another file",
        tmp_path / "same.csv": "an input file",
        model(home, "all") / "config.json": "an input file",
        tmp_path / "file/o.csv": "its folder cannot be created (",
        tmp_path / "pipe": "not a regular file; print the table with --output -",
    }
    monkeypatch.setattr(predict, "_decoded", None)
    for output, reason in refused.items():
        run = command(home, recording, "--output", output)
        assert run.exit_code == 1 and run.stderr.startswith(f"--output {output}: {reason}"), run.output
    assert recording.read_bytes() == kept


def test_an_output_in_a_new_folder_or_behind_a_link_is_written_there(home, tmp_path):
    (tmp_path / "link.csv").symlink_to("new/folder/o.csv")
    assert command(home, home / "clip6.wav", "--output", tmp_path / "link.csv").exit_code == 0
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "new/folder/o.csv").stat().st_size


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            shutil.rmtree,
            "no such folder; name the folder of a trained system, results/models/<system>/<seed>",
        ),
        (
            lambda folder: (folder / "config.json").unlink(),
            "no config.json; name the folder of a trained system",
        ),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "no model.safetensors; copy the whole folder",
        ),
        (lambda folder: (folder / "history.csv").unlink(), "no history.csv; copy the whole folder"),
        (lambda folder: cut(folder / "model.safetensors"), "model.safetensors cannot be read ("),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is no JSON ("),
        (
            lambda folder: (folder / "config.json").write_text("[]"),
            "config.json is not that of a trained system",
        ),
        (
            lambda folder: (folder / "config.json").write_text("{}"),
            "config.json is not that of a trained system",
        ),
        (
            lambda folder: change(folder, model="other"),
            "a model of the kind other, not network or sequence or organisers",
        ),
        (lambda folder: change(folder, system=None), "config.json does not say what the features came from"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused_in_words(home, tmp_path, monkeypatch, harm, said):
    folder = tmp_path / "age/0"
    shutil.copytree(model(home, "age"), folder)
    harm(folder)
    monkeypatch.setattr(predict, "_decoded", None)
    run = CliRunner().invoke(app, ["predict", str(home / "clip6.wav"), "--model", str(folder)])
    assert run.exit_code == 1 and run.stderr.startswith(f"{folder}: {said}"), run.output


@pytest.mark.parametrize(
    ("settings", "differing"),
    [
        (lambda convert: convert | {"old": 1}, "old"),
        (lambda convert: {"ffmpeg": "bundled", "timeout_s": 30}, "max_seconds, memory_mb"),
    ],
)
def test_a_model_of_a_version_with_other_settings_is_refused(home, tmp_path, settings, differing):
    folder = tmp_path / "age/0"
    shutil.copytree(model(home, "age"), folder)
    system = json.loads((folder / "config.json").read_text())["system"]
    system["audio"]["convert"] = settings(system["audio"]["convert"])
    change(folder, system=system)
    run = CliRunner().invoke(app, ["predict", str(home / "clip6.wav"), "--model", str(folder)])
    assert run.exit_code == 1 and run.stderr.startswith(f"{folder}: trained with another version"), run.output
    assert f"audio.convert has other settings ({differing});" in run.stderr


def test_what_is_near_a_model_is_refused_with_the_way_to_it(home, tmp_path):
    for near, said in {
        model(home, "age").parent: "no config.json; name one of the models in it: 0",
        model(home, "age") / "config.json": "not a folder; name the folder of a trained system",
    }.items():
        run = CliRunner().invoke(app, ["predict", str(home / "clip6.wav"), "--model", str(near)])
        assert run.exit_code == 1 and run.stderr.startswith(f"{near}: {said}")
    shutil.copytree(model(home, "feature-fusion"), tmp_path / "0")
    run = CliRunner().invoke(app, ["predict", str(home / "clip6.wav"), "--model", str(tmp_path / "0")])
    assert (
        run.exit_code == 1 and "a feature fusion, which is predicted with the systems it reads" in run.stderr
    )


def test_only_models_that_predict_the_country_have_to_agree_on_the_countries(home, tmp_path):
    corpus = Corpus(home, IDS, labels((Country(7, "Elsewhere"), Country(8, "Nowhere"))))
    for name in ("age", "country"):
        train_system([home / "opensmile.parquet"], corpus, spec([name]), 0, tmp_path / name)
    clip, ours = home / "clip6.wav", model(home, "all")
    prediction, alone = (
        predict.predict_files([clip], some)[0] for some in ([tmp_path / "age", ours], [ours])
    )
    assert prediction.countries == alone.countries
    with pytest.raises(
        ValueError, match=r"its countries differ from those of .*/all/0; predict with one of them"
    ):
        predict.predict_files([clip], [ours, tmp_path / "country"])


def change_limits(monkeypatch, folder, **limits):
    """Let a model say other limits of decoding than it does."""
    real = predict.read_model

    def read(path, local):
        found = real(path, local)
        convert = found.system["audio"]["convert"] | (limits if path == folder else {})
        return replace(found, system=dict(found.system) | {"audio": {"convert": convert}})

    monkeypatch.setattr(predict, "read_model", read)


def test_a_recording_that_one_model_cannot_have_decoded_is_not_predicted_by_the_others(home, monkeypatch):
    folders = [model(home, "age"), model(home, "all")]
    change_limits(monkeypatch, folders[1], timeout_s=20.0)
    real = predict.convert_clip

    def too_slow(clip_id, *, config, **rest):
        if config.timeout_s == 20:
            return Clip(clip_id, None, "timeout", "not decoded within 20 s")
        return real(clip_id, config=config, **rest)

    monkeypatch.setattr(predict, "convert_clip", too_slow)
    (prediction,) = predict.predict_files([home / "clip6.wav"], folders)
    assert prediction.status == "timeout" and not prediction.predicted and np.isnan(prediction.age)


def test_limits_of_a_model_under_which_nothing_is_decoded_are_not_put_down_to_recordings(home, monkeypatch):
    change_limits(monkeypatch, model(home, "all"), memory_mb=60.0)
    run = command(home, home / "clip6.wav")
    assert run.exit_code == 1 and run.stdout == "" and "increase audio.convert.memory_mb" in run.stderr


def test_standard_input_is_said_not_to_be_read(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = command(home, "-", models=["age"])
    assert run.exit_code == 1 and run.stderr.startswith("error: -: no such file, and standard input is not")


def test_no_recordings_have_no_rows(home):
    assert predict.predict_files([], [model(home, "all")]) == []
    run = command(home)
    assert run.exit_code == 2 and "recordings" in run.stderr and run.stdout == ""
