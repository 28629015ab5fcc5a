import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from exvo.audio import silero
from exvo.audio.silero import voice_probabilities
from exvo.audio.stage_vad import vad_clips
from exvo.audio.store import NO_VOICE, OK, Clip
from exvo.audio.vad import VadConfig, VoiceSpan, burst_span, chunk_levels, find_voice, kept_span, voice_span

RATE = 16000
CONFIG = VadConfig()
SILERO_DEFAULTS = VadConfig(
    threshold=0.5, min_speech_ms=250, min_silence_ms=100, pad_ms=30, above_noise_db=None
)
BY_SILERO = [
    VadConfig(threshold=0.1, above_noise_db=None),
    SILERO_DEFAULTS,
    VadConfig(threshold=0.01, min_speech_ms=0, min_silence_ms=0, pad_ms=0, above_noise_db=None),
    VadConfig(threshold=0.3, min_speech_ms=96, min_silence_ms=32, pad_ms=47.3, above_noise_db=None),
    VadConfig(threshold=0.8, min_speech_ms=500, min_silence_ms=700, pad_ms=2000, above_noise_db=None),
]
CONFIGS = [CONFIG, *BY_SILERO]


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
@pytest.mark.parametrize("config", BY_SILERO[:2])
def test_spans_are_those_of_silero_clip_by_clip(clips, onnx, config):
    import silero_vad

    expected = by_silero(clips, silero_vad.load_silero_vad(onnx=onnx), config)
    assert find_voice(clips, RATE, config) == expected
    assert any(expected)
    assert None in expected


def test_the_papers_config_takes_silero_alone_at_its_own_defaults():
    paper = yaml.safe_load((Path(__file__).parents[2] / "config/paper.yaml").read_text())
    assert VadConfig(**paper["audio"]["vad"]) == SILERO_DEFAULTS


def test_spans_are_those_of_silero_at_8_khz():
    import silero_vad

    rng = np.random.default_rng(1)
    clips = [burst(rng, *rng.uniform([0.3, 0, 0], [2, 1, 1]), sample_rate=8000) for _ in range(4)]
    expected = by_silero(clips, silero_vad.load_silero_vad(onnx=True), BY_SILERO[0], 8000)
    assert find_voice(clips, 8000, BY_SILERO[0]) == expected
    assert any(expected)


@pytest.mark.parametrize("config", BY_SILERO)
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


def shaped_noise(rng, n_samples, shape):
    """Steady noise of power 1 whose magnitude spectrum is ``shape(hz)``."""
    spectrum = np.fft.rfft(rng.normal(size=n_samples)) * shape(np.fft.rfftfreq(n_samples, 1 / RATE))
    made = np.fft.irfft(spectrum, n_samples)
    return made / np.sqrt(np.mean(made**2))


def background(rng, n_samples, dbfs, colour):
    """Noise with a magnitude spectrum of f ** -colour: white, pink or brown."""
    return 10 ** (dbfs / 20) * shaped_noise(rng, n_samples, lambda hz: np.maximum(hz, 80.0) ** -colour)


def breath(rng, seconds, lead, tail, noise_dbfs, colour=0.0):
    """A whisper, a band of noise at -20 dBFS, in steady noise; with its first and last sample."""
    n_lead, n_burst, n_tail = (int(s * RATE) for s in (lead, seconds, tail))
    whole = background(rng, n_lead + n_burst + n_tail, noise_dbfs, colour)
    whole[n_lead : n_lead + n_burst] += 0.1 * shaped_noise(rng, n_burst, lambda hz: (hz > 800) & (hz < 3000))
    return whole.astype(np.float32), n_lead, n_lead + n_burst


@pytest.mark.parametrize("colour", [0, 0.5, 1])
@pytest.mark.parametrize("snr_db", [16, 20, 40, 60])
def test_breath_in_steady_noise_is_kept_and_the_noise_around_it_cut(snr_db, colour):
    rng = np.random.default_rng(snr_db)
    chunk, pad = 512, RATE * CONFIG.pad_ms / 1000
    for _ in range(5):
        clip, start, end = breath(rng, *rng.uniform([0.3, 0.2, 0.2], [1, 1.5, 1.5]), -20 - snr_db, colour)
        span = burst_span(clip, RATE, CONFIG)
        assert max(0, start - pad - chunk) <= span.start <= max(0, start - pad + chunk)
        assert min(len(clip), end + pad - chunk) <= span.end <= min(len(clip), end + pad + chunk)


