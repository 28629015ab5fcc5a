"""The STRF layer forward and backward against other ways to the same outputs and gradients, in the same run.

Every side does the whole job: kernels from rate and scale, the responses, and the gradients of rate and scale.
The peers: one plain ``conv2d`` with the kernels written out; the separable form as two ``conv2d`` (one real pass
along time, one grouped pass along channels); and the separable form as matrix products (unfolded frames, then a
banded matrix along channels). Before the race, outputs must agree within 1e-5, and gradients within 1e-4 of
their largest value.

Run: ``python benchmarks/bench_strf.py [--batch N] [--repeats N] [--threads N ...]``. Where other programs use the
same cores, set ``OMP_WAIT_POLICY=PASSIVE`` for more than one thread: threads that wait by spinning take the turns
of those they wait for, and the more steps a form has, the more it suffers.
"""

import argparse
import time
from collections.abc import Callable

import torch
from common import race, write_records
from torch import Tensor
from torch.nn import functional

from exvo.networks.strf import Strf

N_FRAMES, N_MELS = 220, 80


def plain(layer: Strf, logmel: Tensor) -> Tensor:
    """Convolve with the kernels written out."""
    kernels = layer.kernels()
    padding = [size // 2 for size in kernels.shape[1:]]
    return functional.conv2d(logmel[:, None], kernels[:, None], padding=padding)


def one_dimensional_parts(layer: Strf) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give cosine and sine along time, cosine and sine along channels, under their windows: (n_kernels, taps)."""
    parts = []
    for angle, size in (
        (layer.rate, layer.config.support_frames),
        (layer.scale, layer.config.support_channels),
    ):
        offsets = torch.arange(size) - size // 2
        phase = angle[:, None] * offsets
        window = torch.hann_window(size + 2, periodic=False)[1:-1]
        parts += [window * phase.cos(), window * phase.sin()]
    return tuple(parts)


def part_norms(parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Give the norms of the real and the imaginary parts; even times odd taps sum to zero, so no cross terms."""
    cos_t, sin_t, cos_f, sin_f = (part.square().sum(dim=1, keepdim=True) for part in parts)
    return (cos_t * cos_f + sin_t * sin_f).sqrt(), (sin_t * cos_f + cos_t * sin_f).sqrt()


def separable_convolutions(layer: Strf, logmel: Tensor) -> Tensor:
    """Convolve along time, then along channels, with ``conv2d`` both times."""
    parts = one_dimensional_parts(layer)
    cos_t, sin_t, cos_f, sin_f = parts
    real, imaginary = part_norms(parts)
    n_kernels, taps = cos_t.shape
    along_time = torch.stack([cos_t, sin_t], dim=1).view(2 * n_kernels, 1, taps, 1)
    passed = functional.conv2d(logmel[:, None], along_time, padding=(taps // 2, 0))
    to_real = torch.stack([cos_f, -sin_f], dim=1) / real[:, None]
    to_imaginary = torch.stack([sin_f, cos_f], dim=1) / imaginary[:, None]
    along_channels = torch.stack([to_real, to_imaginary], dim=1).view(2 * n_kernels, 2, 1, -1)
    responses = functional.conv2d(passed, along_channels, padding=(0, cos_f.shape[1] // 2), groups=n_kernels)
    return responses.unflatten(1, (n_kernels, 2)).transpose(1, 2).flatten(1, 2).contiguous()


def separable_products(layer: Strf, logmel: Tensor) -> Tensor:
    """Multiply unfolded frames with the parts along time, then with banded matrices along channels."""
    parts = one_dimensional_parts(layer)
    cos_t, sin_t, cos_f, sin_f = parts
    real, imaginary = part_norms(parts)
    taps = cos_t.shape[1]
    n_clips, n_frames, n_mels = logmel.shape
    padded = functional.pad(logmel, (0, 0, taps // 2, taps // 2))
    unfolded = padded.unfold(1, n_frames, 1).transpose(2, 3).reshape(n_clips, taps, -1)
    cos_pass, sin_pass = ((part @ unfolded).view(n_clips, -1, n_frames, n_mels) for part in (cos_t, sin_t))
    cos_band, sin_band = (banded(part, n_mels) for part in (cos_f, sin_f))
    real_part = (cos_pass @ cos_band - sin_pass @ sin_band) / real[:, None]
    imaginary_part = (sin_pass @ cos_band + cos_pass @ sin_band) / imaginary[:, None]
    return torch.cat([real_part, imaginary_part], dim=1)


def banded(taps: Tensor, n_mels: int) -> Tensor:
    """Give the matrices whose product with a row of channels is its cross-correlation with the taps."""
    half = taps.shape[1] // 2
    offset = torch.arange(n_mels)[:, None] - torch.arange(n_mels) + half
    inside = (offset >= 0) & (offset < taps.shape[1])
    return taps[:, offset.clamp(0, taps.shape[1] - 1)] * inside


def largest_difference(layer: Strf, form: Callable, logmel: Tensor, weights: Tensor) -> tuple[float, float]:
    """Give the largest difference of outputs, and of gradients as a share of the largest gradient."""
    outputs, gradients = [], []
    for respond in (layer, lambda x: form(layer, x)):
        output = respond(logmel)
        outputs.append(output.detach())
        gradients.append(torch.cat(torch.autograd.grad(output, (layer.rate, layer.scale), weights)))
    difference = (gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()
    return (outputs[0] - outputs[1]).abs().max().item(), difference.item()


def main() -> None:
    """Compare outputs and gradients, race every form and write the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    layer = Strf(generator=generator)
    logmel = torch.randn(arguments.batch, N_FRAMES, N_MELS, generator=generator)
    weights = torch.randn(arguments.batch, 2 * layer.config.n_kernels, N_FRAMES, N_MELS, generator=generator)
    forms = {
        "plain conv2d": plain,
        "separable conv2d": separable_convolutions,
        "separable matrix products": separable_products,
    }

    def step(respond: Callable) -> tuple[float, float]:
        layer.zero_grad()
        start = time.perf_counter()
        output = respond(logmel)
        middle = time.perf_counter()
        output.backward(weights)
        return middle - start, time.perf_counter() - middle

    records = []
    for n_threads in arguments.threads:
        torch.set_num_threads(n_threads)
        for name, form in forms.items():
            by_output, by_gradient = largest_difference(layer, form, logmel, weights)
            same = by_output <= 1e-5 and by_gradient <= 1e-4
            passes = {"ours": [], "theirs": []}
            records.append(
                race(
                    "strf",
                    f"{name}, {n_threads} thread{'s' * (n_threads > 1)}",
                    lambda passes=passes: passes["ours"].append(step(layer)),
                    lambda form=form, passes=passes: passes["theirs"].append(step(lambda x: form(layer, x))),
                    n_clips=arguments.batch,
                    outputs_match=same or f"outputs {by_output:.1e}, gradients {by_gradient:.1e} apart",
                    repeats=arguments.repeats,
                )
            )
            for side, seconds in passes.items():
                forward, backward = (min(column) * 1000 for column in zip(*seconds, strict=True))
                print(
                    f"{name}, {n_threads} threads, {side}: forward {forward:.0f} ms, backward {backward:.0f} ms"
                )
    write_records(records)


if __name__ == "__main__":
    main()
