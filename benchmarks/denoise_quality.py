"""Measure what the denoiser does to bursts and to noise, in the order of the workflow: the high-pass filter first.

Tables in Markdown: SNR gained, beside that of ``logmmse`` and ``noisereduce`` on the same filtered clips; distortion
of clean bursts; energy kept of breath; how far pauses are attenuated, and musical noise there: the ratio of the
kurtosis of the power after to that before (Uemura et al., IWAENC 2008; 1 is none). With a corpus, the quiet
stretches of 1,000 of its clips are a noise too, and the noise that is found there is held against what is there.

Run: ``python benchmarks/denoise_quality.py [--corpus PATH] [--bursts N] [--ours-only]``. To measure another state of
the code, put its ``src`` on PYTHONPATH.
"""

from common import one_thread, peer_module, read_clips

one_thread()

import argparse  # noqa: E402
import math  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from noisy_bursts import (  # noqa: E402
    NOISES,
    SAMPLE_RATE,
    Noise,
    NoisyBurst,
    breath,
    burst_without_pause,
    bursts_with_pauses,
    looped,
    mix,
    noisy_bursts,
    quiet_stretch,
    quiet_stretches,
    without_ends,
)

from exvo.audio.denoise import DenoiseConfig, denoise_clips  # noqa: E402
from exvo.audio.highpass import HighpassConfig, highpass_clips  # noqa: E402
from exvo.audio.noise_tracker import track_noise  # noqa: E402
from exvo.audio.stft import Stft  # noqa: E402

