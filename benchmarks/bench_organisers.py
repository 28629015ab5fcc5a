"""Train the organisers' network against a straightforward PyTorch loop over pandas DataFrames.

Both standardise the same synthetic features on Train and train the same epochs from the same initial weights
the same order of clips; first their loss curves are compared.

    python benchmarks/bench_organisers.py --clips 19990
"""

import argparse

import numpy as np
import pandas as pd
import torch
from common import race, write_records
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from exvo.corpus.labels import EMOTIONS, Country, Labels
from exvo.models.mlp_training import MlpConfig, initial_network, train_mlp
from exvo.models.standardise import Standardisation

N_FEATURES = 6373
SEED = 0


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


def train_over_frames(
    features: pd.DataFrame, labels: pd.DataFrame, network: torch.nn.Module, config: MlpConfig
) -> list[dict[str, float]]:
    """Train with a DataLoader, autograd and torch.optim.Adam; return the mean losses of every epoch."""
    dataset = FrameDataset((features - features.mean()) / features.std(ddof=0), labels)
    optimiser = torch.optim.Adam(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    shuffle = np.random.default_rng(SEED)
    curve = []
    for _ in range(config.max_epochs):
        order = shuffle.permutation(len(dataset)).tolist()
        totals = dict.fromkeys(("emotion", "age", "country"), 0.0)
        loader = DataLoader(dataset, batch_size=config.batch_size, sampler=order)
        for inputs, emotion, age, country in loader:
            outputs = network(inputs)
            losses = {
                "emotion": len(EMOTIONS) * functional.mse_loss(outputs["emotion"], emotion),
                "age": functional.mse_loss(outputs["age"][:, 0], age),
                "country": functional.cross_entropy(outputs["country"], country),
            }
            s = network.log_variances
            total = sum(loss / (2 * torch.exp(s[task])) + s[task] / 2 for task, loss in losses.items())
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            for task, loss in losses.items():
                totals[task] += loss.item()
        curve.append({f"loss_{task}": value / len(loader) for task, value in totals.items()})
    return curve


def main() -> None:
    """Compare the loss curves, then race."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, in both")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    features, labels = synthetic(arguments.clips)
    frame = pd.DataFrame(features, columns=[f"feature_{i}" for i in range(N_FEATURES)])
    label_frame = pd.DataFrame(labels.emotion, columns=EMOTIONS)
    label_frame = label_frame.assign(Age=labels.age, Country=labels.country)
    config = MlpConfig(max_epochs=arguments.epochs, device="cpu")
    moments = Standardisation.fit(features, config.max_deviation)

    def ours() -> list[dict[str, float]]:
        trained = train_mlp(
            features,
            labels,
            features[:0],
            labels.take(slice(0, 0)),
            config,
            SEED,
            n_threads=arguments.threads,
        )
        return trained.history

    def theirs() -> list[dict[str, float]]:
        network = initial_network(moments, labels, config.tasks, config, SEED)
        return train_over_frames(frame, label_frame, network, config)

    first = ours()
    curves = [
        np.array([[epoch[f"loss_{task}"] for task in config.tasks] for epoch in run])
        for run in (first, theirs())
    ]
    difference = abs(curves[0] / curves[1] - 1).max()
    print(f"losses of ours: {curves[0].round(4).tolist()}; largest relative difference {difference:.1e}")
    print(f"seconds of our epochs without standardisation: {[round(e['seconds'], 2) for e in first]}")
    record = race(
        "organisers",
        f"DataFrame Dataset, DataLoader, autograd, torch.optim.Adam ({arguments.clips} clips)",
        ours,
        theirs,
        n_clips=arguments.clips * arguments.epochs,
        outputs_match=bool(difference < 0.01) and f"losses within {difference:.1e}",
        repeats=arguments.repeats,
        unit="clips/s of training",
    )
    write_records([record])


if __name__ == "__main__":
    main()
