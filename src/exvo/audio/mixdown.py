"""Make one channel of several: their mean, or the strongest where they cancel in it."""

import numpy as np

# Channels without relation have a mean of 1/n of their power. This far below it, in power, they cancel: for two
# channels of one level, a correlation of less than -0.9.
CANCELLED = 0.1


def mix_down(channels: np.ndarray) -> tuple[np.ndarray, str]:
    """Average channels, each with the same weight.

    Parameters
    ----------
    channels : np.ndarray [shape=(n_samples, n_channels), float32]
        Of any byte order.

    Returns
    -------
    mono : np.ndarray [shape=(n_samples,), float32]
    complaint : str
        Empty, or what is said where the channels cancel in their mean: a recorder, or a cable, that reverses one of
        them. Then ``mono`` is the channel of most power, the first of several.
    """
    n_samples, n_channels = channels.shape
    if n_channels == 1 or not n_samples:
        return channels[:, 0].astype(np.float32), ""
    # In 64 bits, so that equal channels come out as they went in.
    mean = channels.mean(axis=1, dtype=np.float64)
    # Powers are of what moves: a constant that a converter adds to all channels cancels nowhere.
    powers = np.array([channels[:, i].astype(np.float64).var() for i in range(n_channels)])
    if not mean.var() * n_channels < CANCELLED * powers.mean():
        return mean.astype(np.float32), ""
    best = int(powers.argmax())
    return (
        channels[:, best].astype(np.float32),
        f"its {n_channels} channels cancel in their mean, so channel {best + 1} stands for all",
    )
