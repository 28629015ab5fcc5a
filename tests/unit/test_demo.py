import hashlib
import re
import subprocess
from itertools import pairwise

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest
import soundfile

from exvo.corpus import demo, synth
from exvo.corpus.demo import make_demo_corpus
from exvo.corpus.labels import EMOTIONS

N_CLIPS = 72
COLUMNS = ["File_ID", "Split", "Subject_ID", "Country", "Country_string", "Age", *EMOTIONS]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "corpus"
    make_demo_corpus(root, n_clips=N_CLIPS, seed=3, n_workers=1)
    return root


@pytest.fixture(scope="module")
def full_table(corpus):
    """Every clip with its labels, those of Test taken from the file of the test labels."""
    table = pd.read_csv(corpus / "data_info.csv")
    test = pd.read_csv(corpus / "test_labels.csv")
    return pd.concat([table[table["Split"] != "Test"], test]).sort_values("File_ID", ignore_index=True)


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_same_seed_gives_same_bytes_with_any_number_of_workers(tmp_path):
    for name, n_workers in (("one", 1), ("two", 2)):
        make_demo_corpus(tmp_path / name, n_clips=14, seed=5, n_workers=n_workers)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    make_demo_corpus(tmp_path / "other", n_clips=14, seed=6, n_workers=1)
    assert digests(tmp_path / "one")["raw/00000.webm"] != digests(tmp_path / "other")["raw/00000.webm"]


def test_layout_is_that_of_the_challenge(corpus):
    table = pd.read_csv(corpus / "data_info.csv")
    assert list(table.columns) == COLUMNS
    ids = [f"{i:05d}" for i in range(N_CLIPS)]
    assert list(table["File_ID"]) == [f"[{name}]" for name in ids]
    assert sorted(path.name for path in (corpus / "raw").iterdir()) == [f"{name}.webm" for name in ids]
    assert sorted(path.name for path in (corpus / "wav").iterdir()) == [f"{name}.wav" for name in ids]


def test_data_info_keeps_no_label_of_test_clips_and_test_labels_holds_all(corpus):
    table = pd.read_csv(corpus / "data_info.csv")
    test = table[table["Split"] == "Test"]
    assert test[COLUMNS[2:]].isna().all(axis=None)
    assert table[table["Split"] != "Test"].notna().all(axis=None)
    labels = pd.read_csv(corpus / "test_labels.csv")
    assert list(labels.columns) == COLUMNS
    assert list(labels["File_ID"]) == list(test["File_ID"])
    assert labels.notna().all(axis=None)
    # An integer code, not a float, although a column with gaps tempts pandas to write one.
    line = next(line for line in (corpus / "data_info.csv").read_text().splitlines() if ",Train," in line)
    assert line.split(",")[3] in {"0", "1", "2", "3"}


def test_speakers_stay_in_one_split_and_each_split_has_every_country(full_table):
    assert (full_table.groupby("Subject_ID")[["Split", "Country", "Age"]].nunique() == 1).all(axis=None)
    for _, part in full_table.groupby("Split"):
        assert set(part["Country_string"]) == {country.name for country in demo.COUNTRIES}
    names = dict(zip(full_table["Country"], full_table["Country_string"], strict=True))
    assert names == {0: "China", 1: "South Africa", 2: "United States", 3: "Venezuela"}


def test_default_corpus_has_36_speakers_split_about_60_20_20():
    table, _ = demo._draw_table(360, 36, 0)
    assert table["Subject_ID"].nunique() == 36
    shares = table.groupby("Split")["Subject_ID"].nunique() / 36
    assert shares["Train"] == pytest.approx(0.6, abs=0.06)
    assert shares["Val"] == shares["Test"] == pytest.approx(0.2, abs=0.03)


def test_emotions_are_mixtures_scaled_to_a_maximum_of_one(full_table):
    emotions = full_table[list(EMOTIONS)].to_numpy()
    assert emotions.min() >= 0
    assert (emotions.max(axis=1) == 1).all()
    assert (np.sort(emotions, axis=1)[:, -2] > 0.3).mean() > 0.4
    assert full_table["Age"].between(20, 39).all()


def test_raw_clips_are_opus_with_mixed_rates_channels_and_headers(corpus):
    rates, channels, durations = set(), set(), set()
    for path in sorted((corpus / "raw").iterdir()):
        content = path.read_bytes()
        # ffmpeg shows 48 kHz for any Opus stream; the rate of the input stands in the identification header.
        head = content[content.index(b"OpusHead") :]
        rates.add(int.from_bytes(head[12:16], "little"))
        shown = subprocess.run(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", path], capture_output=True, text=True
        ).stderr
        channels.add(re.search(r"Audio: opus, 48000 Hz, (\w+)", shown)[1])
        durations.add("N/A" if "Duration: N/A" in shown else "known")
    assert rates >= {48000, 24000, 16000}
    assert rates <= set(demo.ENCODED_RATES)
    assert channels == {"mono", "stereo"}
    assert durations == {"N/A", "known"}


def test_wav_copies_are_16_khz_mono_and_hard_clipped(corpus):
    for path in (corpus / "wav").iterdir():
        audio, rate = soundfile.read(path)
        assert rate == 16000
        assert audio.ndim == 1
        assert 0.3 < len(audio) / rate < 6.5
        assert (np.abs(audio) >= 32767 / 32768).mean() > 1e-3


