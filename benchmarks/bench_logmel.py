"""Log-mel spectrograms against ``torchaudio.transforms.MelSpectrogram``, clip by clip, one thread each.

The peer has the same window, hop, filters and floor. ``librosa`` is not raced: it is not among the
dependencies.

Run: ``python benchmarks/bench_logmel.py [--corpus PATH] [--clips N]``; without a corpus, on demo clips.
"""

from common import SAMPLE_RATE, one_thread, parse_arguments, race, read_clips, write_records

one_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchaudio  # noqa: E402

from exvo.features.logmel import LogmelConfig, logmel  # noqa: E402

TOLERANCE = 5e-3  # of the natural logarithm of power, 0.02 dB: float32 near the floor


def main() -> None:
    """Compare the spectrograms, run the race and write its record."""
    arguments = parse_arguments(__doc__, n_clips=200)
    torch.set_num_threads(1)
    clips = read_clips(arguments.corpus, arguments.clips)
    config = LogmelConfig()
    window, hop = (round(ms * SAMPLE_RATE / 1000) for ms in (config.window_ms, config.hop_ms))
    spectrogram = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE,
        config.n_fft,
        window,
        hop,
        n_mels=config.n_mels,
        mel_scale="slaney",
        norm=None,
        pad_mode="constant",
    )

    def ours() -> list[np.ndarray]:
        return [logmel(clip, config) for clip in clips]

    def theirs() -> list[torch.Tensor]:
        return [spectrogram(torch.from_numpy(clip)).clamp_min(config.log_floor).log() for clip in clips]

    furthest = max(
        float(np.abs(found - expected.numpy().T).max())
        for found, expected in zip(ours(), theirs(), strict=True)
    )
    record = race(
        "logmel",
        "torchaudio.transforms.MelSpectrogram",
        ours,
        theirs,
        n_clips=len(clips),
        outputs_match=furthest < TOLERANCE or f"log powers differ by up to {furthest:.1e}",
        repeats=5,
    )
    write_records([record])
    print(f"furthest from torchaudio: {furthest:.1e} in the logarithm")


if __name__ == "__main__":
    main()
