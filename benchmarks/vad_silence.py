"""How exactly the vad stage cuts silence and noise: synthetic bursts of known span, taken through dc, denoised and vad.

Five kinds of bursts lie in digital silence and in white, pink and room noise at 10 to 40 dB SNR. A burst counts from
the first to the last 10 ms in which it is as loud as the noise, and not more than 40 dB below its loudest. What is kept
outside of that is silence left, ``pad_ms`` of which the config asks for; what is cut inside is burst lost.

Run: ``python benchmarks/vad_silence.py [--clips N]``, N clips of each kind in each noise.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from scipy.signal import butter, sosfilt

from exvo.audio.stage_dc import HighpassConfig, dc_clips
from exvo.audio.stage_denoised import DenoiseConfig, denoised_clips
from exvo.audio.stage_vad import VadConfig, vad_clips
from exvo.audio.store import NO_VOICE, SAMPLE_RATE, Clip, decode, encode

NOISES = ("white", "pink", "room")
SNR_DB = (10, 20, 30, 40)
NOISE_SECONDS = (0.5, 1, 2, 4, 8)
FRAME = SAMPLE_RATE // 100
LEAST_DB = -40  # relative to the loudest 10 ms of a burst
PAPER = Path(__file__).parents[1] / "config/paper.yaml"
Generator = np.random.Generator


@dataclass
class Made:
    """A clip with a burst from sample ``start`` to ``end``; empty where there is none."""

    audio: np.ndarray
    noise: str
    start: int = 0
    end: int = 0


def noise(rng: Generator, n_samples: int, kind: str) -> np.ndarray:
    """Make steady noise of power 1: white, pink, or that of a room, which falls by 6 dB an octave and hums."""
    spectrum = np.fft.rfft(rng.normal(size=n_samples))
    hz = np.maximum(np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE), 50)
    made = np.fft.irfft(spectrum * hz ** -{"white": 0.0, "pink": 0.5, "room": 1.0}[kind], n_samples)
    made /= made.std()
    if kind == "room":
        phase = 2 * np.pi * 50 * np.arange(n_samples) / SAMPLE_RATE
        made += 0.5 * sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in (1, 2, 3, 4))
    return made / made.std()


def voiced(rng: Generator, seconds: float, hz: float) -> np.ndarray:
    """Make a vowel: a train of pulses that glides about ``hz``, through three formants."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = hz * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(1, 4) * time))
    return formants(rng, np.diff(np.floor(np.cumsum(pitch) / SAMPLE_RATE), prepend=0))


def whispered(rng: Generator, seconds: float) -> np.ndarray:
    """Make a whisper: noise through three formants."""
    return formants(rng, rng.normal(size=int(seconds * SAMPLE_RATE)))


def formants(rng: Generator, source: np.ndarray) -> np.ndarray:
    """Filter a source with three resonances."""
    made = np.zeros_like(source)
    for hz, gain in zip(rng.uniform([500, 1000, 2300], [800, 1500, 2900]), (1, 0.6, 0.3), strict=True):
        band = butter(2, [hz - 100, hz + 100], "bandpass", fs=SAMPLE_RATE, output="sos")
        made += gain * sosfilt(band, source)
    return made / np.abs(made).max()


def shaped(burst: np.ndarray, attack: float, release: float) -> np.ndarray:
    """Fade a burst in and out, in s."""
    time = np.arange(len(burst)) / SAMPLE_RATE
    return burst * np.minimum(1, np.minimum(time / attack, time[::-1] / release))


def burst(rng: Generator, kind: str) -> np.ndarray:
    """Make a burst of one of the kinds, without silence around it."""
    seconds = rng.uniform(0.4, 1.2)
    if kind == "cry":
        return shaped(voiced(rng, seconds, rng.uniform(110, 350)), 0.03, 0.15)
    if kind == "whisper":
        return shaped(whispered(rng, seconds), 0.05, 0.15)
    if kind == "sigh":  # a decay of 60 dB in 1 to 3 s
        band = butter(1, [400, 4000], "bandpass", fs=SAMPLE_RATE, output="sos")
        breath = sosfilt(band, rng.normal(size=2 * SAMPLE_RATE))
        decay_db = -60 * np.arange(len(breath)) / SAMPLE_RATE / rng.uniform(1, 3)
        return shaped(breath / np.abs(breath).max() * 10 ** (decay_db / 20), 0.15, 0.01)
    if kind == "double":
        pause = np.zeros(int(rng.uniform(0.4, 1) * SAMPLE_RATE))
        return np.concatenate([0.5 * burst(rng, "whisper"), pause, burst(rng, "cry")])
    parts = []  # a laugh
    for k in range(rng.integers(3, 7)):
        syllable = voiced(rng, rng.uniform(0.06, 0.12), rng.uniform(200, 350))
        parts += [0.8**k * syllable * np.hanning(len(syllable))]
        parts += [np.zeros(int(rng.uniform(0.08, 0.15) * SAMPLE_RATE))]
    return np.concatenate(parts[:-1])