def test_digital_silence_around_a_burst_is_cut_though_its_level_is_far_below_any_noise():
    rng = np.random.default_rng(3)
    clip, start, end = breath(rng, 0.5, 1.0, 1.0, -200)
    clip[:8000] = 0
    clip[-4000:] = 1e-4 * rng.normal(size=4000)  # 60 dB below the burst
    span = burst_span(clip, RATE, CONFIG)
    assert abs(span.start - (start - 1600)) <= 512 and abs(span.end - (end + 1600)) <= 512


def test_two_bursts_with_a_pause_are_kept_with_the_pause():
    rng = np.random.default_rng(4)
    first, start, _ = breath(rng, 0.4, 0.8, 0.4, -200)
    second, _, end = breath(rng, 0.4, 0.4, 0.8, -200)
    clip = np.concatenate([first, 0.3 * second])
    span = burst_span(clip + background(rng, len(clip), -60, 0), RATE, CONFIG)
    assert abs(span.start - (start - 1600)) <= 512 and abs(span.end - (len(first) + end + 1600)) <= 512


def test_a_slow_decay_is_kept_down_to_the_noise():
    rng = np.random.default_rng(5)
    n_samples = 3 * RATE
    decay = (
        0.3 * rng.normal(size=n_samples) * 10 ** (-30 / 20 * np.arange(n_samples) / RATE)
    )  # 30 dB a second
    clip = np.concatenate([np.zeros(RATE), decay, np.zeros(RATE)]) + 0.003 * rng.normal(size=5 * RATE)
    span = burst_span(clip, RATE, CONFIG)
    # The noise is 40 dB down. Both together fall to 5 dB above it where the decay alone is 3.3 dB above it.
    assert abs(span.end - (RATE * (1 + 36.7 / 30) + 1600)) <= 1024


def test_a_breath_that_fills_its_clip_loses_nothing_within_12_db_of_its_loudest():
    rng = np.random.default_rng(6)
    n_samples = 2 * RATE
    swell_db = -11 * (0.5 + 0.5 * np.cos(2 * np.pi * 0.5 * np.arange(n_samples) / RATE))  # quiet, loud, quiet
    clip = 0.1 * rng.normal(size=n_samples) * 10 ** (swell_db / 20)
    assert burst_span(clip, RATE, CONFIG) == VoiceSpan(0, n_samples)


@pytest.mark.parametrize("colour", [0, 0.5, 1])
def test_steady_noise_alone_is_no_burst(colour):
    rng = np.random.default_rng(7)
    for seconds in (0.01, 0.1, 0.5, 2, 10):
        assert burst_span(background(rng, int(seconds * RATE), -30, colour), RATE, CONFIG) is None
    assert burst_span(np.zeros(RATE), RATE, CONFIG) is None


@pytest.mark.parametrize("n_samples", [30 * 512 + 1, 30 * 512 + 3, 3 * 512 + 1, 512 + 500])
def test_a_few_samples_at_the_end_of_noise_are_no_burst(n_samples):
    rng = np.random.default_rng(13)
    for _ in range(300):
        assert burst_span(rng.normal(size=n_samples), RATE, CONFIG) is None


def test_a_click_softer_than_the_burst_does_not_widen_it():
    rng = np.random.default_rng(8)
    clip, start, end = breath(rng, 0.5, 1.5, 1.5, -60)
    for click in (slice(1000, 1100), slice(-1100, -1000)):  # of the keys that start and stop the recording
        clip[click] += 0.02 * rng.normal(size=100)
    span = burst_span(clip, RATE, CONFIG)
    assert abs(span.start - (start - 1600)) <= 512 and abs(span.end - (end + 1600)) <= 512


def test_clicks_of_the_tongue_are_a_burst():
    rng = np.random.default_rng(12)
    clip = background(rng, 3 * RATE, -55, 0.5)
    clicks = [16000, 20000, 31000]
    for click, level in zip(clicks, (0.2, 0.5, 0.4), strict=True):
        clip[click : click + 150] += level * rng.normal(size=150)
    span = burst_span(clip, RATE, CONFIG)
    assert abs(span.start - (16000 - 1600)) <= 512 and abs(span.end - (31150 + 1600)) <= 512


