"""HuBERT embeddings against torchaudio's ``extract_features`` clip by clip, and against the matrix-multiply rate.

HuBERT Base with random weights, float32, one thread each: the last layer of every clip. The work of a clip is what
torch counts for the clip alone (about 14 GFLOP a second of audio), so padding or waste of any kind lowers our rate.
The rate of sgemm is measured between the runs, on square matrices of 1,024.

Run: ``python benchmarks/bench_hubert.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

import statistics
import time
from collections.abc import Callable

from common import SAMPLE_RATE, Record, one_thread, parse_arguments, race, read_clips, write_records

one_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from exvo.models.hubert import RECEPTIVE_FIELD, HubertConfig, build_hubert, hidden_states  # noqa: E402

TOLERANCE = 1e-4
TARGET = 0.8  # of the rate of sgemm
SIDE = 1024
ROUNDS = 3


def sgemm_seconds(flops: float) -> float:
    """Return how long sgemm takes for some floating-point operations, by its best of a few products."""
    a, b = torch.randn(2, SIDE, SIDE)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return min(seconds) * flops / (2 * SIDE**3)


def share_of_sgemm(ours: Callable[[], object], flops: float) -> Record:
    """Return the rate of ours beside the target, each round against sgemm just before and after it."""
    shares, rates = [], []
    for _ in range(ROUNDS):
        before = sgemm_seconds(flops)
        start = time.perf_counter()
        ours()
        seconds = time.perf_counter() - start
        shares.append(min(before, sgemm_seconds(flops)) / seconds)
        rates.append(flops / seconds / 1e9)
    share, rate = statistics.median(shares), statistics.median(rates)
    return Record(
        "hubert",
        f"{TARGET:.0%} of the rate of sgemm",
        round(share / TARGET, 2),
        round(rate, 1),
        round(TARGET * rate / share, 1),
        "GFLOP/s",
        f"{share:.0%} of sgemm",
    )


def main() -> None:
    """Compare the embeddings, run the race and write the records."""
    arguments = parse_arguments(__doc__, n_clips=24)
    torch.set_num_threads(1)
    clips = read_clips(arguments.corpus, arguments.clips, min_seconds=RECEPTIVE_FIELD / SAMPLE_RATE)
    model = build_hubert(HubertConfig(), seed=0).eval()
    last = model.config.n_layers

    def ours() -> list[np.ndarray]:
        return [states[0] for states in hidden_states(model, clips, [last])]

    def theirs() -> list[np.ndarray]:
        with torch.inference_mode():
            return [model.extract_features(torch.from_numpy(clip)[None])[0][-1][0].numpy() for clip in clips]

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for clip in clips:
            model.extract_features(torch.from_numpy(clip)[None])
    flops = counter.get_total_flops()
    furthest = max(float(np.abs(a - b).max()) for a, b in zip(ours(), theirs(), strict=True))
    records = [
        race(
            "hubert",
            "torchaudio extract_features, clip by clip",
            ours,
            theirs,
            n_clips=len(clips),
            outputs_match=furthest < TOLERANCE or f"embeddings differ by up to {furthest:.1e}",
            repeats=ROUNDS,
        ),
        share_of_sgemm(ours, flops),
    ]
    write_records(records)
    seconds = sum(len(clip) for clip in clips) / SAMPLE_RATE
    print(f"{flops / seconds / 1e9:.1f} GFLOP a second of audio; furthest from torchaudio: {furthest:.1e}")


if __name__ == "__main__":
    main()
