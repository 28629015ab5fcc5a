"""A source-filter synthesiser of one vocal burst, for the demo corpus.

A burst is a sequence of *gestures* (laugh, scream, gasp, ...). Each has syllables whose pitch, voicing, breath and
vowel follow the contours of ``GESTURES``. The sources are a band-limited glottal pulse train (Stilson & Smith, 1996)
with jitter, shimmer, subharmonics and amplitude modulation, and noise. Time-varying formant resonators (Fant, 1960)
filter both, frame by frame in the frequency domain.

Cues of each label
------------------
The tables below are complete: nothing else in the sound depends on a label.

- **Emotion**, ``EMOTION_CUES``: which gestures occur, pitch and pitch span, vocal effort (spectral tilt),
  breath, roughness, tremor, tempo and length. A mixture of emotions mixes the rows.
- **Age**, ``AGE_CUES``: an older voice is lower, has a longer vocal tract, more jitter, a steeper tilt and a
  slower tempo.
- **Country**, ``COUNTRY_CUES``: vowel targets (open or close, front or back), the height of F3, tempo,
  long-short rhythm, and the rise or fall of pitch within a syllable.

Every cue has random variation by speaker (``VOICE_NOISE``) or by clip (``STYLE_NOISE``), and sex affects pitch and
formants more than age does. No label can therefore be derived exactly from the sound. The directions follow Sauter et
al. (2010) for emotional vocalisations and Arnal et al. (2015) for the roughness of screams. The sizes, and all
country cues, are invented.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft

SAMPLE_RATE = 24000
HOP_LENGTH = 120  # one control frame, 5 ms
WIN_LENGTH = 480
N_FFT = 1080  # nine hops, with 25 ms for the decay of the formants after the window
MIN_SECONDS, MAX_SECONDS = 0.25, 4.5


@dataclass(frozen=True)
class Gesture:
    """Contours of one syllable, as values at equal steps, and the number of repetitions."""

    seconds: float
    repeat: tuple[int, int]
    pitch: tuple[float, ...]  # in units of the pitch span
    voice: tuple[float, ...]  # amplitude of the pulse train
    breath: tuple[float, ...]  # amplitude of the noise
    openness: tuple[float, ...]  # 0 close vowel, 1 open vowel
    frontness: tuple[float, ...]  # 0 back vowel, 1 front vowel
    decline: float = 0.0  # semitones lost from one syllable to the next


GESTURES = {
    "laugh": Gesture(
        0.19, (3, 9), (0.4, 1, 0.4, 0), (0, 0, 1, 0.7, 0), (0.5, 0.9, 0.2, 0.2, 0.4), (0.7, 0.8), (0.4,), 0.5
    ),
    "scream": Gesture(
        0.95, (1, 1), (-0.5, 0.8, 1, 0.9, 0.2), (0, 1, 1, 0.9, 0.7, 0), (0.1,), (0.6, 1, 1, 0.9), (0.45,)
    ),
    "gasp": Gesture(0.32, (1, 2), (0, 1), (0, 0, 0, 0.25, 0), (0, 0.4, 1, 0.5, 0), (0.3, 0.8), (0.5,)),
    "sigh": Gesture(
        0.95,
        (1, 1),
        (0.6, 0.2, -0.5, -1),
        (0, 0.7, 0.5, 0.2, 0),
        (0.3, 0.6, 0.7, 0.5, 0),
        (0.7, 0.3),
        (0.35,),
    ),
    "moan": Gesture(
        0.9, (1, 2), (0, 0.3, 0.1, -0.5), (0, 0.8, 1, 0.8, 0), (0.1,), (0.25, 0.45, 0.25), (0.2,)
    ),
    "sob": Gesture(
        0.34, (2, 5), (0.6, 0, -0.8), (0, 1, 0.3, 0, 0), (0.2, 0.2, 0.6, 0.9, 0.2), (0.45,), (0.3,), 0.2
    ),
    "call": Gesture(
        0.7, (1, 2), (-1, 0.2, 1, 0.4, -0.6), (0, 0.8, 1, 0.9, 0), (0.1,), (0.1, 0.8, 1, 0.5), (0, 0.3, 0.8)
    ),
    "hum": Gesture(0.42, (1, 2), (0, 0.2, -0.3), (0, 0.7, 0.6, 0), (0.1,), (0.05, 0.1, 0.05), (0.3,)),
}

# Standard deviations over the clips of one mixture of emotions. Pitch and span are in semitones; effort,
# breath, rough and tremor go from 0 to 1; tempo is a factor; the length is in seconds.
STYLE_NOISE = {
    "pitch": 1.8,
    "span": 1.2,
    "effort": 0.13,
    "breath": 0.12,
    "rough": 0.10,
    "tremor": 0.10,
    "tempo": 0.10,
    "seconds": 0.30,
}
EMOTION_CUES = {
    # gestures and their shares, then the cues in the order of STYLE_NOISE:
    #                            pitch span effort breath rough tremor tempo seconds
    "Awe": ({"call": 0.6, "sigh": 0.4}, (-1.0, 6.0, 0.35, 0.50, 0.00, 0.05, 0.75, 1.9)),
    "Excitement": ({"call": 0.7, "laugh": 0.3}, (7.0, 9.0, 0.75, 0.15, 0.00, 0.05, 1.40, 1.4)),
    "Amusement": ({"laugh": 1.0}, (3.0, 4.0, 0.50, 0.45, 0.10, 0.00, 1.15, 1.9)),
    "Awkwardness": ({"hum": 0.8, "laugh": 0.2}, (-3.0, 2.0, 0.20, 0.20, 0.10, 0.00, 0.95, 0.8)),
    "Fear": ({"gasp": 0.5, "scream": 0.5}, (8.0, 4.0, 0.60, 0.50, 0.15, 0.45, 1.30, 1.1)),
    "Horror": ({"scream": 1.0}, (10.0, 6.0, 1.00, 0.15, 0.80, 0.20, 1.00, 1.7)),
    "Distress": ({"moan": 0.6, "sob": 0.4}, (3.0, 3.0, 0.60, 0.20, 0.55, 0.60, 0.90, 1.8)),
    "Triumph": ({"call": 0.9, "scream": 0.1}, (1.0, 8.0, 1.00, 0.00, 0.35, 0.00, 0.80, 1.7)),
    "Sadness": ({"sob": 0.4, "sigh": 0.3, "moan": 0.3}, (-3.0, 2.0, 0.10, 0.70, 0.05, 0.55, 0.70, 2.2)),
    "Surprise": ({"gasp": 0.6, "call": 0.4}, (6.0, 11.0, 0.50, 0.40, 0.00, 0.00, 1.25, 0.6)),
}

# Standard deviations over the speakers of one age and country. Pitch is in semitones; tract, tempo, f3 and
# alternation (of long and short syllables) are relative changes; jitter is the log of a factor; tilt is in dB
# per octave, openness and frontness as in GESTURES, lilt in semitones of rise over a syllable.
VOICE_NOISE = {
    "pitch": 0.9,
    "tract": 0.015,
    "jitter": 0.20,
    "tilt": 0.8,
    "tempo": 0.05,
    "openness": 0.05,
    "frontness": 0.05,
    "f3": 0.02,
    "lilt": 0.7,
    "alternation": 0.06,
}
# Changes from 29.5 to 39 years; the opposite from 29.5 to 20.
AGE_CUES = {"pitch": -2.5, "tract": 0.05, "jitter": 0.7, "tilt": -2.5, "tempo": -0.1}
COUNTRY_CUES = {
    "China": {"tempo": 0.05, "openness": -0.10, "frontness": 0.16, "f3": 0.04, "lilt": -3.0},
    "South Africa": {"tempo": -0.12, "openness": 0.14, "frontness": -0.14, "lilt": -0.5, "alternation": 0.3},
    "United States": {"tempo": -0.05, "openness": 0.06, "frontness": 0.08, "f3": -0.16, "alternation": 0.1},
    "Venezuela": {"tempo": 0.15, "openness": -0.10, "frontness": -0.12, "f3": 0.04, "lilt": 3.0},
}


@dataclass(frozen=True)
class Voice:
    """Properties of a speaker, constant over all clips."""

    f0: float  # Hz, of a neutral voice
    tract: float  # length of the vocal tract relative to an adult man's 17.5 cm
    cues: dict[str, float]  # the keys of ``VOICE_NOISE``


@dataclass(frozen=True)
class Style:
    """Properties of one clip that depend on its emotions."""

    gestures: np.ndarray  # probabilities, in the order of ``GESTURES``
    cues: dict[str, float]  # the keys of ``STYLE_NOISE``


def voice_of(age: float, country: str, female: bool, rng: np.random.Generator) -> Voice:
    """Draw the voice of a speaker.

    Parameters
    ----------
    age : float
        In years.
    country : str
        A key of ``COUNTRY_CUES``.
    female : bool
        Raises the pitch by an octave minus a third and shortens the vocal tract, as for an average speaker.
    rng : np.random.Generator
    """
    older = (age - 29.5) / 9.5
    cues = {
        name: older * AGE_CUES.get(name, 0.0)
        + COUNTRY_CUES[country].get(name, 0.0)
        + noise * rng.standard_normal()
        for name, noise in VOICE_NOISE.items()
    }
    return Voice(
        f0=(205.0 if female else 120.0) * 2 ** (cues["pitch"] / 12),
        tract=(0.86 if female else 1.0) * (1 + cues["tract"]),
        cues=cues,
    )


def style_of(intensities: np.ndarray, emotions: tuple[str, ...], rng: np.random.Generator) -> Style:
    """Draw the style of a clip from its emotions: the weighted mean of ``EMOTION_CUES`` plus noise.

    Parameters
    ----------
    intensities : np.ndarray [shape=(n_emotions,)]
        Non-negative, not all zero. Their squares are the weights, which emphasises strong emotions.
    emotions : tuple of str
        Their names.
    rng : np.random.Generator
    """
    weights = intensities**2 / np.sum(intensities**2)
    means = weights @ np.array([EMOTION_CUES[name][1] for name in emotions])
    cues = {
        name: mean + noise * rng.standard_normal()
        for mean, (name, noise) in zip(means, STYLE_NOISE.items(), strict=True)
    }
    for name in ("effort", "breath", "rough", "tremor"):
        cues[name] = min(max(cues[name], 0.0), 1.0)
    cues["span"] = max(cues["span"], 0.5)
    cues["tempo"] = max(cues["tempo"], 0.5)
    cues["seconds"] = min(max(cues["seconds"] * rng.lognormal(0.0, 0.25), MIN_SECONDS), MAX_SECONDS)
    shares = weights @ np.array([[EMOTION_CUES[name][0].get(g, 0.0) for g in GESTURES] for name in emotions])
    return Style(gestures=shares / shares.sum(), cues=cues)


def burst(voice: Voice, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Synthesise one vocal burst.

    Parameters
    ----------
    voice, style : Voice, Style
        Properties of the speaker and of the clip.
    rng : np.random.Generator
        The same state gives the same burst.

    Returns
    -------
    np.ndarray [shape=(n_samples,), float64]
        At ``SAMPLE_RATE``, without silence around it, scaled to a peak of 1; at most ``MAX_SECONDS`` long.
    """
    tracks = _control_tracks(voice, style, rng)
    pulses, breath = _sources(voice, style, tracks, rng)
    audio = _formant_filter(voice, style, tracks, pulses, breath)
    at = np.arange(1, len(audio) + 1) / SAMPLE_RATE
    audio = audio * np.minimum(1.0, at / 0.005) * np.minimum(1.0, at[::-1] / 0.04)
    return audio / np.abs(audio).max()