@pytest.mark.parametrize("seed", range(20))
def test_all_that_is_cut_lies_12_db_below_the_loudest_chunk(seed):
    rng = np.random.default_rng(seed)
    level_db = np.repeat(np.cumsum(rng.normal(scale=6, size=60)), 512)
    clip = 1e-3 * rng.normal(size=60 * 512) * 10 ** (np.minimum(level_db, 40) / 20)
    span = burst_span(clip, RATE, CONFIG)
    levels = chunk_levels(clip, 512)
    loud = np.flatnonzero(levels >= levels.max() - 12)
    assert span.start <= loud[0] * 512 and span.end >= (loud[-1] + 1) * 512


def test_gain_changes_no_span():
    rng = np.random.default_rng(9)
    clip, *_ = breath(rng, 0.5, 0.7, 0.9, -50)
    spans = {burst_span(clip * np.float32(gain), RATE, CONFIG) for gain in (0.01, 0.1, 1, 4)}
    assert len(spans) == 1 and None not in spans


def test_levels_are_the_mean_power_of_each_chunk_begun():
    time = np.arange(1280) / RATE
    clip = np.concatenate([0.5 * np.sin(2 * np.pi * 1000 * time[:512]), np.zeros(512), np.full(128, 0.2)])
    np.testing.assert_allclose(chunk_levels(clip, 512), [20 * np.log10(0.5) - 3.0103, -100, -20], atol=1e-3)


def test_what_either_criterion_finds_is_kept():
    rng = np.random.default_rng(10)
    clip, *_ = breath(rng, 0.5, 1.0, 1.0, -60)
    clip = clip[: 78 * 512]
    probabilities = np.zeros(78, np.float32)
    assert kept_span(clip, probabilities, RATE, CONFIG) == burst_span(clip, RATE, CONFIG)
    probabilities[60:70] = 0.9  # voice too soft for the level, after the breath
    span = kept_span(clip, probabilities, RATE, CONFIG)
    assert span == VoiceSpan(burst_span(clip, RATE, CONFIG).start, 70 * 512 + 1600)
    flat = np.full(len(clip), 0.1)
    assert kept_span(flat, probabilities, RATE, CONFIG) == VoiceSpan(60 * 512 - 1600, 70 * 512 + 1600)
    assert kept_span(flat, np.zeros(78), RATE, CONFIG) is None


def test_breath_without_voice_is_trimmed_and_ok_and_noise_alone_is_kept_whole_and_flagged():
    rng = np.random.default_rng(11)
    clip, *_ = breath(rng, 0.5, 1.0, 1.0, -60)
    noise = (1e-3 * rng.normal(size=RATE)).astype(np.float32)
    found, lost = vad_clips([Clip("a", clip), Clip("b", noise)], CONFIG)
    assert found.measures["voice_probability"] < CONFIG.threshold  # Silero hears no voice in it
    assert found.status == OK and found.measures["start"] > 0 and found.measures["end"] < len(clip)
    np.testing.assert_array_equal(found.audio, clip[found.measures["start"] : found.measures["end"]])
    assert lost.status == NO_VOICE and lost.measures["kept"] == 1
    np.testing.assert_array_equal(lost.audio, noise)
    by_silero_alone, _ = vad_clips([Clip("a", clip), Clip("b", noise)], SILERO_DEFAULTS)
    assert by_silero_alone.status == NO_VOICE and len(by_silero_alone.audio) == len(clip)


def test_a_clip_gets_the_same_alone_and_in_any_batch(clips, monkeypatch):
    alone = [voice_probabilities([clip], RATE)[0] for clip in clips]
    spans = [find_voice([clip], RATE, CONFIG)[0] for clip in clips]
    rng = np.random.default_rng(4)
    for clips_at_once in (2, 7, 64):
        monkeypatch.setattr(silero, "CLIPS_AT_ONCE", clips_at_once)
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
    "choices",
    [
        {"threshold": 0},
        {"threshold": 1},
        {"pad_ms": -1},
        {"min_speech_ms": np.nan},
        {"above_noise_db": 3},
        {"above_noise_db": np.nan},
    ],
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
