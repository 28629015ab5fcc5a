"""Train the organisers' network against a straightforward PyTorch loop over pandas DataFrames.

Both train the same epochs on the same synthetic features, from the same initial weights and in the same order of clips.
The peer standardises once with pandas; ours standardises in the network. Their losses must agree over the first 50
steps; later they drift apart, as any two runs do that differ in the last bits of a number. The epochs after the first,
which have no set-up in them, are timed.

In the same run stands the floor: the matrix products of every step and one fused Adam over all weights, on arrays of
the same sizes, and nothing between them.

Run: ``python benchmarks/bench_organisers.py [--clips N] [--epochs N]``; by default at the challenge's size, 19,990
clips of Train, which takes some 3 GB of memory.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import Record, write_records
from torch import Tensor
from torch.nn import functional
from torch.optim.adam import adam
from torch.utils.data import DataLoader, Dataset

from exvo.corpus.labels import EMOTIONS, Country, Labels
from exvo.networks.mlp import MlpConfig, MultitaskMlp
from exvo.training.standardise import standard_moments
from exvo.training.train import train_network
from exvo.training.trained import TrainingConfig
from exvo.training.vectors import VectorStore

N_FEATURES = 6373
SEED = 0
FIRST_STEPS, AGREE = 50, 1e-3
NETWORK = MlpConfig()
TRAINING = TrainingConfig(
    batch_size=8, max_epochs=3, patience=100, optimizer="adam", learning_rate=1e-3, schedule="constant",
    weight_decay=1e-4, gradient_clip=0.0, combination="uncertainty", emotion_loss="mse_sum", age_loss="mse",
    device="cpu",
)  # fmt: skip


def synthetic(n_clips: int) -> tuple[np.ndarray, Labels]:
    """Return features of many scales and labels that depend on them; every label is known."""
    rng = np.random.default_rng(SEED)
    features = rng.standard_normal((n_clips, N_FEATURES), dtype=np.float32)
    signal = features[:, :200] @ rng.standard_normal((200, 15), dtype=np.float32) / 200**0.5
    features *= np.logspace(-3, 3, N_FEATURES, dtype=np.float32)
    blank = np.full(n_clips, "")
    labels = Labels(
        clip_id=np.array([f"{i:05d}" for i in range(n_clips)]),
        split=blank,
        speaker=blank,
        age=29 + 4.0 * signal[:, 10],
        country=signal[:, 11:].argmax(axis=1),
        emotion=1 / (1 + np.exp(-2.0 * signal[:, :10])),
        countries=tuple(Country(code, str(code)) for code in range(4)),
    )
    return features, labels


@dataclass
class Clock:
    """Wall and CPU time at the end of every epoch."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def stamp(self) -> None:
        """Note that an epoch has ended."""
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def epoch_s(self) -> tuple[float, float]:
        """Return the median wall and CPU time of the epochs after the first, in seconds."""
        return statistics.median(np.diff(self.wall)), statistics.median(np.diff(self.cpu))


class EpochEnds(logging.Handler):
    """Stamps a clock whenever the trainer logs the end of an epoch."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(logging.INFO)
        self.clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record of the log."""
        if record.msg.startswith("epoch "):
            self.clock.stamp()


class FrameDataset(Dataset):
    """Clips as rows of DataFrames: what one writes first."""

    def __init__(self, features: pd.DataFrame, labels: pd.DataFrame) -> None:
        self.features = features
        self.labels = labels

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, ...]:
        label = self.labels.iloc[row]
        return (
            torch.tensor(self.features.iloc[row].to_numpy()),
            torch.tensor(label[list(EMOTIONS)].to_numpy(np.float32)),
            torch.tensor(label["Age"], dtype=torch.float32),
            torch.tensor(int(label["Country"])),
        )


def standardised_frame(features: pd.DataFrame) -> pd.DataFrame:
    """Standardise as one writes it."""
    return (features - features.mean()) / features.std(ddof=0)


