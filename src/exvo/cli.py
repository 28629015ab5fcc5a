"""The command ``exvo``: make the demo corpus, check a corpus, predict recordings, score a submission.

Every command imports its modules when it runs, so that ``--help`` and an existing demo corpus need no slow import.
"""

from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    clips: Annotated[int, typer.Option(min=12, help="Number of clips.")] = 360,
    seed: Annotated[int, typer.Option(help="Random seed; another seed gives other speakers and bursts.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; by default one per core.")
    ] = None,
) -> None:
    """Write a corpus of synthetic vocal bursts in the layout of the challenge."""
    from exvo.corpus.demo import make_demo_corpus

    def show(done: int, total: int) -> None:
        typer.echo(f"\r{done} of {total} clips", nl=done == total, err=True)

    try:
        make_demo_corpus(folder, n_clips=clips, seed=seed, n_workers=workers, progress=show)
    except (ValueError, OSError) as error:
        _fail(str(error))
    typer.echo(f"The demo corpus is in {folder}")


@app.command()
def check(
    corpus: Annotated[Path, typer.Argument(help="Folder with data_info.csv and raw/.")],
    sample: Annotated[int, typer.Option(min=0, help="Number of recordings to decode.")] = 200,
) -> None:
    """Describe a corpus and report problems; exits with code 1 if there are any."""
    from exvo.audio.check import check_corpus
    from exvo.corpus.table import CorpusError
    from exvo.util.bundled_ffmpeg import FfmpegError

    try:
        report, problems = check_corpus(corpus, n_sample=sample)
    except (CorpusError, FfmpegError) as error:
        _fail(str(error))
    typer.echo("\n".join(report))
    if problems:
        _fail("\n".join([f"problems found: {len(problems)}", *(f"- {problem}" for problem in problems)]))
    typer.echo("No problems were found.")


@app.command()
def predict(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings in any format that ffmpeg reads; write a name that begins with - as ./-name."
        ),
    ],
    model: Annotated[
        list[Path], typer.Option(help="Folder of a trained system; for several, the mean is computed.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Write a CSV file instead of printing; - prints the CSV.")
    ] = None,
    prior: Annotated[
        bool,
        typer.Option(
            "--prior",
            help="Use the prior of the training set for recordings without audio; they are still errors.",
        ),
    ] = False,
    ffmpeg: Annotated[
        str | None,
        typer.Option(
            help="bundled, system or a path; by default the choice of each model (bundled or system)."
        ),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="HuBERT weights for a model whose own are missing; their SHA-256 is checked. Can be repeated."
        ),
    ] = None,
) -> None:
    """Predict single recordings with trained systems, without a corpus or a workflow.

    Exits with code 1 if a recording has no audio; the others are still predicted.
    """
    import sys

    from exvo.corpus.text import shown
    from exvo.predict.recordings import predict_files
    from exvo.predict.table import check_output, prediction_table, prediction_text, write_table
    from exvo.systems.local_files import LocalFiles
    from exvo.systems.model_folder import FILES
    from exvo.util.cores import n_cores

    def say(text: str, *, err: bool = False) -> None:
        encoding = (sys.stderr if err else sys.stdout).encoding
        typer.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)

    local = LocalFiles(ffmpeg, tuple(checkpoint or ()))
    file = None if output is None or output == Path("-") else output
    try:
        if file is not None:
            read = [*recordings, *local.checkpoints, *(folder / name for folder in model for name in FILES)]
            check_output(file, read)
        predictions = predict_files(recordings, model, n_threads=n_cores(), local=local, prior=prior)
        if file is not None:
            write_table(file, predictions)
    except (ValueError, OSError) as error:
        _fail(shown(str(error)))
    failed = [prediction for prediction in predictions if not prediction.predicted]
    if output is None:
        for prediction in predictions:
            say(prediction_text(prediction))
    elif file is None:
        typer.echo(prediction_table(predictions), nl=False)
    else:
        say(shown(f"{file}: {len(predictions) - len(failed)} of {len(predictions)} recordings predicted"))
    if failed:
        for prediction in failed:
            say(shown(f"error: {prediction.path}: {prediction.reason}"), err=True)
        values = "their values are the prior" if prior else "with --prior, their values are the prior"
        _fail(f"without a prediction: {len(failed)} of {len(predictions)}; {values} of the training set")


@app.command()
def score(
    submission: Annotated[Path, typer.Argument(help="CSV with one row per Test clip.")],
    corpus: Annotated[Path, typer.Argument(help="Folder with data_info.csv; scores need test_labels.csv.")],
    form: Annotated[
        Literal["standard", "organisers"],
        typer.Option(help="Form of the CCC: the standard one, or that of the organisers' script."),
    ] = "standard",
) -> None:
    """Check a submission against a corpus and, if the Test labels are known, score it."""
    from exvo.corpus.table import CorpusError, read_corpus, read_test_labels
    from exvo.evaluation.bootstrap import BootstrapConfig, SpeakerBootstrap
    from exvo.evaluation.check_submission import check_submission
    from exvo.evaluation.intervals import MIN_SPEAKERS
    from exvo.evaluation.metrics import score as score_predictions
    from exvo.evaluation.submission import read_submission

    try:
        found = read_corpus(corpus)
        labels = read_test_labels(found)
    except CorpusError as error:
        _fail(str(error))
    findings = check_submission(submission, found)
    for note in findings.notes:
        typer.echo(f"note: {note}")
    if findings.problems:
        _fail(
            "\n".join(
                [
                    f"{submission} does not have the required format:",
                    *(f"- {text}" for text in findings.problems),
                ]
            )
        )
    typer.echo(
        f"{submission}: the format is correct, with a row for each of {(found.labels.split == 'Test').sum()} Test clips"
    )
    if labels is None:
        typer.echo(f"{corpus} has no test_labels.csv, so the Test labels are unknown and there are no scores")
        return
    predictions = read_submission(submission, found)
    scores = score_predictions(labels, predictions, form=form)
    source = SpeakerBootstrap(labels, BootstrapConfig(), form)
    draws = source.draws([predictions])
    known = source.n_unnamed < source.n_clips

    def line(metric: str, n: int | None = None) -> str:
        value, interval = getattr(scores, metric), draws.interval(metric)
        text = f"{value:.4f}" if value == value else "undefined"
        if known and interval.high == interval.high:
            low = "-" if interval.low == -float("inf") else f"{interval.low:.4f}"
            text += f"  [{low}, {interval.high:.4f}]"
        return text if n is None else f"{text}  on {n} clips"

    typer.echo(f"emotion  CCC   {line('ccc', scores.n_emotion)} ({form} form)")
    typer.echo(f"country  UAR   {line('uar', scores.n_country)}")
    typer.echo(f"age      MAE   {line('mae', scores.n_age)}, in years")
    typer.echo(f"         S_MTL {line('s_mtl')}")
    if not known:
        typer.echo("No intervals: no speaker of these clips is known (Subject_ID in test_labels.csv).")
        return
    typer.echo(
        f"Brackets: {source.config.confidence:.0%} confidence intervals, {source.config.resamples} resamples of "
        f"{source.n_speakers} speakers (none below {MIN_SPEAKERS})."
    )
    if source.n_unnamed:
        typer.echo(
            f"{source.n_unnamed} of {source.n_clips} clips have no speaker; each counts as a separate one."
        )


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
