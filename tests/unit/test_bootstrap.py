"""The bootstrap over speakers: equal to explicit resampling, and right about its own uncertainty."""

from dataclasses import replace

import numpy as np
import pytest

from exvo.corpus.labels import EMOTIONS, Country, Labels
from exvo.evaluation.bootstrap import BootstrapConfig, SpeakerBootstrap, difference, relative
from exvo.evaluation.intervals import limits
from exvo.evaluation.metrics import score
from exvo.evaluation.predictions import Predictions
from exvo.evaluation.speakers import speaker_folds, speaker_index
from exvo.report.tables.systems_layout import interval_notes

N_COUNTRIES = 3
COUNTRIES = tuple(Country(code, f"country {code}") for code in range(N_COUNTRIES))


def simulate(random, n_speakers, n_each, *, shared=0.8, unnamed=0):
    """Clips whose labels and errors are alike within a speaker, and predictions of them."""
    speaker = np.repeat(np.arange(n_speakers), n_each)
    n = len(speaker)
    emotion = 0.6 * random.normal(size=(n_speakers, 10))[speaker] + random.normal(size=(n, 10))
    error = shared * random.normal(size=(n_speakers, 10))[speaker] + 0.6 * random.normal(size=(n, 10))
    age = random.uniform(20, 39, n_speakers)[speaker]
    age_error = 4 * random.normal(size=n_speakers)[speaker] + random.normal(size=n)
    country = random.integers(0, N_COUNTRIES, n_speakers)[speaker]
    right = random.random(n) < random.beta(3, 1, n_speakers)[speaker]
    names = np.array([f"s{i}" for i in speaker], dtype=object)
    names[:unnamed] = ""
    clip_id = np.array([f"c{i}" for i in range(n)], dtype=object)
    labels = Labels(clip_id, np.full(n, "Val"), names, age, country, emotion, COUNTRIES)
    chosen = np.where(right, country, (country + 1) % N_COUNTRIES)
    answers = Predictions(
        clip_id,
        age + age_error,
        np.eye(N_COUNTRIES)[chosen],
        0.6 * emotion + error,
        tuple(range(N_COUNTRIES)),
    )
    return labels, answers


def with_gaps(labels, random):
    """Labels known for a part only; the last emotion varies in a few clips of one speaker alone."""
    n = len(labels)
    emotion = np.where(random.random((n, 10)) < 0.3, np.nan, labels.emotion)
    emotion[:, 9] = 0.25
    emotion[labels.speaker == labels.speaker[-1], 9] = np.linspace(
        0, 1, (labels.speaker == labels.speaker[-1]).sum()
    )
    emotion[:, 8] = np.nan
    return replace(
        labels,
        emotion=emotion,
        age=np.where(random.random(n) < 0.7, np.nan, labels.age),
        country=np.where(random.random(n) < 0.4, -1, labels.country),
    )


def rows_of_resample(source, labels, resample):
    """The clips of one resample, each as often as its speaker was drawn."""
    index, _ = speaker_index(labels.speaker)
    speakers = np.unique(index[source._rows])  # only speakers with a label are drawn
    times = np.zeros(index.max() + 1, dtype=int)
    times[speakers] = source._weights[resample].astype(int)
    return np.repeat(np.arange(len(labels)), times[index])


@pytest.mark.parametrize("form", ["standard", "organisers"])
def test_a_resample_has_the_metrics_of_its_clips_written_out(form):
    random = np.random.default_rng(1)
    labels, answers = simulate(random, 9, 7, unnamed=5)
    labels = with_gaps(labels, random)
    seeds = [answers, replace(answers, emotion=answers.emotion[::-1] + 3, age=answers.age + 1)]
    source = SpeakerBootstrap(labels, BootstrapConfig(resamples=60, seed=2), form)
    draws = source.draws(seeds)
    vanished = 0
    for resample in range(61):
        rows = rows_of_resample(source, labels, resample)
        there = np.arange(len(rows)).astype(str)
        drawn = replace(labels.take(rows), clip_id=there)
        scores = [
            score(
                drawn,
                Predictions(there, s.age[rows], s.country[rows], s.emotion[rows], s.country_codes),
                form=form,
            )
            for s in seeds
        ]
        # The organisers' form is rounded to 4 places by exvo.evaluation.metrics.
        atol = 1e-10 if form == "standard" else 6e-5
        expected = {
            name: np.mean([getattr(s, name) for s in scores]) for name in ("uar", "mae", "ccc", "s_mtl")
        }
        for i, name in enumerate(EMOTIONS):
            expected[name] = np.mean([s.ccc_per_emotion[i] for s in scores])
        for name, value in expected.items():
            found = draws.values[name][resample]
            found = np.nan if np.isinf(found) else found
            np.testing.assert_allclose(
                found, value, rtol=0, atol=atol, err_msg=f"{name}, resample {resample}"
            )
        vanished += len(set(drawn.country.tolist()) - {-1}) < N_COUNTRIES or np.isnan(expected["Surprise"])
    assert vanished  # a country or an emotion was gone in some of them
    assert source.n_unnamed <= 5 and draws.n_speakers["s_mtl"] == min(source.n_speakers_of.values())