class ArrayStore(VectorStore):
    """Vectors that are in memory already."""

    def __init__(self, values: np.ndarray, clip_ids: np.ndarray) -> None:
        self.clip_id, self.values = clip_ids, values
        self.n_frames = np.ones(len(clip_ids), np.int64)
        self.features_digest = None
        self._row = {clip_id: row for row, clip_id in enumerate(clip_ids)}

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Return nothing: there are no files."""
        return []


def initial_network(features: np.ndarray, labels: Labels, moments: dict[str, list[float]]) -> MultitaskMlp:
    """Return the network before its first step."""
    age_mean = float(labels.age.mean())
    return NETWORK.network(features.shape[1], len(labels.countries), moments, age_mean, 1.0, SEED)


def train_over_frames(
    features: pd.DataFrame, labels: pd.DataFrame, network: MultitaskMlp, config: TrainingConfig, clock: Clock
) -> np.ndarray:
    """Train with a DataLoader, autograd and torch.optim.Adam; return the mean losses (n_epochs, n_tasks)."""
    dataset = FrameDataset(standardised_frame(features), labels)
    network.mean.zero_()
    network.scale.fill_(1.0)
    s = {task: torch.nn.Parameter(torch.tensor(config.initial_log_variance)) for task in NETWORK.tasks}
    parameters = [*network.parameters(), *s.values()]
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    shuffle = np.random.default_rng(SEED)
    curve = []
    for _ in range(config.max_epochs):
        order = shuffle.permutation(len(dataset)).tolist()
        totals, n_batches = dict.fromkeys(NETWORK.tasks, 0.0), 0
        loader = DataLoader(dataset, batch_size=config.batch_size, sampler=order)
        for inputs, emotion, age, country in loader:
            outputs = network(inputs[:, None], torch.ones(len(age)))
            losses = {
                "emotion": len(EMOTIONS) * functional.mse_loss(outputs["emotion"], emotion),
                "age": functional.mse_loss(outputs["age"], age),
                "country": functional.cross_entropy(outputs["country"], country),
            }
            total = sum(loss / (2 * torch.exp(s[task])) + s[task] / 2 for task, loss in losses.items())
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            n_batches += 1
            for task, loss in losses.items():
                totals[task] += loss.item()
        curve.append([totals[task] / n_batches for task in NETWORK.tasks])
        clock.stamp()
    return np.array(curve)


def bare_epochs(inputs: Tensor, network: torch.nn.Module, config: TrainingConfig, clock: Clock) -> None:
    """Do the matrix products and the Adam updates of the epochs, and nothing else."""
    layers = [module for module in network.modules() if isinstance(module, torch.nn.Linear)]
    flat = torch.zeros(4, sum(p.numel() for p in network.parameters()))
    first, *rest = layers
    # Inputs, weights, gradients of outputs, of weights and of inputs of each layer. The first layer's inputs are
    # the features, which need no gradient; its matrices lie as the trainer has them, the quicker way round.
    n_batch = config.batch_size
    weight, grad = (
        torch.randn(first.in_features, first.out_features),
        torch.randn(n_batch, first.out_features),
    )
    output, weight_grad = torch.empty_like(grad), torch.empty_like(weight)
    others = []
    for layer in rest:
        entered, leaving = torch.randn(n_batch, layer.in_features), torch.randn(n_batch, layer.out_features)
        matrix = torch.randn(layer.in_features, layer.out_features)
        others.append((entered, matrix, leaving, *(torch.empty_like(t) for t in (leaving, matrix, entered))))
    blocks = [[row] for row in flat.unbind()]
    flat[1].fill_(1e-3)
    n_steps = [torch.zeros(())]
    for _ in range(config.max_epochs):
        for batch in inputs.split(n_batch):
            if len(batch) < n_batch:
                continue
            torch.mm(batch, weight, out=output)
            for entered, matrix, leaving, product, matrix_grad, entered_grad in others:
                torch.mm(entered, matrix, out=product)
                torch.mm(entered.t(), leaving, out=matrix_grad)
                torch.mm(leaving, matrix.t(), out=entered_grad)
            torch.mm(batch.t(), grad, out=weight_grad)
            adam(
                *blocks,
                [],
                n_steps,
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                eps=1e-8,
                maximize=False,
            )
        clock.stamp()


def train_ours(features: np.ndarray, labels: Labels, config: TrainingConfig, n_threads: int) -> np.ndarray:
    """Train ours without Val; return the losses of every epoch [shape=(n_epochs, n_tasks)]."""
    store = ArrayStore(features, labels.clip_id)
    nothing = labels.take(slice(0, 0))
    with tempfile.TemporaryDirectory(prefix="exvo_bench_") as scratch:
        trained = train_network(
            store,
            labels,
            nothing,
            NETWORK,
            config,
            store.moments(labels.clip_id),
            SEED,
            Path(scratch, "mlp", "0"),
            n_threads=n_threads,
        )
    return np.array([[epoch[f"loss_{task}"] for task in NETWORK.tasks] for epoch in trained.history])


def first_steps_differ(features: np.ndarray, labels: Labels, config: TrainingConfig, n_threads: int) -> float:
    """Return the largest relative difference of the losses over the first steps."""
    n = FIRST_STEPS * config.batch_size
    features, labels, config = features[:n].copy(), labels.take(slice(0, n)), replace(config, max_epochs=1)
    network = initial_network(features, labels, standard_moments(features))
    theirs = train_over_frames(*as_frames(features, labels), network, config, Clock())
    ours = train_ours(features, labels, config, n_threads)
    return float(np.abs(ours / theirs - 1).max())


def as_frames(features: np.ndarray, labels: Labels) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return features and labels as DataFrames."""
    frame = pd.DataFrame(features, columns=[f"feature_{i}" for i in range(features.shape[1])])
    label_frame = pd.DataFrame(labels.emotion, columns=EMOTIONS)
    return frame, label_frame.assign(Age=labels.age, Country=labels.country)