SNR_DB = (5, 15, 25, 35)
N_CORPUS_CLIPS = 1000
BANDS_HZ = ((94, 250), (250, 500), (500, 1000), (1000, 2000), (2000, 8000))
Denoise = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def ours(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Denoise by the default config."""
    return denoise_clips(clips, SAMPLE_RATE, DenoiseConfig())[0]


def peers() -> dict[str, Denoise]:
    """Return the packages that ours is compared with, each as it comes."""
    before = np.geterr()
    logmmse = peer_module("logmmse").logmmse
    np.seterr(**before)  # logmmse makes every underflow an error, in everybody's code
    noisereduce = peer_module("noisereduce")
    return {
        "logmmse": lambda clips: [logmmse(clip.copy(), SAMPLE_RATE) for clip in clips],
        "noisereduce": lambda clips: [noisereduce.reduce_noise(y=clip, sr=SAMPLE_RATE) for clip in clips],
        "noisereduce, stationary": lambda clips: [
            noisereduce.reduce_noise(y=clip, sr=SAMPLE_RATE, stationary=True) for clip in clips
        ],
    }


def snr_db(clean: np.ndarray, found: np.ndarray) -> float:
    """Return the SNR of what was found; logmmse leaves the last part of a frame out."""
    clean = clean[: len(found)]
    error = float(np.square(clean - found[: len(clean)]).sum())
    return 10 * math.log10(float(np.square(clean).sum()) / max(error, 1e-20))


def gained_db(denoise: Denoise, bursts: Sequence[NoisyBurst]) -> float:
    """Return by how much SNR rises on average."""
    outputs = denoise([burst.noisy for burst in bursts])
    gains = [
        snr_db(b.clean, output) - snr_db(b.clean, b.noisy) for b, output in zip(bursts, outputs, strict=True)
    ]
    return float(np.mean(gains))


def gain_table(denoisers: dict[str, Denoise], noises: dict[str, Noise], n_bursts: int) -> None:
    """Print SNR gained for each noise, with and without pauses."""
    print("| noise | pauses | denoiser | " + " | ".join(f"{snr} dB" for snr in SNR_DB) + " |")
    print("|---|---|---|" + "---|" * len(SNR_DB))
    for name, noise in noises.items():
        for pauses in (True, False):
            clips = {
                snr: list(noisy_bursts(noise, pauses=pauses, snr_db=snr, n_bursts=n_bursts)) for snr in SNR_DB
            }
            for denoiser, run in denoisers.items():
                gains = " | ".join(f"{gained_db(run, clips[snr]):.1f}" for snr in SNR_DB)
                print(f"| {name} | {'yes' if pauses else 'no'} | {denoiser} | {gains} |", flush=True)


def print_percentiles(title: str, values: Sequence[float]) -> None:
    """Print the lowest values and the median."""
    low, tenth, middle = np.percentile(values, [1, 10, 50])
    print(f"| {title} | {low:.2f} | {tenth:.2f} | {middle:.2f} |")


def voice_table(n_bursts: int) -> None:
    """Print the SNR of bursts that came clean or at 40 dB, and the change of energy of breath."""
    rng = np.random.default_rng(5)
    print("| what | 1st percentile | 10th | median |\n|---|---|---|---|")
    for name, make in (("with pauses", bursts_with_pauses), ("without a pause", burst_without_pause)):
        for snr in (math.inf, 40.0):
            clips = []
            for _ in range(n_bursts):
                burst = make(rng)
                clips.append(mix(burst, NOISES["pink"](rng, len(burst)), snr))
            outputs = ours([clip.noisy for clip in clips])
            came = "clean" if snr == math.inf else f"at {snr:.0f} dB"
            ratios = [snr_db(clip.clean, output) for clip, output in zip(clips, outputs, strict=True)]
            print_percentiles(f"SNR in dB of bursts {name} that came {came}", ratios)
    for snr in (math.inf, 40.0, 20.0):
        clips = []
        for _ in range(n_bursts):
            burst = breath(rng)
            clips.append(mix(burst, NOISES["pink"](rng, len(burst)), snr).noisy)
        changes = [
            20 * math.log10(np.linalg.norm(output) / np.linalg.norm(clip))
            for clip, output in zip(clips, ours(clips), strict=True)
        ]
        came = "clean" if snr == math.inf else f"at {snr:.0f} dB"
        print_percentiles(f"change of energy in dB of breath that came {came}", changes)


def real_voice_table(clips: Sequence[np.ndarray]) -> None:
    """Print the SNR of real clips that came at 40 dB, whole and cut down to what is no pause."""
    rng = np.random.default_rng(8)
    print("| what | 1st percentile | 10th | median |\n|---|---|---|---|")
    for name, cut in (("as recorded", lambda clip: clip), ("cut down to the burst", without_ends)):
        bursts = [cut(clip) for clip in clips if clip.any()]
        bursts = [burst for burst in bursts if len(burst) > 0.1 * SAMPLE_RATE]
        noisy = [mix(burst, NOISES["pink"](rng, len(burst)), 40.0) for burst in bursts]
        outputs = ours([clip.noisy for clip in noisy])
        ratios = [snr_db(clip.clean, output) for clip, output in zip(noisy, outputs, strict=True)]
        print_percentiles(f"SNR in dB of {len(ratios)} real clips at 40 dB, {name}", ratios)


def pause_table(noises: dict[str, Noise], n_bursts: int) -> None:
    """Print attenuation of noise in a pause before a burst, and the ratio of the kurtosis of its power."""
    print("| noise at 10 dB | attenuation in pauses, dB | kurtosis ratio |\n|---|---|---|")
    for name, noise in noises.items():
        rng = np.random.default_rng(7)
        taken, ratios = [], []
        for _ in range(n_bursts):
            burst = np.concatenate([np.zeros(8000), burst_without_pause(rng), np.zeros(4000)])
            noisy = mix(burst, noise(rng, len(burst)), 10).noisy
            (output,) = ours([noisy])
            before, after = (_pause_power(signal[:7000]) for signal in (noisy, output))
            taken.append(10 * math.log10(after.sum() / before.sum()))
            ratios.append(_kurtosis(after) / _kurtosis(before))
        print(f"| {name} | {np.median(taken):.1f} | {np.median(ratios):.2f} |")


def _pause_power(signal: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float64), 512)[::256]
    return (np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2)[:, 3:]


def _kurtosis(power: np.ndarray) -> float:
    # Of each bin around its own mean, so that the colour of the noise is none.
    relative = power / power.mean(axis=0)
    return float(np.mean((relative - 1) ** 4) / np.mean((relative - 1) ** 2) ** 2)


def real_table(clips: Sequence[np.ndarray]) -> None:
    """Print how far the noise found in quiet stretches of real clips lies from what is there, and what is taken off."""
    errors, taken = [], []
    for clip in clips:
        place = quiet_stretch(clip)
        if place is None:
            continue
        filtered, _ = highpass_clips([clip], SAMPLE_RATE, HighpassConfig())
        errors.append(_found_and_true_db(filtered[0], place))
        before, after = (np.linalg.norm(signal[place]) for signal in (filtered[0], ours(filtered)[0]))
        taken.append(20 * math.log10(after / before))
    rows = np.percentile(errors, [25, 50, 75], axis=0)
    print(f"{len(errors)} of {len(clips)} clips have a steady quiet stretch.\n")
    names = " | ".join(f"{low} to {high} Hz" for low, high in BANDS_HZ)
    print(
        f"| noise found over noise there, dB | {names} | taken off, dB |\n|---|{'---|' * (len(BANDS_HZ) + 1)}"
    )
    for name, row, loss in zip(
        ("25th percentile", "median", "75th"), rows, np.percentile(taken, [25, 50, 75]), strict=True
    ):
        print(f"| {name} | {' | '.join(f'{error:.1f}' for error in row)} | {loss:.1f} |")


def _found_and_true_db(clip: np.ndarray, place: slice) -> list[float]:
    """Return by how many dB the noise tracked in a stretch lies above the power there, in each band."""
    config = DenoiseConfig()
    hop_length = round(config.frame_ms * SAMPLE_RATE / 1000 / config.overlap)
    window = Stft(hop_length, config.overlap).window
    power = _power(clip, window, hop_length)
    per_block = round(config.block_ms * SAMPLE_RATE / 1000 / hop_length / 2)
    floor = 10 ** (config.noise_floor_db / 10) * float((window**2).sum())
    bin_hz = SAMPLE_RATE / len(window)
    noise = track_noise(power[::2], config, bin_hz=bin_hz, frames_per_block=per_block, floor=floor)
    samples_a_block = 2 * per_block * hop_length
    found = noise[place.start // samples_a_block : place.stop // samples_a_block].mean(axis=0)
    there = _power(clip[place], window, hop_length).mean(axis=0)
    bins = [slice(round(low / bin_hz), round(high / bin_hz)) for low, high in BANDS_HZ]
    return [10 * math.log10(found[band].sum() / there[band].sum()) for band in bins]


def _power(signal: np.ndarray, window: np.ndarray, hop_length: int) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(signal, len(window))[::hop_length]
    return np.square(np.abs(np.fft.rfft(frames * window))).astype(np.float32)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="a corpus whose quiet stretches are a noise too")
    parser.add_argument("--bursts", type=int, default=10, help="bursts of each kind (10)")
    parser.add_argument("--ours-only", action="store_true", help="leave the packages out")
    arguments = parser.parse_args()
    noises, clips = dict(NOISES), []
    if arguments.corpus is not None:
        clips = read_clips(arguments.corpus, N_CORPUS_CLIPS, min_seconds=1.0)
        noises["quiet stretches"] = looped(quiet_stretches(clips))
    gain_table({"ours": ours} | ({} if arguments.ours_only else peers()), noises, arguments.bursts)
    print()
    voice_table(4 * arguments.bursts)
    print()
    pause_table(noises, arguments.bursts)
    if clips:
        print()
        real_table(clips)
        print()
        real_voice_table(clips[:360])


if __name__ == "__main__":
    main()
