"""A few clips after every stage: waveform, spectrogram and sound."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from exvo.audio.store import SAMPLE_RATE, WITHOUT_AUDIO, decode
from exvo.corpus.text import clip_id_of
from exvo.report.page.drawing import BLUE, GREY, data_uri, svg_uri
from exvo.report.page.parts import Section, Stage, Story, Words, without_folders

# Longer clips are not chosen: each second of a clip makes the report a quarter of a megabyte larger.
MAX_SECONDS = 6.0
N_FFT = 512
# Frames and levels of a spectrogram: finer ones are not visible at the size of the page.
MAX_FRAMES, RANGE_DB, LEVELS = 220, 80.0, 32
DESCRIPTIONS = {
    "baseline": "the organisers' own preprocessing",
    "raw": "decoded to 16 kHz mono",
    "dc": "high-pass filter and gain",
    "denoised": "MMSE-STSA noise reduction",
    "vad": "leading and trailing silence removed",
}

Row = Mapping[str, Any]


def clips_section(
    rows: Sequence[Row], audio: Mapping[str, Sequence[str | Path]], named: Sequence[str]
) -> Section:
    """Show clips after every stage.

    Parameters
    ----------
    rows : sequence of mapping
        The quality table.
    audio : mapping of str to sequence of str or Path
        Audio shards by stage, in the order of the stages.
    named : sequence of str
        Ids of the clips to show; empty chooses them by their measures.
    """
    stages = list(audio)
    missing: list[str] = []
    if named:
        by_id = {row["clip_id"]: row for row in rows}
        chosen = [(by_id[clip_id], "named in the config") for clip_id in map(clip_id_of, named)]
    else:
        chosen, missing = choose_clips(rows, stages)
    sounds = read_sounds({row["clip_id"] for row, _ in chosen}, audio)
    stories = [_story(row, why, stages, sounds) for row, why in chosen]
    lead = (
        "Waveform (relative to full scale) and spectrogram (0 to 8 kHz, a range of 80 dB) after each stage, on a "
        "common time axis. Grey: removed by the voice activity detector. The sound is embedded in this file."
    )
    return Section("listen", "Clips", lead, [*stories, *(Words(text) for text in missing)])


def choose_clips(rows: Sequence[Row], stages: Sequence[str]) -> tuple[list[tuple[Row, str]], list[str]]:
    """Choose clips that show the effect of the stages; deterministic for the same table.

    Parameters
    ----------
    rows : sequence of mapping
        The quality table.
    stages : sequence of str
        Those that were measured.

    Returns
    -------
    chosen : list of (mapping, str)
        A row of the table, and why it was chosen; none twice.
    missing : list of str
        Why a kind of clip is missing.
    """
    usable = [
        row
        for row in sorted(rows, key=lambda row: row["clip_id"])
        if all(row[f"{stage}_status"] not in WITHOUT_AUDIO for stage in stages)
        and 0 < max(row[f"{stage}_n_samples"] for stage in stages) <= MAX_SECONDS * SAMPLE_RATE
    ]
    if not usable:
        return [], [f"No clip is shown: none has audio at every stage and at most {MAX_SECONDS:g} s."]
    chosen: list[tuple[Row, str]] = []
    missing: list[str] = []

    def add(key: str, why: str, pick: Callable[[list[Row]], Row | None], otherwise: str) -> None:
        taken = {row["clip_id"] for row, _ in chosen}
        known = [row for row in usable if row.get(key) is not None and row["clip_id"] not in taken]
        found = pick(sorted(known, key=lambda row: row[key])) if known else None
        if found is None:
            missing.append(otherwise)
        else:
            chosen.append((found, why))

    snr, clipped = "denoised_snr_before_db", _clipping_column(usable, stages)
    no_snr = (
        "is not shown: the SNR is estimated by the stage denoised, which is not used or has too few clips."
    )
    add(snr, "the lowest SNR", lambda known: known[0], f"A clip of the lowest SNR {no_snr}")
    add(snr, "a median SNR", lambda known: known[len(known) // 2], f"A clip of median SNR {no_snr}")
    add(snr, "the highest SNR", lambda known: known[-1], f"A clip of the highest SNR {no_snr}")
    add(
        clipped,
        f"the most clipped ({clipped.split('_')[0]})",
        lambda known: known[-1] if known[-1][clipped] > 0 else None,
        "A clipped clip is not shown: no (other) clip is clipped.",
    )
    add(
        "vad_kept",
        "the most trimmed",
        lambda known: known[0] if known[0]["vad_kept"] < 1 else None,
        "A trimmed clip is not shown: the stage vad is not used, or it shortened no (other) clip.",
    )
    return chosen, missing


def read_sounds(
    clip_ids: set[str], audio: Mapping[str, Sequence[str | Path]]
) -> dict[tuple[str, str], bytes | None]:
    """Return the FLAC files of some clips by stage and clip id, None without audio; one shard is read at a time."""
    sounds: dict[tuple[str, str], bytes | None] = {}
    for stage, paths in audio.items():
        for path in paths:
            ids = pq.read_table(path, columns=["clip_id"])["clip_id"].to_pylist()
            rows = [row for row, clip_id in enumerate(ids) if clip_id in clip_ids]
            if rows:
                found = pq.read_table(path, columns=["audio"])["audio"].take(rows).to_pylist()
                sounds |= {
                    (stage, ids[row]): sound and sound["bytes"]
                    for row, sound in zip(rows, found, strict=True)
                }
    return sounds


def spectrogram(audio: np.ndarray) -> np.ndarray:
    """Return the power in dB relative to the maximum, not below ``-RANGE_DB``.

    Parameters
    ----------
    audio : np.ndarray [shape=(n_samples,)]

    Returns
    -------
    np.ndarray [shape=(N_FFT // 4, n_frames)]
        Two bins of the DFT in each row, from 0 Hz to 8 kHz; a Hann window of 25 ms, a hop of at least 10 ms.
    """
    window = np.hanning(int(0.025 * SAMPLE_RATE))
    hop = max(SAMPLE_RATE // 100, -(-len(audio) // MAX_FRAMES))
    padded = np.pad(audio.astype(np.float64), (len(window) // 2, len(window)))
    starts = np.arange(0, len(audio), hop)
    frames = padded[starts[:, None] + np.arange(len(window))] * window
    power = np.abs(np.fft.rfft(frames, N_FFT)[:, :-1]) ** 2
    power = power.reshape(len(starts), -1, 2).mean(axis=2).T
    peak = power.max()
    if peak == 0:
        return np.full_like(power, -RANGE_DB)
    return np.maximum(10 * np.log10(power / peak + 1e-30), -RANGE_DB)


def _clipping_column(rows: Sequence[Row], stages: Sequence[str]) -> str:
    """Return the clipping rate of the recordings, or of the organisers' version where only that one has clipping."""
    columns = [f"{stage}_clipping_rate" for stage in ("raw", "baseline") if stage in stages]
    for column in columns:
        if any((row.get(column) or 0) > 0 for row in rows):
            return column
    return columns[0] if columns else "raw_clipping_rate"


def _story(
    row: Row, why: str, stages: Sequence[str], sounds: Mapping[tuple[str, str], bytes | None]
) -> Story:
    clip_id = row["clip_id"]
    files = {stage: sound for stage in stages if (sound := sounds.get((stage, clip_id)))}
    decoded = {stage: decode(sound) for stage, sound in files.items()}
    seconds = max((len(audio) for audio in decoded.values()), default=0) / SAMPLE_RATE
    views = []
    for stage in stages:
        reason = without_folders(row[f"{stage}_reason"])
        if stage not in decoded or not len(decoded[stage]):
            views.append(Stage(stage, f"no audio: {reason}", None, "", None))
            continue
        start = (row.get("vad_start") or 0) / SAMPLE_RATE if stage == "vad" else 0.0
        length = len(decoded[stage]) / SAMPLE_RATE
        uri = svg_uri((3.2, 2.5), _painter(decoded[stage], start, seconds), layout=None)
        alt = f"Waveform and spectrogram of clip {clip_id}, stage {stage}: {length:.2f} s."
        description = DESCRIPTIONS[stage] + (f"; {reason}" if reason else "")
        views.append(Stage(stage, description, uri, alt, data_uri("audio/flac", files[stage])))
    return Story(clip_id, why, _facts(row), views)


def _facts(row: Row) -> str:
    facts = [f"split {row['split']}"]
    if row.get("raw_codec"):
        facts.append(
            f"{row['raw_codec']}, {row['raw_recorded_sample_rate']:,} Hz, {row['raw_source_channels']}"
        )
    measures = (
        ("denoised_snr_before_db", "SNR {:.1f} dB before"),
        ("denoised_snr_after_db", "{:.1f} dB after denoising"),
        ("raw_clipping_rate", "{:.2%} of the samples clipped in raw"),
        ("baseline_clipping_rate", "{:.2%} in baseline"),
        ("vad_kept", "{:.0%} kept by vad"),
    )
    facts += [text.format(row[name]) for name, text in measures if row.get(name) is not None]
    return "; ".join(facts) + "."


def _painter(audio: np.ndarray, start: float, seconds: float) -> Callable[[Figure], None]:
    def paint(figure: Figure) -> None:
        # Equal margins for all stages, so that their time axes are aligned.
        wave, image = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.7))
        figure.subplots_adjust(left=0.13, right=0.985, bottom=0.17, top=0.97, hspace=0.18)
        end = start + len(audio) / SAMPLE_RATE
        # Minimum and maximum of each column of pixels.
        edges = np.linspace(0, len(audio), min(len(audio), 300) + 1).astype(int)[:-1]
        times = start + edges / SAMPLE_RATE
        low, high = np.minimum.reduceat(audio, edges), np.maximum.reduceat(audio, edges)
        wave.fill_between(times, low, high, color=BLUE, linewidth=0.5)
        wave.set_ylim(-1, 1)
        wave.set_yticks([-1, 0, 1])
        image.imshow(
            np.round(spectrogram(audio) / RANGE_DB * (LEVELS - 1)),
            cmap="magma",
            vmin=1 - LEVELS,
            vmax=0,
            origin="lower",
            aspect="auto",
            extent=(start, end, 0, SAMPLE_RATE / 2000),
            interpolation="none",
        )
        image.set(ylim=(0, SAMPLE_RATE / 2000), ylabel="kHz", xlabel="seconds", xlim=(0, seconds))
        for axes in (wave, image):
            for cut in ((0, start), (end, seconds)):
                if cut[1] - cut[0] > 1e-3:
                    axes.axvspan(*cut, color=GREY, alpha=0.25, linewidth=0)

    return paint
