import subprocess
import sys

import numpy as np
import pytest

from exvo.audio import vad
from exvo.audio.vad import VadConfig, VoiceSpan, find_voice, voice_probabilities, voice_span

RATE = 16000
CONFIG = VadConfig()
SILERO_DEFAULTS = VadConfig(threshold=0.5, min_speech_ms=250, min_silence_ms=100, pad_ms=30)
CONFIGS = [
    CONFIG,
    SILERO_DEFAULTS,
    VadConfig(threshold=0.01, min_speech_ms=0, min_silence_ms=0, pad_ms=0),
    VadConfig(threshold=0.3, min_speech_ms=96, min_silence_ms=32, pad_ms=47.3),
    VadConfig(threshold=0.8, min_speech_ms=500, min_silence_ms=700, pad_ms=2000),
]


def burst(rng, seconds=1.0, lead=0.3, tail=0.4, sample_rate=RATE):
    """A vowel: a gliding pulse train through three formants, with silence and faint noise around it."""
    n_samples = int(seconds * sample_rate)
    time = np.arange(n_samples) / sample_rate
    hz = rng.uniform(120, 300) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 4) * time))
    harmonics = np.arange(1, 20)[:, None]
    phase = 2 * np.pi * np.cumsum(hz) / sample_rate
    formants = zip(rng.uniform([500, 1000, 2300], [800, 1400, 2800]), (1, 0.6, 0.3), strict=True)
    gains = sum(level * np.exp(-(((harmonics * hz - centre) / 150) ** 2)) for centre, level in formants)
    voice = (gains * np.sin(harmonics * phase)).sum(0) * np.hanning(n_samples)
    voice = 0.5 * voice / np.abs(voice).max()
    silence = [np.zeros(int(s * sample_rate)) for s in (lead, tail)]
    whole = np.concatenate([silence[0], voice, silence[1]])
    return (whole + 1e-4 * rng.normal(size=len(whole))).astype(np.float32)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    made = [burst(rng, *rng.uniform([0.1, 0, 0], [2, 1, 1])) for _ in range(20)]
    made += [np.concatenate([burst(rng, 0.4) for _ in range(3)])]  # pauses inside
    made += [burst(rng, 1.0, 0, 0), burst(rng, 0.2)[:511], burst(rng)[5000:5512], burst(rng)[5000:5513]]
    made += [np.zeros(8000, np.float32), np.zeros(1, np.float32), np.zeros(0, np.float32)]
    made += [0.1 * rng.normal(size=9000).astype(np.float32)]
    return made


def by_silero(clips, model, config, sample_rate=RATE):
    import silero_vad
    import torch

    spans = []
    for clip in clips:
        stretches = silero_vad.get_speech_timestamps(
            torch.from_numpy(clip),
            model,
            threshold=config.threshold,
            sampling_rate=sample_rate,
            min_speech_duration_ms=config.min_speech_ms,
            min_silence_duration_ms=config.min_silence_ms,
            speech_pad_ms=config.pad_ms,
        )
        spans.append(VoiceSpan(stretches[0]["start"], stretches[-1]["end"]) if stretches else None)
    return spans


@pytest.mark.parametrize("onnx", [True, False])
@pytest.mark.parametrize("config", CONFIGS[:2])
def test_spans_are_those_of_silero_clip_by_clip(clips, onnx, config):
    import silero_vad

    expected = by_silero(clips, silero_vad.load_silero_vad(onnx=onnx), config)
    assert find_voice(clips, RATE, config) == expected
    assert any(expected)
    assert None in expected


