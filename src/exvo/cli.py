"""The command ``exvo``: make the demo corpus, check a corpus, predict recordings, score a submission.

Every command imports what it needs when it runs, so that ``--help`` and a finished demo answer at once.
"""

from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the corpus goes.")],
    clips: Annotated[int, typer.Option(min=12, help="Number of clips.")] = 360,
    seed: Annotated[int, typer.Option(help="Another seed gives other speakers and bursts.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
) -> None:
    """Make a corpus of synthetic vocal bursts in the layout of the challenge."""
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
    sample: Annotated[int, typer.Option(min=0, help="How many recordings are decoded.")] = 200,
) -> None:
    """Say what a corpus holds and what is wrong with it; ends with code 1 where something is."""
    from exvo.audio.check import check_corpus
    from exvo.corpus.table import CorpusError
    from exvo.util.bundled_ffmpeg import FfmpegError

    try:
        report, problems = check_corpus(corpus, n_sample=sample)
    except (CorpusError, FfmpegError) as error:
        _fail(str(error))
    typer.echo("\n".join(report))
    if problems:
        _fail("\n".join([f"{len(problems)} things to look at:", *(f"- {problem}" for problem in problems)]))
    typer.echo("Nothing wrong was found.")


@app.command()
def predict(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings in anything that ffmpeg reads; a name that begins with - is given as ./-name."
        ),
    ],
    model: Annotated[
        list[Path], typer.Option(help="Folder of a trained system; given more than once, the mean is taken.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Write a CSV instead of printing; - prints the CSV.")
    ] = None,
    prior: Annotated[
        bool,
        typer.Option(
            "--prior",
            help="Fill the cells of recordings without audio with the prior of the training set; they stay errors.",
        ),
    ] = False,
    ffmpeg: Annotated[
        str | None,
        typer.Option(help="bundled, system or a path; by default what each model says, bundled or system."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="HuBERT weights of a model that does not find them; checked. May be given more than once."
        ),
    ] = None,
) -> None:
    """Predict single recordings with trained systems, without a corpus or a workflow.

    Ends with code 1 where a recording has no audio; all others are predicted all the same.
    """
    import sys

    from exvo.corpus.text import shown
    from exvo.predict.recordings import predict_files
    from exvo.predict.table import answer_table, answer_text, check_output, write_table
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
        answers = predict_files(recordings, model, n_threads=n_cores(), local=local, prior=prior)
        if file is not None:
            write_table(file, answers)
    except (ValueError, OSError) as error:
        _fail(shown(str(error)))
    lost = [answer for answer in answers if not answer.predicted]
    if output is None:
        for answer in answers:
            say(answer_text(answer))
    elif file is None:
        typer.echo(answer_table(answers), nl=False)
    else:
        say(shown(f"{len(answers)} recordings, {len(answers) - len(lost)} of them predicted: {file}"))
    if lost:
        for answer in lost:
            say(shown(f"error: {answer.path}: {answer.reason}"), err=True)
        filled = "what is given for them is the prior" if prior else "--prior gives them the prior"
        _fail(f"without a prediction: {len(lost)} of {len(answers)}; {filled} of the training set")


@app.command()
def score(
    submission: Annotated[Path, typer.Argument(help="CSV with a row per Test clip.")],
    corpus: Annotated[
        Path, typer.Argument(help="Folder with data_info.csv, and test_labels.csv for scores.")
    ],
    form: Annotated[
        Literal["standard", "organisers"],
        typer.Option(help="Form of the CCC: the standard one, or that of the organisers' script."),
    ] = "standard",
) -> None:
    """Check a submission against a corpus and, where the Test labels are known, score it."""
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
                [f"{submission} does not keep to the format:", *(f"- {text}" for text in findings.problems)]
            )
        )
    typer.echo(
        f"{submission}: the format is right, a row for each of {(found.labels.split == 'Test').sum()} Test clips"
    )
    if labels is None:
        typer.echo(
            f"{corpus} has no test_labels.csv: the Test labels are blind, so there is nothing to score with"
        )
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
        typer.echo(f"{source.n_unnamed} of {source.n_clips} clips have no speaker and count each as its own.")


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