def test_second_call_changes_nothing_and_an_interrupted_corpus_is_made_again(tmp_path):
    make_demo_corpus(tmp_path, n_clips=12, n_workers=1)
    before = digests(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    calls = []
    make_demo_corpus(
        tmp_path, n_clips=12, n_workers=1, progress=lambda done, total: calls.append((done, total))
    )
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert calls == [(12, 12)]

    (tmp_path / "data_info.csv").unlink()
    (tmp_path / "raw" / "00003.webm").write_bytes(b"half")
    make_demo_corpus(tmp_path, n_clips=12, n_workers=1)
    assert digests(tmp_path) == before


def test_other_parameters_replace_an_earlier_demo_corpus_and_leave_no_clip_of_it(tmp_path):
    make_demo_corpus(tmp_path, n_clips=13, n_speakers=12, n_workers=1)
    make_demo_corpus(tmp_path, n_clips=12, n_speakers=12, n_workers=1)
    assert len(pd.read_csv(tmp_path / "data_info.csv")) == 12
    assert len(list((tmp_path / "raw").iterdir())) == len(list((tmp_path / "wav").iterdir())) == 12


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    mine = tmp_path / "data_info.csv"
    mine.write_text("File_ID,Split\n[00001],Train\n")
    with pytest.raises(ValueError, match="not a demo corpus"):
        make_demo_corpus(tmp_path, n_clips=12)
    assert mine.read_text() == "File_ID,Split\n[00001],Train\n"


@pytest.mark.parametrize("wrong", [{"n_speakers": 11}, {"n_clips": 11}, {"seed": -1}])
def test_impossible_parameters_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError):
        make_demo_corpus(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def bursts(emotion=None, age=29.5, country="China", n=8):
    """Bursts of ``n`` men and women with one emotion, or with a mixture of all."""
    intent = np.array([emotion in (None, name) for name in EMOTIONS], float)
    for k in range(n):
        rng = np.random.default_rng(k)
        voice = synth.voice_of(age, country, k % 2 == 0, rng)
        yield synth.burst(voice, synth.style_of(intent, EMOTIONS, rng), rng)


def centroid(audio):
    power = np.abs(np.fft.rfft(audio)) ** 2
    return np.sum(power * np.fft.rfftfreq(len(audio), 1 / synth.SAMPLE_RATE)) / np.sum(power)


def share_of_syllable_rate(audio):
    """Share of the envelope's modulation between 3.5 and 9 Hz, the rate of the syllables of laughter."""
    envelope = np.abs(audio)[: len(audio) // 240 * 240].reshape(-1, 240).mean(axis=1)
    power = np.abs(np.fft.rfft(envelope - envelope.mean(), 1024)) ** 2
    hz = np.fft.rfftfreq(1024, 0.01)
    return power[(hz > 3.5) & (hz < 9)].sum() / power[hz < 30].sum()


def mean_of(measure, **kwargs):
    return np.mean([measure(audio) for audio in bursts(**kwargs)])


def test_emotions_shape_length_colour_and_rhythm_as_the_table_says():
    assert mean_of(len, emotion="Sadness") > 1.5 * mean_of(len, emotion="Surprise")
    assert mean_of(centroid, emotion="Horror") > 1.5 * mean_of(centroid, emotion="Awkwardness")
    laughter = mean_of(share_of_syllable_rate, emotion="Amusement")
    assert laughter > 1.5 * mean_of(share_of_syllable_rate, emotion="Triumph")


def test_older_voices_are_darker():
    assert mean_of(centroid, age=21.0, n=16) > 1.1 * mean_of(centroid, age=38.0, n=16)


def test_bursts_are_finite_and_free_of_aliasing():
    for emotion in EMOTIONS:
        for audio in bursts(emotion, n=2):
            assert np.isfinite(audio).all()
            assert np.abs(audio).max() == pytest.approx(1)
            power = np.abs(np.fft.rfft(audio)) ** 2
            hz = np.fft.rfftfreq(len(audio), 1 / synth.SAMPLE_RATE)
            assert power[hz > 10000].sum() < 1e-4 * power.sum()


def test_emotions_can_be_learned_from_the_sound_but_not_perfectly():
    labels, clips = demo._draw_table(240, 24, 0)
    measures = []
    for clip in clips:
        audio = demo._speak(clip, 0, np.random.default_rng(clip.index))
        bands = np.abs(np.fft.rfft(audio)) ** 2
        edges = np.geomspace(80, 8000, 17) / (synth.SAMPLE_RATE / 2) * len(bands)
        levels = [np.log(bands[int(a) : int(b)].mean()) for a, b in pairwise(edges)]
        measures.append([1.0, np.log(len(audio)), share_of_syllable_rate(audio), *levels])
    x = np.array(measures)
    x[:, 1:] = (x[:, 1:] - x[:, 1:].mean(axis=0)) / x[:, 1:].std(axis=0)
    # A ridge regression fitted on the training speakers, judged on the others.
    y = labels[list(EMOTIONS)].to_numpy()
    held_out = (labels["Split"] != "Train").to_numpy()
    gram = x[~held_out].T @ x[~held_out] + 5.0 * np.eye(x.shape[1])
    predicted = x[held_out] @ np.linalg.solve(gram, x[~held_out].T @ y[~held_out])
    seen = [np.corrcoef(predicted[:, k], y[held_out, k])[0, 1] for k in range(len(EMOTIONS))]
    assert 0.2 < np.mean(seen) < 0.9