def timed(train: Callable[[Clock], object], n_epochs: int) -> tuple[float, float]:
    """Return the wall and CPU time of an epoch in seconds."""
    clock = Clock()
    train(clock)
    if len(clock.wall) != n_epochs:
        raise RuntimeError(
            f"{len(clock.wall)} of {n_epochs} epochs were timed: does the trainer log them still?"
        )
    return clock.epoch_s()


def main() -> None:
    """Compare the loss curves, then race."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=19_990, help="of Train (19,990)")
    parser.add_argument("--epochs", type=int, default=3, help="at least 2, as the first is not timed (3)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, in all")
    arguments = parser.parse_args()
    if arguments.epochs < 2:
        parser.error("--epochs: at least 2")
    torch.set_num_threads(arguments.threads)
    features, labels = synthetic(arguments.clips)
    frame, label_frame = as_frames(features, labels)
    config = replace(TRAINING, max_epochs=arguments.epochs)
    moments = standard_moments(features)
    curves = {}
    trainer = logging.getLogger("exvo.training.epoch_log")
    trainer.setLevel(logging.INFO)
    trainer.propagate = False

    def ours(clock: Clock) -> None:
        handler = EpochEnds(clock)
        trainer.addHandler(handler)
        curves["ours"] = train_ours(features, labels, config, arguments.threads)
        trainer.removeHandler(handler)

    def theirs(clock: Clock) -> None:
        network = initial_network(features, labels, moments)
        curves["theirs"] = train_over_frames(frame, label_frame, network, config, clock)

    def floor(clock: Clock) -> None:
        bare_epochs(inputs, initial_network(features, labels, moments), config, clock)

    rounds = []
    inputs = torch.from_numpy(features)
    for _ in range(arguments.repeats):
        rounds.append([timed(side, arguments.epochs) for side in (ours, theirs, floor)])
        print(
            "seconds of an epoch (wall, CPU) of ours, theirs and the floor:", np.round(rounds[-1], 2).tolist()
        )
    found, expected = curves["ours"], curves["theirs"]
    first = first_steps_differ(features, labels, config, arguments.threads)
    print(f"losses of ours: {found.round(4).tolist()}; theirs: {expected.round(4).tolist()}")
    words = (
        f"losses of the first {FIRST_STEPS} steps within {first:.0e}; at the end {abs(found / expected - 1).max():.1%}"
        " apart"
    )
    print(words)
    write_records(epoch_records(np.array(rounds), arguments.clips, words if first < AGREE else False))


def epoch_records(rounds: np.ndarray, n_clips: int, same: bool | str) -> list[Record]:
    """Return the records of the epochs.

    Parameters
    ----------
    rounds : np.ndarray [shape=(n_rounds, 3, 2)]
        Seconds of an epoch of ours, theirs and the floor, by wall and CPU.
    n_clips : int
        Of an epoch.
    same : bool or str
        Whether the losses of ours and theirs agree.
    """
    rates = (n_clips / np.median(rounds, axis=0)).round(2).tolist()
    theirs, floor = (np.median(rounds[:, side] / rounds[:, 0], axis=0).round(2).tolist() for side in (1, 2))
    limit = np.median(rounds[:, 1] / rounds[:, 2], axis=0)
    words = (
        f"no: no activations, losses or norms; it is {limit[0]:.1f} x the loop over DataFrames"
        f" ({limit[1]:.1f} by CPU time), the limit of the ratio"
    )
    peers = (
        (f"DataFrame Dataset, DataLoader, autograd, torch.optim.Adam ({n_clips:,} clips)", theirs, 1, same),
        ("the floor: bare matrix products and fused Adam over the same arrays", floor, 2, words),
    )
    return [
        Record(
            "organisers",
            peer,
            ratio[0],
            rates[0][0],
            rates[side][0],
            "clips/s of training",
            match,
            ratio[1],
            rates[0][1],
            rates[side][1],
        )
        for peer, ratio, side, match in peers
    ]


if __name__ == "__main__":
    main()