def test_spans_are_those_of_silero_at_8_khz():
    import silero_vad

    rng = np.random.default_rng(1)
    clips = [burst(rng, *rng.uniform([0.3, 0, 0], [2, 1, 1]), sample_rate=8000) for _ in range(4)]
    expected = by_silero(clips, silero_vad.load_silero_vad(onnx=True), CONFIG, 8000)
    assert find_voice(clips, 8000, CONFIG) == expected
    assert any(expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_rules_give_what_silero_gives_on_random_probabilities(config):
    from silero_vad.utils_vad import get_speech_timestamps_from_probs

    rng = np.random.default_rng(2)
    for _ in range(300):
        n_samples = int(rng.integers(1, 60 * 512))
        # A sticky walk between loud and quiet, so that stretches and pauses of all lengths occur.
        level = np.repeat(rng.beta(0.3, 0.3, size=60), rng.integers(1, 12, size=60))[: -(-n_samples // 512)]
        probabilities = np.clip(level + 0.05 * rng.normal(size=len(level)), 0, 1).astype(np.float32)
        stretches = get_speech_timestamps_from_probs(
            probabilities.tolist(),
            threshold=config.threshold,
            min_speech_duration_ms=config.min_speech_ms,
            min_silence_duration_ms=config.min_silence_ms,
            speech_pad_ms=config.pad_ms,
            audio_length_samples=n_samples,
        )
        expected = VoiceSpan(stretches[0]["start"], stretches[-1]["end"]) if stretches else None
        assert voice_span(probabilities, n_samples, RATE, config) == expected


def test_span_of_a_known_row_of_probabilities():
    config = VadConfig(threshold=0.5, min_speech_ms=64, min_silence_ms=96, pad_ms=10)
    #        0    1    2    3    4    5    6    7    8    9   10   11   12   13
    row = [0.1, 0.6, 0.1, 0.6, 0.4, 0.6, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1]
    # Chunks 1 to 5 are one stretch: the pause at 2 is short, and 0.4 is above 0.5 - 0.15. It ends at chunk 6,
    # as chunk 9, still quiet, starts 96 ms later. Chunk 10 alone is too short to count.
    n_samples = 14 * 512
    expected = VoiceSpan(512 - 160, 6 * 512 + 160)
    assert voice_span(np.array([*row, 0.1]), n_samples + 512, RATE, config) == expected
    # Still waiting for the end of the pause when the clip ends: the stretch lasts to the end of the clip.
    assert voice_span(np.array(row), n_samples, RATE, config) == VoiceSpan(352, n_samples)
    assert voice_span(np.full(14, 0.49), n_samples, RATE, config) is None


def test_a_span_holds_the_burst_and_leaves_out_silence_on_both_sides():
    rng = np.random.default_rng(3)
    spans = find_voice([burst(rng, 1.0, lead=1.0, tail=2.0) for _ in range(8)], RATE, CONFIG)
    found = [span for span in spans if span]
    assert len(found) >= 4  # the synthetic vowels sound like voice only at times
    for span in found:
        assert 0.7 * RATE <= span.start <= 1.25 * RATE
        assert 1.35 * RATE <= span.end <= 3.5 * RATE


def test_a_clip_gets_the_same_alone_and_in_any_batch(clips, monkeypatch):
    alone = [voice_probabilities([clip], RATE)[0] for clip in clips]
    spans = [find_voice([clip], RATE, CONFIG)[0] for clip in clips]
    rng = np.random.default_rng(4)
    for clips_at_once in (2, 7, 64):
        monkeypatch.setattr(vad, "CLIPS_AT_ONCE", clips_at_once)
        order = rng.permutation(len(clips))
        batch = [clips[i] for i in order]
        for place, of_clip in zip(order, voice_probabilities(batch, RATE), strict=True):
            np.testing.assert_allclose(of_clip, alone[place], atol=1e-5)
        assert find_voice(batch, RATE, CONFIG) == [spans[i] for i in order]


def test_a_long_clip_beside_short_ones_changes_nothing(clips):
    rng = np.random.default_rng(5)
    long = np.concatenate([burst(rng) for _ in range(20)])  # half a minute
    spans = find_voice([clips[0], long, clips[1]], RATE, CONFIG)
    assert [spans[0], spans[2]] == find_voice(clips[:2], RATE, CONFIG)
    assert [spans[1]] == find_voice([long], RATE, CONFIG)


@pytest.mark.parametrize(
    ("n_samples", "n_chunks"), [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2), (16000, 32)]
)
def test_there_is_a_probability_for_each_32_ms_begun(n_samples, n_chunks):
    (probabilities,) = voice_probabilities([np.zeros(n_samples)], RATE)
    assert probabilities.shape == (n_chunks,)
    assert probabilities.dtype == np.float32


@pytest.mark.parametrize("n_samples", [200, 8100, 8192, 8193])
def test_the_last_chunk_is_filled_up_with_zeros(n_samples):
    # Cut inside the voice, so that what was in the buffer before would show.
    clip = burst(np.random.default_rng(7), 1.0, lead=0)[4000:][:n_samples]
    filled = np.concatenate([clip, np.zeros(-n_samples % 512, np.float32)])
    of_clip, of_filled = voice_probabilities([clip, filled], RATE)
    np.testing.assert_allclose(of_clip, of_filled, atol=1e-6)


def test_silence_and_noise_hold_no_voice():
    noise = 0.1 * np.random.default_rng(6).normal(size=RATE)
    assert find_voice([np.zeros(RATE), noise, np.zeros(0)], RATE, CONFIG) == [None, None, None]


def test_no_clips_give_no_spans():
    assert find_voice([], RATE, CONFIG) == []


def test_spans_lie_inside_the_clip_and_are_not_empty(clips):
    for config in CONFIGS:
        for clip, span in zip(clips, find_voice(clips, RATE, config), strict=True):
            assert span is None or 0 <= span.start < span.end <= len(clip)


def test_a_sample_rate_the_model_does_not_read_is_refused():
    with pytest.raises(ValueError, match="44100"):
        find_voice([np.zeros(100)], 44100, CONFIG)


def test_a_sample_that_is_not_finite_is_refused_with_the_index_of_its_clip():
    with pytest.raises(ValueError, match="clip 1"):
        find_voice([np.zeros(100), np.full(100, np.nan)], RATE, CONFIG)


@pytest.mark.parametrize(
    "choices", [{"threshold": 0}, {"threshold": 1}, {"pad_ms": -1}, {"min_speech_ms": np.nan}]
)
def test_choices_that_make_no_sense_are_refused(choices):
    with pytest.raises(ValueError, match="vad"):
        VadConfig(**choices)


def test_finding_voice_imports_neither_torch_nor_silero():
    code = (
        "import sys, numpy as np; from exvo.audio.vad import VadConfig, find_voice;"
        "find_voice([np.zeros(1000)], 16000, VadConfig());"
        "assert not {'torch', 'silero_vad'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
