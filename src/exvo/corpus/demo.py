"""The demo corpus: synthetic vocal bursts in the layout of the challenge.

This module draws speakers, labels and recording conditions. ``exvo.corpus.synth`` synthesises the burst and defines
which acoustic cue depends on which label. Everything depends on ``(n_clips, n_speakers, seed)`` alone. Each speaker
and each clip has its own random stream, so any number of processes writes the same bytes.

The recording conditions do not depend on a label:

- Silence before and after the burst; some clips start with the burst.
- White or pink noise, or hum, at 5 to 40 dB SNR.
- A DC offset, a slow rumble and a level.
- One or two channels, and a sample rate. ffmpeg reports 48 kHz for every Opus stream; the rate of the input is in its
  ``OpusHead``.

The Opus encoder removes a constant offset. The rumble lies below 20 Hz and above the 3 Hz high-pass of Opus, so it is
kept. The uncompressed ``wav/`` copies keep both. Every third ``.webm`` is written like a stream from a browser, without
a duration in its header.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import fft

from exvo.corpus import synth
from exvo.corpus.labels import EMOTIONS, SPLITS, Country
from exvo.util.bundled_ffmpeg import bundled_ffmpeg
from exvo.util.cores import n_cores

VERSION = 1  # increase it when the same parameters give other bytes
COUNTRIES = tuple(
    Country(code, name) for code, name in enumerate(("China", "South Africa", "United States", "Venezuela"))
)
MIN_SPEAKERS = len(SPLITS) * len(COUNTRIES)
WAV_RATE = 16000
ENCODED_RATES = (48000, 24000, 16000, 12000, 8000)
ENCODED_RATE_SHARES = (0.55, 0.15, 0.2, 0.05, 0.05)
CLIPS_PER_CHUNK = 64
# Frequent second emotions for each first one; all other pairs are ten times rarer.
COMPANIONS = {
    "Awe": ("Surprise", "Excitement"),
    "Excitement": ("Triumph", "Amusement"),
    "Amusement": ("Excitement", "Awkwardness"),
    "Awkwardness": ("Amusement", "Distress"),
    "Fear": ("Horror", "Surprise"),
    "Horror": ("Fear", "Distress"),
    "Distress": ("Sadness", "Horror"),
    "Triumph": ("Excitement", "Awe"),
    "Sadness": ("Distress", "Awe"),
    "Surprise": ("Fear", "Awe"),
}
RATER_NOISE = 0.10
# Keys of the random streams, one per purpose, so that streams are independent.
_TABLE, _SPEAKER, _CLIP = range(3)


@dataclass(frozen=True)
class _Clip:
    """Input of a worker for one clip. ``intent`` is the emotion of the speaker, without the noise of the raters."""

    index: int
    name: str
    speaker: int
    age: float
    country: str
    female: bool
    intent: tuple[float, ...]


def make_demo_corpus(
    root: Path,
    *,
    n_clips: int = 360,
    n_speakers: int | None = None,
    seed: int = 0,
    n_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the demo corpus, unless it exists and is complete.

    ``data_info.csv`` is written last. A folder without it is from an interrupted run and is written again.

    Parameters
    ----------
    root : Path
        Folder of the corpus, which is created if needed. A folder with another corpus is refused.
    n_clips : int
        At least ``n_speakers``.
    n_speakers : int, optional
        At least 12, one per split and country; by default one per ten clips.
    seed : int
        Non-negative.
    n_workers : int, optional
        Processes; by default one per core. Does not change the result.
    progress : callable, optional
        Called with the number of finished clips and ``n_clips``.

    Raises
    ------
    ValueError
        If there are too few clips or speakers, or ``root`` has a corpus that this function did not write.
    """
    root = Path(root)
    n_speakers = max(MIN_SPEAKERS, round(n_clips / 10)) if n_speakers is None else n_speakers
    if n_speakers < MIN_SPEAKERS:
        raise ValueError(
            f"{n_speakers} speakers: at least {MIN_SPEAKERS}, one per split and country, are needed"
        )
    if n_clips < n_speakers:
        raise ValueError(
            f"{n_clips} clips for {n_speakers} speakers: at least one clip per speaker is needed"
        )
    if seed < 0:
        raise ValueError(f"seed {seed}: must not be negative")
    table, clips = _draw_table(n_clips, n_speakers, seed)
    texts = _table_texts(table)
    made_by: dict[str, int | str] = {
        "version": VERSION,
        "n_clips": n_clips,
        "n_speakers": n_speakers,
        "seed": seed,
    }
    made_by |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}

    if _is_complete(root, made_by, clips):
        if progress is not None:
            progress(n_clips, n_clips)
        return
    _clear(root, {clip.name for clip in clips})
    (root / "demo.json").write_text(json.dumps(made_by, indent=2) + "\n")
    _write_clips(root, clips, seed, n_workers, progress)
    for name in ("test_labels.csv", "data_info.csv"):
        part = root / f"{name}.part"
        part.write_text(texts[name])
        part.replace(root / name)