def test_what_is_not_measured_has_no_interval():
    random = np.random.default_rng(3)
    labels, answers = simulate(random, 6, 4)
    source = SpeakerBootstrap(labels, BootstrapConfig(resamples=50))
    silent = source.draws([replace(answers, age=np.full(len(labels), np.nan))])
    assert np.isnan(silent.value("mae")) and np.isnan(silent.interval("mae").low)
    assert np.isnan(silent.value("s_mtl")) and np.isfinite(silent.interval("ccc").low)
    one_missing = source.draws(
        [replace(answers, age=np.where(np.arange(len(labels)) == 0, np.nan, answers.age))]
    )
    assert np.isnan(one_missing.interval("mae").high)
    nothing = SpeakerBootstrap(
        replace(
            labels,
            age=np.full(24, np.nan),
            country=np.full(24, -1),
            emotion=np.full((24, 10), np.nan),
        ),
        BootstrapConfig(resamples=50),
    )
    assert nothing.n_speakers == 0 and np.isnan(nothing.draws([answers]).interval("ccc").low)
    alone = SpeakerBootstrap(replace(labels, speaker=np.full(24, "s")), BootstrapConfig(resamples=50))
    assert np.isfinite(alone.draws([answers]).value("ccc")) and np.isnan(
        alone.draws([answers]).interval("ccc").low
    )


def test_an_undefined_s_mtl_counts_as_lower_than_any_other():
    random = np.random.default_rng(4)
    labels, answers = simulate(random, 8, 5)
    noise = replace(answers, emotion=0.1 * labels.emotion + random.normal(size=labels.emotion.shape))
    source = SpeakerBootstrap(labels, BootstrapConfig(resamples=300))
    draws = source.draws([noise])
    found = draws.interval("s_mtl")
    assert found.n_undefined == (draws.values["ccc"][1:] <= 0).sum() > 20
    assert found.low == -np.inf and np.isfinite(found.high)
    both = difference(draws, draws, "s_mtl")
    assert both.value == 0 and both.low == both.high == 0 and both.p == 1


def test_an_emotion_counts_the_speakers_of_its_own_labels():
    random = np.random.default_rng(15)
    labels, answers = simulate(random, 8, 5)
    labels.emotion[~np.isin(labels.speaker, ["s0", "s1", "s2", "s3"]), 4] = np.nan
    labels.emotion[~np.isin(labels.speaker, ["s0", "s1", "s2", "s3", "s4"]), 6] = np.nan
    draws = SpeakerBootstrap(labels, BootstrapConfig(resamples=50)).draws([answers])
    few, enough, all_of_them = (draws.interval(EMOTIONS[column]) for column in (4, 6, 0))
    assert (few.n_speakers, enough.n_speakers, all_of_them.n_speakers) == (4, 5, 8)
    assert np.isfinite(draws.value(EMOTIONS[4])) and np.isnan(few.low) and np.isfinite(enough.low)


def test_countries_of_few_speakers_are_known_by_name():
    labels, _ = simulate(np.random.default_rng(16), 12, 3)
    speaker = np.repeat(np.arange(12), 3)
    labels = replace(labels, country=np.where(speaker < 5, 0, np.where(speaker < 9, 1, -1)))
    source = SpeakerBootstrap(labels, BootstrapConfig(resamples=10))
    assert source.n_speakers_of_country == {"country 0": 5, "country 1": 4}
    assert source.few_speakers() == {"country 1": 4}
    (note,) = [note for note in interval_notes(source, "Val") if note.startswith("Countries of Val")]
    assert "fewer than 5 speakers: country 1 (4)." in note and "too narrow" in note