def extent(made: np.ndarray, noise_db: float) -> tuple[int, int]:
    """Return the first and last sample of a burst of which more is heard than noise of the given power."""
    frames = made[: len(made) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-20)
    heard = np.flatnonzero(level >= max(level.max() + LEAST_DB, noise_db))
    return int(heard[0]) * FRAME, int(heard[-1] + 1) * FRAME


def clips_in_noise(n_clips: int) -> list[Made]:
    """Make the bursts; the same ones lie in every noise, in the same places."""
    made = []
    for kind in ("cry", "whisper", "sigh", "double", "laugh"):
        for k in range(n_clips):
            for colour, snr_db in [("none", np.inf), *((c, snr) for c in NOISES for snr in SNR_DB)]:
                rng = np.random.default_rng([*kind.encode(), k])
                clean = burst(rng, kind)
                lead, tail = (np.zeros(int(s * SAMPLE_RATE)) for s in rng.uniform(0.3, 1.5, 2))
                audio = np.concatenate([lead, clean, tail])
                power = np.square(clean[slice(*extent(clean, -np.inf))]).mean()
                noise_db = 10 * np.log10(power) - snr_db
                name = "digital silence"
                if colour != "none":
                    audio += 10 ** (noise_db / 20) * noise(rng, len(audio), colour)
                    name = f"{colour}, {snr_db} dB"
                start, end = (len(lead) + place for place in extent(clean, noise_db))
                made.append(Made(0.5 * audio / np.abs(audio).max(), name, start, end))
    return made


def rounded(clips: list[Clip]) -> list[Clip]:
    """Round to 16 bits, as the shards between the stages do."""
    return [replace(clip, audio=decode(encode(clip.audio, clip.clip_id, 16))) for clip in clips]


def print_table(name: str, made: list[Made], after: list[Clip]) -> None:
    """Print what is left and lost in each noise, and how many clips of noise alone are flagged."""
    print(f"\n{name}\n")
    print("| noise | clips | nothing found | left before | left after | lost | clips that lose over 50 ms |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind in dict.fromkeys(clip.noise for clip in made if clip.end):
        rows = []
        for clip, done in zip(made, after, strict=True):
            if clip.noise == kind and clip.end:
                start, end = done.measures["start"], done.measures["end"]
                left = max(0, clip.start - start), max(0, end - clip.end)
                lost = max(0, start - clip.start) + max(0, clip.end - end)
                rows.append((*left, lost, done.status == NO_VOICE))
        before, behind, lost, flagged = np.array(rows, float).T
        in_ms = [values / SAMPLE_RATE * 1000 for values in (before, behind, lost)]
        cells = [f"{np.median(ms):.0f} / {np.percentile(ms, 90):.0f} ms" for ms in in_ms]
        cells.append(f"{np.mean(in_ms[2] > 50):.0%}")
        print(f"| {kind} | {len(rows)} | {flagged.mean():.0%} | " + " | ".join(cells) + " |")
    alone = [done.status == NO_VOICE for clip, done in zip(made, after, strict=True) if not clip.end]
    print(f"\nNoise alone: {sum(alone)} of {len(alone)} clips kept whole and flagged.")


def main() -> None:
    """Make the clips, take them through the stages and print the tables of the default config and the paper's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=8, help="clips of each kind in each noise (8)")
    made = clips_in_noise(parser.parse_args().clips)
    rng = np.random.default_rng(0)
    for kind in NOISES:
        for seconds in NOISE_SECONDS:
            made.append(Made(0.03 * noise(rng, int(seconds * SAMPLE_RATE), kind), kind))
    clips = [Clip(str(i), clip.audio.astype(np.float32)) for i, clip in enumerate(made)]
    clips = rounded(denoised_clips(rounded(dc_clips(clips, HighpassConfig())), DenoiseConfig()))
    paper = yaml.safe_load(PAPER.read_text())["audio"]["vad"]
    for name, config in (
        ("default config", VadConfig()),
        ("Silero alone (config/paper.yaml)", VadConfig(**paper)),
    ):
        print_table(name, made, vad_clips(clips, config))


if __name__ == "__main__":
    main()
