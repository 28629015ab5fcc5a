"""Whole epochs of training against the network alone, in the same run: what reading, logging and checkpoints cost.

Ours is `train_network` as the workflow calls it: frames read from memory-mapped shards and masked (SpecAugment),
the training loop, both logs, validation with its metrics, and a checkpoint after every epoch. The peer is a bare loop
of the same steps on batches that are in memory already: forward, loss, backward, clipping, AdamW, and the forward
passes of validation. So the ratio is the share of an epoch that is spent inside the network. Set-up is not part of
it: each side is timed with 1 and with 1 + N epochs, and the difference counts. The losses of both sides must agree.

One thread on each side. Wall time is what an epoch takes, and what waits for the disk is in it (a checkpoint of less
than a megabyte an epoch); CPU time of the process stands beside it, for other programs on the machine disturb that
less.

Then the Conformer of full size, training and inference, against the rate of sgemm on one thread. Its work is what torch
counts for every clip alone, so padding lowers the rate.

Run: ``python benchmarks/bench_training.py [--clips N] [--epochs N] [--repeats N]``; frames of random log-mel
as long as bursts.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from common import Record, one_thread, write_records

one_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from roofline import against_sgemm  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from exvo.corpus.labels import EMOTIONS, Country, Labels  # noqa: E402
from exvo.features.store import FeatureRow, write_sequences  # noqa: E402
from exvo.networks.conformer import ConformerConfig  # noqa: E402
from exvo.networks.conformer_network import ConformerNetwork, ConformerNetworkConfig  # noqa: E402
from exvo.networks.losses import CombinedLoss  # noqa: E402
from exvo.networks.strf import StrfConfig  # noqa: E402
from exvo.training.batches import SpecAugment, TrainBatches  # noqa: E402
from exvo.training.frames import FrameStore  # noqa: E402
from exvo.training.learner import learning_rate  # noqa: E402
from exvo.training.predict import prediction_batches  # noqa: E402
from exvo.training.train import train_network  # noqa: E402
from exvo.training.trained import TrainingConfig  # noqa: E402

N_MELS, SEED = 80, 0
ROOFLINE_BATCH = 8
# The networks of the demo config, the smallest in use, so that everything around them weighs most.
DEMO = ConformerNetworkConfig(
    blocks=ConformerConfig(d_model=64, n_heads=4, ffn=128, n_blocks=2, kernel=15, subsampling_channels=16),
    strf=StrfConfig(n_kernels=8, support_frames=15, support_channels=15),
    d_attention=32,
    head=32,
)
TRAINING = TrainingConfig(
    batch_size=8, spec_augment=SpecAugment(), emotion_loss="ccc", device="cpu", patience=100
)


class Seconds(NamedTuple):
    """Wall time and CPU time of the process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Seconds":
        """Return both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: "Seconds") -> "Seconds":
        """Return what has passed."""
        return Seconds(self.wall - start.wall, self.cpu - start.cpu)


def write_corpus(folder: Path, n_clips: int) -> tuple[FrameStore, Labels, Labels, dict]:
    """Write random frames in shards; return them with labels of Train (two thirds) and Val, and their moments."""
    rng = np.random.default_rng(SEED)
    ids = np.array([f"c{clip:05d}" for clip in range(n_clips)], dtype=object)
    rows = [
        FeatureRow(clip_id, rng.standard_normal((rng.integers(60, 400), N_MELS)) - 8, "ok", "")
        for clip_id in ids
    ]
    shards = [(folder / f"{shard}.npy", folder / f"{shard}.parquet") for shard in range(2)]
    for shard, paths in enumerate(shards):
        write_sequences(*paths, rows[shard::2], N_MELS, "float16")
    split = np.where(np.arange(n_clips) < n_clips * 2 // 3, "Train", "Val")
    labels = Labels(
        ids,
        split,
        np.full(n_clips, ""),
        rng.uniform(20, 39, n_clips),
        rng.integers(0, 4, n_clips),
        rng.random((n_clips, len(EMOTIONS))),
        tuple(Country(i, f"Country {i}") for i in range(4)),
    )
    moments = {"mean": [-8.0] * N_MELS, "std": [1.0] * N_MELS}
    return FrameStore(shards), labels.take(split == "Train"), labels.take(split == "Val"), moments


def bare_loop(
    config: ConformerNetworkConfig,
    store: FrameStore,
    train: Labels,
    val: Labels,
    moments: dict,
    n_epochs: int,
) -> tuple[Seconds, list[float]]:
    """Train on batches in memory; return the seconds and the mean loss of each epoch."""
    mean, std = (np.asarray(moments[name], np.float32) for name in ("mean", "std"))
    network = ConformerNetwork(
        config, N_MELS, len(train.countries), mean, std, float(train.age.mean()), float(train.age.std()), SEED
    )
    loss = CombinedLoss(
        config.tasks,
        combination="weighted",
        weights=TRAINING.loss_weights,
        emotion_loss=TRAINING.emotion_loss,
    )
    parameters = [*network.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": TRAINING.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=TRAINING.learning_rate, fused=True)
    made = TrainBatches(
        store,
        train,
        batch_size=TRAINING.batch_size,
        seed=SEED,
        crop_frames=TRAINING.crop_frames,
        spec_augment=TRAINING.spec_augment,
        fill=mean,
    )
    epochs = [list(made.epoch(number)) for number in range(1, n_epochs + 1)]
    val_batches = list(prediction_batches(store, val.clip_id))
    losses = []
    start = Seconds.now()
    for number, batches in enumerate(epochs, start=1):
        torch.manual_seed(int(np.random.SeedSequence([SEED, number]).generate_state(1, np.uint64)[0]))
        network.train()
        total = 0.0
        for index, batch in enumerate(batches):
            for group in optimizer.param_groups:
                place = (number - 1 + (index + 0.5) / len(batches)) / n_epochs
                group["lr"] = learning_rate(place, TRAINING)
            optimizer.zero_grad()
            value, _ = loss(network(batch.frames, batch.lengths), batch.targets)
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, TRAINING.gradient_clip)
            optimizer.step()
            total += value.item()
        losses.append(total / len(batches))
        network.eval()
        with torch.no_grad():
            for batch in val_batches:
                network(batch.frames, batch.lengths)
    return Seconds.now().since(start), losses


def whole(
    config: ConformerNetworkConfig,
    store: FrameStore,
    train: Labels,
    val: Labels,
    moments: dict,
    n_epochs: int,
) -> tuple[Seconds, list[float]]:
    """Train as the workflow does; return the seconds and the mean loss of each epoch."""
    with tempfile.TemporaryDirectory(prefix="exvo_bench_") as folder:
        start = Seconds.now()
        trained = train_network(
            store, train, val, config, replace(TRAINING, max_epochs=n_epochs), moments, SEED, folder
        )
        return Seconds.now().since(start), [record["loss"] for record in trained.history]


def rates(pairs: list[list[float]], arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Return the median share of an epoch that the network takes, and clips per second of both sides."""
    n_clips = arguments.epochs * arguments.clips
    columns = zip(*pairs, strict=True)
    share = statistics.median(theirs / ours for ours, theirs in pairs)
    return share, *(n_clips / statistics.median(column) for column in columns)