def test_a_relative_difference_is_that_of_each_resample():
    random = np.random.default_rng(17)
    labels, answers = simulate(random, 10, 6)
    other = replace(answers, emotion=0.5 * answers.emotion, age=answers.age + 1)
    source = SpeakerBootstrap(labels, BootstrapConfig(resamples=99))
    first, second = source.draws([answers]), source.draws([other])
    found = relative(first, second, "s_mtl")
    ratio = first.values["s_mtl"] / second.values["s_mtl"]
    assert found.value == pytest.approx(100 * (ratio[0] - 1))
    assert (found.low, found.high) == pytest.approx(limits(np.sort(100 * (ratio[1:] - 1)), 10, 0.95))
    # A resample in which the other has no S_MTL is one in which the first is ahead by any number of percent.
    second.values["s_mtl"][1:] = -np.inf
    assert relative(first, second, "s_mtl").low == np.inf


def test_a_constant_has_a_ccc_of_zero_and_no_s_mtl_in_any_resample():
    random = np.random.default_rng(14)
    labels, answers = simulate(random, 8, 7)
    labels = with_gaps(labels, random)
    # Sums of 0.1 round: a CCC of 1e-17 would pass for a positive term.
    constant = replace(answers, emotion=np.tile(random.random(10), (len(labels), 1)))
    found = score(labels, constant)
    assert found.ccc == 0 and np.isnan(found.s_mtl)
    draws = SpeakerBootstrap(labels, BootstrapConfig(resamples=100)).draws([constant])
    assert (draws.values["ccc"] == 0).all() and (draws.values["s_mtl"] == -np.inf).all()


def test_clips_without_a_speaker_count_each_as_their_own():
    random = np.random.default_rng(5)
    labels, _ = simulate(random, 4, 5, unnamed=7)
    source = SpeakerBootstrap(labels, BootstrapConfig(resamples=10))
    assert (source.n_clips, source.n_speakers, source.n_unnamed) == (20, 10, 7)


def test_other_clips_and_other_resamples_are_refused():
    random = np.random.default_rng(6)
    labels, answers = simulate(random, 4, 5)
    source, other = (SpeakerBootstrap(labels, BootstrapConfig(resamples=10)) for _ in range(2))
    with pytest.raises(ValueError, match="different clips"):
        source.draws([replace(answers, clip_id=answers.clip_id[::-1])])
    with pytest.raises(ValueError, match="same resamples"):
        difference(source.draws([answers]), other.draws([answers]), "ccc")
    again = SpeakerBootstrap(labels, BootstrapConfig(resamples=10)).draws([answers])
    for name, values in source.draws([answers]).values.items():
        np.testing.assert_array_equal(values, again.values[name])


@pytest.fixture(scope="module")
def truth():
    return score(*simulate(np.random.default_rng(0), 20_000, 5))


def plain_limits(drawn):
    """The percentile interval as it is without widening, of 300 resamples."""
    drawn = np.sort(drawn)
    return drawn[6], drawn[-7]


def coverage(truth, n_speakers, n_each, n_corpora, by_clip=False, plain=False):
    """Share of simulated corpora whose interval covers the truth, by metric."""
    random = np.random.default_rng(7)
    hits = dict.fromkeys(("uar", "mae", "ccc", "s_mtl"), 0)
    for corpus in range(n_corpora):
        labels, answers = simulate(random, n_speakers, n_each)
        if by_clip:
            labels = replace(labels, speaker=labels.clip_id)
        draws = SpeakerBootstrap(labels, BootstrapConfig(resamples=300, seed=corpus)).draws([answers])
        for name in hits:
            interval = draws.interval(name)
            low, high = plain_limits(draws.values[name][1:]) if plain else (interval.low, interval.high)
            hits[name] += low <= getattr(truth, name) <= high
    return {name: n / n_corpora for name, n in hits.items()}


@pytest.mark.parametrize(("n_speakers", "least"), [(10, 0.89), (12, 0.89), (20, 0.91), (60, 0.91)])
def test_intervals_cover_the_truth_as_often_as_they_say(truth, n_speakers, least):
    # 300 corpora: a true coverage of 0.95 gives 0.95 +- 0.025 (two standard errors); with a dozen speakers it is less.
    for name, share in coverage(truth, n_speakers, 10, 300).items():
        assert least <= share <= 0.985, (name, share)


def test_without_widening_ten_speakers_cover_the_truth_too_seldom(truth):
    found = coverage(truth, 10, 10, 300, plain=True)
    assert 0.85 <= min(found.values()) <= max(found.values()) <= 0.92, found


