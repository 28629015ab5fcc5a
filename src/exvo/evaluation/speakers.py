"""Speakers as the sampling unit: clips of one speaker are correlated, so they are resampled and held out together."""

import numpy as np


def speaker_index(speaker: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the speaker of each clip as an index.

    Parameters
    ----------
    speaker : np.ndarray [shape=(n,), str]
        "" where unknown: such a clip counts as a speaker of its own.

    Returns
    -------
    index : np.ndarray [shape=(n,), int64]
        From 0, without gaps: named speakers in the order of their names, then clips without one.
    n_unnamed : int
        Clips without a speaker.
    """
    names = np.asarray(speaker).astype(str)
    unnamed = names == ""
    known, place = np.unique(names[~unnamed], return_inverse=True)
    index = np.empty(len(names), dtype=np.int64)
    index[~unnamed] = place
    index[unnamed] = len(known) + np.arange(unnamed.sum())
    return index, int(unnamed.sum())


def speaker_folds(index: np.ndarray, n_folds: int, seed: int, strata: np.ndarray | None = None) -> np.ndarray:
    """Split clips into folds of about equal size, without splitting a speaker.

    Speakers are assigned in descending order of their number of clips, each to the smallest fold so far; the seed
    orders speakers with equal numbers.

    Parameters
    ----------
    index : np.ndarray [shape=(n,), int]
        Speaker of each clip.
    n_folds : int [scalar > 1]
    seed : int
    strata : np.ndarray [shape=(n,), int], optional
        Class of each clip: folds are stratified by class, where a speaker has the class of most of its clips.

    Returns
    -------
    np.ndarray [shape=(n,), int64]
        Fold of each clip.

    Raises
    ------
    ValueError
        If there are fewer speakers than folds.
    """
    speakers, place, sizes = np.unique(index, return_inverse=True, return_counts=True)
    if len(speakers) < n_folds:
        raise ValueError(f"{len(speakers)} speakers cannot be split into {n_folds} folds")
    stratum = np.zeros(len(speakers), dtype=np.int64)
    if strata is not None:
        classes, column = np.unique(strata, return_inverse=True)
        counts = np.zeros((len(speakers), len(classes)), dtype=np.int64)
        np.add.at(counts, (place, column), 1)
        stratum = counts.argmax(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(speakers))
    order = shuffled[np.lexsort((-sizes[shuffled], stratum[shuffled]))]
    fold_of = np.empty(len(speakers), dtype=np.int64)
    in_stratum = np.zeros((stratum.max() + 1, n_folds), dtype=np.int64)
    in_all = np.zeros(n_folds, dtype=np.int64)
    for speaker in order:
        fold = np.lexsort((in_all, in_stratum[stratum[speaker]]))[0]
        fold_of[speaker] = fold
        in_stratum[stratum[speaker], fold] += sizes[speaker]
        in_all[fold] += sizes[speaker]
    return fold_of[place]