def _draw_speakers(n_speakers: int, rng: np.random.Generator) -> pd.DataFrame:
    """Distribute speakers over countries, splits (about 60, 20 and 20 % of each country), sexes and ages."""
    rows = []
    for which, country in enumerate(COUNTRIES):
        size = len(range(which, n_speakers, len(COUNTRIES)))
        held_out = max(1, round(0.2 * size))
        splits = ["Val"] * held_out + ["Test"] * held_out + ["Train"] * (size - 2 * held_out)
        rows += [
            {"split": split, "country": country.code, "female": bool((k + which) % 2)}
            for k, split in enumerate(splits)
        ]
    speakers = pd.DataFrame(rows)
    speakers["age"] = 0.0
    for split in SPLITS:
        # Stratified ages cover the range evenly in each split; with few speakers, independent draws would leave gaps.
        mine = speakers.index[speakers["split"] == split].to_numpy()
        places = (np.arange(len(mine)) + rng.uniform(0, 1, len(mine))) / len(mine)
        speakers.loc[rng.permutation(mine), "age"] = np.round(20 + 19 * places, 1)
    return speakers.iloc[rng.permutation(n_speakers)].reset_index(drop=True)


def _draw_emotions(n_clips: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw mixtures of emotions and the ratings of them, scaled so that the strongest rating is exactly 1.

    Returns
    -------
    intent, labels : np.ndarray [shape=(n_clips, 10)]
    """
    affinity = np.array([[1.0 if b in COMPANIONS[a] else 0.1 for b in EMOTIONS] for a in EMOTIONS])
    np.fill_diagonal(affinity, 0.0)
    first = rng.integers(len(EMOTIONS), size=n_clips)
    odds = np.log(affinity + 1e-12)[first] + rng.gumbel(size=(n_clips, len(EMOTIONS)))
    second = odds.argmax(axis=1)
    row = np.arange(n_clips)
    intent = rng.uniform(0, 0.08, (n_clips, len(EMOTIONS)))
    intent[row, second] = rng.uniform(0.05, 0.95, n_clips)
    intent[row, first] = 1.0
    # Raters also perceive some of the usual companions of an emotion.
    rated = intent + 0.12 * intent @ (affinity > 0.5) + RATER_NOISE * rng.standard_normal(intent.shape)
    rated = np.round(np.clip(rated, 0.0, None) / rated.max(axis=1, keepdims=True), 4)
    return intent, rated


def _draw_table(n_clips: int, n_speakers: int, seed: int) -> tuple[pd.DataFrame, list[_Clip]]:
    rng = np.random.default_rng([seed, _TABLE])
    speakers = _draw_speakers(n_speakers, rng)
    extra = rng.choice(n_speakers, n_clips - n_speakers, p=rng.dirichlet(np.full(n_speakers, 20.0)))
    owner = rng.permutation(np.concatenate([np.arange(n_speakers), extra]))
    intent, labels = _draw_emotions(n_clips, rng)
    names = [f"{i:05d}" for i in range(n_clips)]
    of = speakers.iloc[owner].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "File_ID": [f"[{name}]" for name in names],
            "Split": of["split"],
            "Subject_ID": [f"Speaker_{k:04d}" for k in owner],
            "Country": of["country"],
            "Country_string": [COUNTRIES[code].name for code in of["country"]],
            "Age": of["age"],
            **{name: labels[:, k] for k, name in enumerate(EMOTIONS)},
        }
    )
    clips = [
        _Clip(i, names[i], int(owner[i]), float(age), COUNTRIES[code].name, bool(female), tuple(intent[i]))
        for i, (age, code, female) in enumerate(zip(of["age"], of["country"], of["female"], strict=True))
    ]
    return table, clips


def _table_texts(table: pd.DataFrame) -> dict[str, str]:
    """Return the text of both tables; ``data_info.csv`` has no labels of the Test clips."""
    test = table["Split"] == "Test"
    public = table.astype({"Country": "Int64"})
    public.loc[test, public.columns[2:]] = pd.NA
    return {
        "data_info.csv": public.to_csv(index=False, lineterminator="\n"),
        "test_labels.csv": table[test].to_csv(index=False, lineterminator="\n"),
    }


def _names(folder: Path, ending: str) -> set[str]:
    """Return the names of the clips of a demo corpus in a folder."""
    if not folder.is_dir():
        return set()
    pattern = re.compile(rf"(\d{{5,}})\.{ending}")
    with os.scandir(folder) as entries:
        return {found[1] for entry in entries if (found := pattern.fullmatch(entry.name))}


def _is_complete(root: Path, made_by: Mapping[str, int | str], clips: list[_Clip]) -> bool:
    try:
        if json.loads((root / "demo.json").read_text()) != made_by:
            return False
        for name in ("data_info.csv", "test_labels.csv"):
            if hashlib.sha256((root / name).read_bytes()).hexdigest() != made_by[name]:
                return False
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    names = {clip.name for clip in clips}
    return _names(root / "raw", "webm") >= names and _names(root / "wav", "wav") >= names


def _clear(root: Path, names: set[str]) -> None:
    """Mark the corpus as incomplete, and remove clips of an earlier corpus that will not be overwritten."""
    if root.is_dir() and any(root.iterdir()) and not (root / "demo.json").is_file():
        raise ValueError(
            f"{root} is not empty and not a demo corpus: name a new folder, or remove this one first"
        )
    (root / "data_info.csv").unlink(missing_ok=True)
    for folder, ending in (("raw", "webm"), ("wav", "wav")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in _names(root / folder, ending) - names:
            (root / folder / f"{name}.{ending}").unlink()


def _write_clips(
    root: Path,
    clips: list[_Clip],
    seed: int,
    n_workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    n_workers = n_workers or n_cores()
    size = max(1, min(CLIPS_PER_CHUNK, len(clips) // (4 * n_workers)))
    chunks = [clips[start : start + size] for start in range(0, len(clips), size)]
    done = 0
    if n_workers == 1:
        for chunk in chunks:
            done += _write_chunk(root, chunk, seed)
            if progress is not None:
                progress(done, len(clips))
        return
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_write_chunk, root, chunk, seed) for chunk in chunks]
        try:
            for future in as_completed(futures):
                done += future.result()
                if progress is not None:
                    progress(done, len(clips))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_chunk(root: Path, clips: list[_Clip], seed: int) -> int:
    import soundfile

    for clip in clips:
        rng = np.random.default_rng([seed, _CLIP, clip.index])
        audio = _record(_speak(clip, seed, rng), rng)
        soundfile.write(
            root / "wav" / f"{clip.name}.wav", _clipped_copy(audio, rng), WAV_RATE, subtype="PCM_16"
        )
        _encode(audio, root / "raw" / f"{clip.name}.webm", rng, streamed=clip.index % 3 == 0)
    return len(clips)


def _speak(clip: _Clip, seed: int, rng: np.random.Generator) -> np.ndarray:
    speaker_rng = np.random.default_rng([seed, _SPEAKER, clip.speaker])
    voice = synth.voice_of(clip.age, clip.country, clip.female, speaker_rng)
    return synth.burst(voice, synth.style_of(np.array(clip.intent), EMOTIONS, rng), rng)


def _record(burst: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put a burst into a recording at ``synth.SAMPLE_RATE``: silence, noise, level, offset and rumble."""
    rate = synth.SAMPLE_RATE
    lead = 0.0 if rng.random() < 0.2 else rng.uniform(0.05, 0.6)
    trail = 0.05 + min(rng.exponential(0.3), 0.85)
    audio = np.pad(burst, (int(lead * rate), int(trail * rate)))
    seconds = np.arange(len(audio)) / rate
    kind = rng.choice(["white", "pink", "hum"], p=[0.4, 0.4, 0.2])
    noise = rng.standard_normal(len(audio))
    if kind == "pink":
        size = fft.next_fast_len(len(audio), real=True)
        spectrum = fft.rfft(noise, size)
        noise = fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), size)[: len(audio)]
    elif kind == "hum":
        mains = 2 * np.pi * rng.choice([50.0, 60.0])
        noise = 0.3 * noise + sum(
            np.sin(k * mains * seconds + rng.uniform(0, 6.28)) / k for k in (1, 2, 3, 5)
        )
    snr = 5.0 + 35.0 * np.sqrt(rng.random())  # half of the clips are above 30 dB, as in a quiet room
    audio += noise * np.sqrt(np.mean(burst**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
    audio /= np.abs(audio).max()
    audio += rng.uniform(-0.08, 0.08)
    audio += rng.uniform(0.0, 0.04) * np.sin(2 * np.pi * (rng.uniform(5, 15) * seconds + rng.uniform()))
    audio *= 10 ** (rng.uniform(-16.0, -1.0) / 20)
    return audio * min(1.0, 0.98 / np.abs(audio).max())


def _resampled(audio: np.ndarray, rate: int) -> np.ndarray:
    from scipy.signal import resample_poly

    common = np.gcd(rate, synth.SAMPLE_RATE)
    return (
        audio
        if rate == synth.SAMPLE_RATE
        else resample_poly(audio, rate // common, synth.SAMPLE_RATE // common)
    )


def _clipped_copy(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy like the WAV files of the challenge: 16 kHz, mono, with clipped voiced parts."""
    audio = _resampled(audio, WAV_RATE)
    return np.clip(audio / np.abs(audio).max() * 10 ** (rng.uniform(6.0, 14.0) / 20), -1.0, 32767 / 32768)


def _encode(audio: np.ndarray, path: Path, rng: np.random.Generator, *, streamed: bool) -> None:
    """Write an Opus ``.webm`` at a random sample rate, mono or stereo, with the same bytes in every run."""
    import ffmpeg

    rate = int(rng.choice(ENCODED_RATES, p=ENCODED_RATE_SHARES))
    channels = [_resampled(audio, rate)]
    if rng.random() < 0.15:
        # The second microphone is farther away and has independent noise.
        far = np.roll(channels[0], rate // 4000) * rng.uniform(0.5, 1.0)
        channels.append(far + 0.001 * rng.standard_normal(len(far)))
    pcm = np.round(np.clip(np.stack(channels, axis=1), -1.0, 1.0) * 32767).astype("<i2").tobytes()
    output = {"format": "webm", "acodec": "libopus", "audio_bitrate": "40k", "compression_level": 5}
    output |= {"fflags": "+bitexact", "flags:a": "+bitexact", "map_metadata": -1, "threads": 1}
    output |= {"live": 1} if streamed else {}
    ffmpeg.input("pipe:", format="s16le", ar=rate, ac=len(channels)).output(
        # With a protocol prefix, ffmpeg cannot interpret the path as an option or as a URL.
        f"file:{path}",
        **output,
    ).overwrite_output().run(cmd=bundled_ffmpeg(), input=pcm, quiet=True)