def test_the_interval_of_uar_does_not_cover_other_speakers_of_a_country_that_has_one():
    # Two countries are always recognised; of the third about one half of the speakers are, and one of them is there.
    random, hits = np.random.default_rng(18), 0
    speaker = np.repeat(np.arange(20), 8)
    labels, answers = simulate(random, 20, 8)
    labels = replace(labels, country=np.where(speaker == 19, 2, speaker % 2))
    for corpus in range(60):
        chosen = labels.country.copy()
        chosen[speaker == 19] = 2 if random.random() < 0.5 else 0
        answers = replace(answers, country=np.eye(N_COUNTRIES)[chosen])
        draws = SpeakerBootstrap(labels, BootstrapConfig(resamples=200, seed=corpus)).draws([answers])
        interval = draws.interval("uar")
        hits += interval.low <= (1 + 1 + 0.5) / 3 <= interval.high
    assert hits / 60 < 0.75, hits
    assert draws.source.few_speakers() == {"country 2": 1}  # which the tables tell


def test_drawing_clips_instead_of_speakers_covers_too_seldom(truth):
    found = coverage(truth, 20, 10, 150, by_clip=True)
    for name in ("uar", "mae", "ccc"):
        assert found[name] < 0.85, found


def test_p_values_are_uniform_where_there_is_no_difference():
    random = np.random.default_rng(8)
    p = {"uar": [], "mae": [], "ccc": []}
    for corpus in range(300):
        labels, _ = simulate(random, 25, 6)
        index, _ = speaker_index(labels.speaker)
        n, pair = len(labels), []
        # Two systems with errors of the same kind: another draw of the same noise, alike within speakers.
        for _ in range(2):
            right = random.random(n) < random.beta(3, 1, 25)[index]
            chosen = np.where(right, labels.country, (labels.country + 1) % N_COUNTRIES)
            noise = 0.8 * random.normal(size=(25, 10))[index] + 0.6 * random.normal(size=(n, 10))
            age = labels.age + 3 * random.normal(size=25)[index] + random.normal(size=n)
            emotion = 0.6 * labels.emotion + noise
            pair.append(Predictions(labels.clip_id, age, np.eye(N_COUNTRIES)[chosen], emotion, (0, 1, 2)))
        source = SpeakerBootstrap(labels, BootstrapConfig(resamples=300, seed=corpus))
        first, second = (source.draws([one]) for one in pair)
        for metric, found in p.items():
            found.append(difference(first, second, metric).p)
    for metric, found in p.items():
        for level in (0.05, 0.25, 0.5, 0.75):
            assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.075), (metric, level)
        assert np.mean(np.array(found) <= 0.05) < 0.09, metric


def test_a_clear_difference_is_found_and_the_interval_agrees_with_p():
    random = np.random.default_rng(9)
    labels, answers = simulate(random, 30, 6)
    source = SpeakerBootstrap(labels, BootstrapConfig(resamples=500))
    better = replace(answers, age=labels.age + 0.5 * (answers.age - labels.age))
    found = difference(source.draws([better]), source.draws([answers]), "mae")
    assert found.value < 0 and found.high < 0 and found.p < 0.01
    # Interval and p are one computation: the interval excludes zero where p is below 0.05.
    for scale in np.linspace(0.8, 1.1, 25):
        other = replace(answers, age=labels.age + scale * (answers.age - labels.age) + 0.3 * random.normal())
        found = difference(source.draws([other]), source.draws([answers]), "mae")
        if abs(found.p - 0.05) > 0.005:
            assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


def test_few_speakers_widen_the_interval_as_student_does():
    draws = np.sort(np.random.default_rng(10).normal(size=200_001))
    low, high = limits(draws, 6, 0.95)
    # Student's half width 2.571 over the bootstrap's standard error, smaller by sqrt(5 / 6) than the unbiased one.
    assert (high - low) / 2 == pytest.approx(2.571 * np.sqrt(6 / 5), rel=0.02)


def test_folds_keep_speakers_whole_and_are_of_one_size():
    random = np.random.default_rng(11)
    index = np.repeat(np.arange(40), random.integers(1, 30, 40))
    strata = (np.arange(40) % 4 == 0).astype(int)[index]
    folds = speaker_folds(index, 5, seed=0, strata=strata)
    for speaker in range(40):
        assert len(set(folds[index == speaker])) == 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 30
    for stratum in (0, 1):
        assert np.bincount(folds[strata == stratum], minlength=5).min() > 0
    assert (folds == speaker_folds(index, 5, seed=0, strata=strata)).all()
    assert (folds != speaker_folds(index, 5, seed=1, strata=strata)).any()
    with pytest.raises(ValueError, match="3 speakers"):
        speaker_folds(np.arange(3), 5, seed=0)