def _control_tracks(voice: Voice, style: Style, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Concatenate gestures until the burst is long enough; each track has one value per control frame."""
    spoken, styled = voice.cues, style.cues
    names = list(GESTURES)
    n_frames = int(styled["seconds"] * SAMPLE_RATE / HOP_LENGTH)
    tempo = styled["tempo"] * max(0.5, 1 + spoken["tempo"])
    pieces: list[np.ndarray] = []
    made = 0
    while made < n_frames:
        gesture = GESTURES[names[rng.choice(len(names), p=style.gestures)]]
        for k in range(rng.integers(gesture.repeat[0], gesture.repeat[1] + 1)):
            stress = 1 + spoken["alternation"] * (-1) ** k
            length = gesture.seconds / tempo * stress * rng.lognormal(0.0, 0.12)
            size = max(8, int(length * SAMPLE_RATE / HOP_LENGTH))
            at = np.linspace(0.0, 1.0, size)
            pitch = (
                styled["span"] * _contour(gesture.pitch, at)
                - gesture.decline * k
                + spoken["lilt"] * (at - 0.5)
            )
            pieces.append(
                np.stack(
                    [
                        pitch,
                        _contour(gesture.voice, at) * stress,
                        _contour(gesture.breath, at),
                        np.clip(_contour(gesture.openness, at) + spoken["openness"], 0.0, 1.3),
                        np.clip(_contour(gesture.frontness, at) + spoken["frontness"], -0.3, 1.3),
                    ]
                )
            )
            made += size
        pause = np.repeat(pieces[-1][:, -1:], int(rng.uniform(4, 24)), axis=1)
        pause[1:3] = 0.0
        pieces.append(pause)
        made += pause.shape[1]
    # A gesture may exceed the duration slightly, so that it is not truncated.
    limit = min(int(n_frames * 1.15), int(MAX_SECONDS * SAMPLE_RATE / HOP_LENGTH))
    tracks = np.concatenate(pieces, axis=1)[:, :limit]
    pitch, voiced, breath, openness, frontness = tracks
    time = np.arange(tracks.shape[1]) * HOP_LENGTH / SAMPLE_RATE
    tremor = styled["tremor"] * np.sin(2 * np.pi * (rng.uniform(5, 7) * time + rng.uniform()))
    semitones = styled["pitch"] + pitch + 1.2 * tremor
    return {
        "f0": np.clip(voice.f0 * 2 ** (semitones / 12), 60.0, 1400.0),
        "voice": voiced * (1 + 0.35 * tremor),
        "breath": breath * (0.4 + 1.2 * styled["breath"]) + 0.25 * styled["breath"] * voiced,
        "openness": openness,
        "frontness": frontness,
    }


def _contour(points: tuple[float, ...], at: np.ndarray) -> np.ndarray:
    return (
        np.interp(at, np.linspace(0.0, 1.0, len(points)), points)
        if len(points) > 1
        else np.full(len(at), points[0])
    )


def _sources(
    voice: Voice, style: Style, tracks: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return pulse train and noise, each of about unit power where its track is 1."""
    rough = style.cues["rough"]
    jitter = 0.008 * np.exp(voice.cues["jitter"]) * (1 + 2 * rough)
    n_frames = len(tracks["f0"])
    n_samples = n_frames * HOP_LENGTH
    frame = np.arange(n_samples) / HOP_LENGTH
    f0, level, breath = (
        np.interp(frame, np.arange(n_frames), tracks[name]) for name in ("f0", "voice", "breath")
    )

    cycle = np.cumsum(f0 / SAMPLE_RATE).astype(np.int64)
    f0 = f0 * np.exp(jitter * rng.standard_normal(cycle[-1] + 1))[cycle]
    phase = np.cumsum(f0 / SAMPLE_RATE)
    # The sum of all harmonics below the Nyquist frequency in closed form: no aliasing at any pitch.
    n_lines = 2 * np.floor(SAMPLE_RATE / 2 / f0) + 1
    centred = (phase + 0.5) % 1.0 - 0.5
    near = np.abs(centred) < 1e-6
    safe = np.where(near, 0.25, centred)
    kernel = np.where(near, n_lines, np.sin(np.pi * n_lines * safe) / np.sin(np.pi * safe))
    pulses = (kernel - 1) / np.sqrt(n_lines)

    # Amplitudes change half a cycle away from the pulse, where the waveform is flat.
    cycle = (phase + 0.5).astype(np.int64)
    shimmer = np.exp(4 * jitter * rng.standard_normal(cycle[-1] + 1))
    subharmonic = 1 + 0.6 * rough * (-1.0) ** np.arange(cycle[-1] + 1)
    beating = 1 + 0.7 * rough * np.sin(2 * np.pi * rng.uniform(40, 80) * np.arange(n_samples) / SAMPLE_RATE)
    pulses = pulses * level * (shimmer * subharmonic)[cycle] * beating
    # Turbulence is modulated by the glottal cycle during voicing.
    puffs = 1 + 0.5 * np.minimum(level, 1.0) * np.cos(2 * np.pi * phase)
    hiss = breath * puffs * rng.standard_normal(n_samples)
    return pulses.astype(np.float32), hiss.astype(np.float32)


def _formant_filter(
    voice: Voice, style: Style, tracks: dict[str, np.ndarray], pulses: np.ndarray, breath: np.ndarray
) -> np.ndarray:
    """Filter both sources by spectral tilt and time-varying formants: windowed frames, FFT, overlap-add."""
    openness, frontness = tracks["openness"], tracks["frontness"]
    # In singing and screaming, F1 rises with the pitch.
    f1 = np.maximum(280 + 560 * openness, 0.9 * tracks["f0"] * voice.tract)
    f2 = 850 + 250 * openness + 1250 * frontness
    f3 = (2450 + 350 * frontness) * (1 + voice.cues["f3"])
    hz = fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE).astype(np.float32)
    fixed = np.array([[3500.0], [4500.0], [5500.0], [6500.0], [7500.0]])
    response = 1 / (_poles(np.stack([f1, f2, f3]) / voice.tract, hz) * _poles(fixed / voice.tract, hz))
    # In dB per octave, for glottal flow and lip radiation together.
    slope = -10.0 + 7.0 * style.cues["effort"] + voice.cues["tilt"]
    octaves = np.log2(np.maximum(hz, 80.0) / 80.0)
    voiced = response * 10 ** (np.float32(slope / 20) * octaves)
    hissed = response * 10 ** (np.float32(-1.5 / 20) * octaves)

    # At a hop of a quarter of their length, the windows sum to 1.
    window = (np.hanning(WIN_LENGTH + 1)[:-1] / 2).astype(np.float32)
    out = np.zeros((len(openness) + N_FFT // HOP_LENGTH, HOP_LENGTH))
    for source, shape, level in ((pulses, voiced, 1.0), (breath, hissed, 0.5)):
        # Normalised by the gain for white noise, so that vowel and tilt change the spectrum and not the level.
        shape /= np.sqrt(np.mean(np.abs(shape) ** 2, axis=1, keepdims=True))
        padded = np.pad(source, (0, WIN_LENGTH - HOP_LENGTH))
        frames = sliding_window_view(padded, WIN_LENGTH)[::HOP_LENGTH] * window
        filtered = fft.irfft(fft.rfft(frames, N_FFT) * shape, N_FFT).reshape(len(frames), -1, HOP_LENGTH)
        for k in range(filtered.shape[1]):
            out[k : k + len(frames)] += level * filtered[:, k]
    return out.reshape(-1)[: len(pulses)]


def _poles(formants: np.ndarray, hz: np.ndarray) -> np.ndarray:
    """Multiply the denominators of resonators: ``(n_formants, n_frames)`` to ``(n_frames, n_hz)``."""
    product = np.ones((formants.shape[1], len(hz)), np.complex64)
    for centre in formants.astype(np.float32)[..., None]:
        width = 50 + np.float32(0.03) * centre
        product *= 1 - (hz / centre) ** 2 + 1j * hz * (width / centre**2)
    return product