def conformer_rooflines(seed: int = SEED) -> list[Record]:
    """Return GFLOP/s of training steps and of inference of the full-size Conformer on log-mel, beside sgemm.

    The batch is as the trainer makes them, of clips of similar lengths; the step is forward, backward and AdamW.
    """
    rng = np.random.default_rng(seed)
    lengths = torch.from_numpy(
        np.sort(rng.integers(60, 400, 8 * ROOFLINE_BATCH))[-3 * ROOFLINE_BATCH : -2 * ROOFLINE_BATCH]
    )
    frames = torch.randn(len(lengths), int(lengths.max()), N_MELS)
    mean, std = np.zeros(N_MELS, np.float32), np.ones(N_MELS, np.float32)
    network = ConformerNetwork(ConformerNetworkConfig(), N_MELS, 4, mean, std, 29.0, 5.0, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step(batch: torch.Tensor, n_frames: torch.Tensor) -> None:
        optimizer.zero_grad()
        sum(output.square().mean() for output in network(batch, n_frames).values()).backward()
        optimizer.step()

    def infer(batch: torch.Tensor, n_frames: torch.Tensor) -> None:
        with torch.inference_mode():
            network(batch, n_frames)

    records = []
    for words, work, training in (("training", step, True), ("inference", infer, False)):
        network.train(training)
        with FlopCounterMode(display=False) as counter:
            for clip, n in zip(frames, lengths.tolist(), strict=True):
                work(clip[None, :n], torch.tensor([n]))
        work(frames, lengths)
        flops = counter.get_total_flops()
        records.append(
            against_sgemm(
                "training",
                lambda work=work: work(frames, lengths),
                flops,
                words=f"{words} of the full-size Conformer, {len(lengths)} clips",
            )
        )
    return records


def main() -> None:
    """Time both networks and write the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    records = []
    with tempfile.TemporaryDirectory(prefix="exvo_bench_") as folder:
        data = write_corpus(Path(folder), arguments.clips)
        for frontend in ("logmel", "strf"):
            config = replace(DEMO, frontend=frontend)
            pairs, same = [], True
            for _ in range(arguments.repeats):
                seconds = {}
                for n_epochs in (1, 1 + arguments.epochs):
                    for name, side in (("ours", whole), ("theirs", bare_loop)):
                        seconds[name, n_epochs], losses = side(config, *data, n_epochs)
                        seconds[name, "losses"] = losses
                same &= np.allclose(seconds["ours", "losses"], seconds["theirs", "losses"], rtol=1e-5)
                pairs.append(
                    [
                        seconds[name, 1 + arguments.epochs].since(seconds[name, 1])
                        for name in ("ours", "theirs")
                    ]
                )
            (share, ours, theirs), (cpu_share, ours_cpu, theirs_cpu) = (
                rates([[getattr(side, clock) for side in pair] for pair in pairs], arguments)
                for clock in Seconds._fields
            )
            records.append(
                Record(
                    "training",
                    f"the network alone, {frontend}",
                    round(share, 3),
                    round(ours, 2),
                    round(theirs, 2),
                    "clips/s",
                    bool(same),
                    cpu_ratio=round(cpu_share, 3),
                    ours_per_core=round(ours_cpu, 2),
                    theirs_per_core=round(theirs_cpu, 2),
                )
            )
    write_records(records + conformer_rooflines())


if __name__ == "__main__":
    main()
