"""Voice spans against ``silero_vad.get_speech_timestamps`` clip by clip, one thread each, on the same clips.

All forms of the peer's model are raced: ``load_silero_vad()``, which is TorchScript and its default;
``load_silero_vad(onnx=True)``, the file that ours runs too; and ``load_silero_vad(sequence=True)``, new in 6.2.3, which
takes all chunks of a clip in one call. Clips are high-passed and brought to one peak first, as they are in the
workflow; that is not timed. The level, our second criterion, is raced against the time of the first.

Run: ``python benchmarks/bench_vad.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

import warnings
from dataclasses import replace

import numpy as np
import silero_vad
import torch
from common import parse_arguments, race, read_clips, write_records

from exvo.audio.highpass import HighpassConfig, highpass_clips
from exvo.audio.vad import VadConfig, VoiceSpan, find_voice

RATE = 16_000
# What Silero gives at its own defaults, and at a lower threshold.
SILERO_DEFAULTS = VadConfig(
    threshold=0.5, min_speech_ms=250, min_silence_ms=100, pad_ms=30, above_noise_db=None
)
SILERO_LOW = VadConfig(threshold=0.1, above_noise_db=None)


def by_silero(clips: list[np.ndarray], model, config: VadConfig) -> list[VoiceSpan | None]:
    """Give what the package itself finds, clip by clip."""
    spans = []
    of_sequences = isinstance(model, silero_vad.SileroVADSequence)
    find = silero_vad.get_speech_timestamps_sequence if of_sequences else silero_vad.get_speech_timestamps
    for clip in clips:
        stretches = find(
            torch.from_numpy(clip),
            model,
            threshold=config.threshold,
            sampling_rate=RATE,
            min_speech_duration_ms=config.min_speech_ms,
            min_silence_duration_ms=config.min_silence_ms,
            speech_pad_ms=config.pad_ms,
        )
        spans.append(VoiceSpan(stretches[0]["start"], stretches[-1]["end"]) if stretches else None)
    return spans


def describe(name: str, clips: list[np.ndarray], spans: list[VoiceSpan | None]) -> None:
    """Print how many clips have no voice, and how much is cut from the others."""
    kept = [(clip, span) for clip, span in zip(clips, spans, strict=True) if span]
    print(f"{name}: no voice found in {1 - len(kept) / len(clips):.1%} of {len(clips)} clips", end="")
    if not kept:
        return print()
    cut = [1 - (span.end - span.start) / len(clip) for clip, span in kept]
    lost = [1 - np.square(clip[span.start : span.end]).sum() / np.square(clip).sum() for clip, span in kept]
    shares = ", ".join(f"{share:.0%}" for share in np.percentile(cut, [10, 50, 90]))
    print(f"; cut from the rest (10th, 50th, 90th percentile): {shares}", end="")
    print(f"; over 5 % of the energy lost in {np.mean(np.array(lost) > 0.05):.1%}")


def main() -> None:
    """Compare the spans, race the peers and write the records."""
    arguments = parse_arguments(__doc__, n_clips=200)
    warnings.simplefilter("ignore")  # deprecations inside silero_vad and torch.jit
    torch.set_num_threads(1)
    clips, _ = highpass_clips(read_clips(arguments.corpus, arguments.clips), RATE, HighpassConfig())
    records = []
    for peer, form in (("torch", {}), ("onnx", {"onnx": True}), ("onnx, sequence", {"sequence": True})):
        model = silero_vad.load_silero_vad(**form)
        differing = sum(
            ours != theirs
            for config in (SILERO_LOW, SILERO_DEFAULTS)
            for ours, theirs in zip(
                find_voice(clips, RATE, config), by_silero(clips, model, config), strict=True
            )
        )
        records.append(
            race(
                "vad",
                f"silero_vad.get_speech_timestamps ({peer})",
                lambda: find_voice(clips, RATE, SILERO_LOW),
                lambda model=model: by_silero(clips, model, SILERO_LOW),
                n_clips=len(clips),
                outputs_match=differing == 0 or f"{differing} of {2 * len(clips)} spans differ",
            )
        )
    records.append(
        race(
            "vad",
            "our stage without the level",
            lambda: find_voice(clips, RATE, VadConfig()),
            lambda: find_voice(clips, RATE, replace(VadConfig(), above_noise_db=None)),
            n_clips=len(clips),
            outputs_match="the level keeps more",
        )
    )
    write_records(records)
    describe("our defaults", clips, find_voice(clips, RATE, VadConfig()))
    describe("Silero's defaults", clips, find_voice(clips, RATE, SILERO_DEFAULTS))


if __name__ == "__main__":
    main()
