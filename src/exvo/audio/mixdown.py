"""Mix several channels to mono: their mean or, where they cancel each other, the strongest channel."""

import numpy as np

# The mean of n uncorrelated channels has 1/n of their power. Below this share of that power, they cancel: for two
# channels of equal level, a correlation of less than -0.9.
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
    note : str
        Empty, unless the channels cancel in their mean because a recorder or cable inverts one of them. Then
        ``mono`` is the channel with the most power (the first of equals).
    """
    n_samples, n_channels = channels.shape
    if n_channels == 1 or not n_samples:
        return channels[:, 0].astype(np.float32), ""
    # In float64, so that the mean of equal channels is exact.
    mean = channels.mean(axis=1, dtype=np.float64)
    # Powers exclude the mean: an offset that a converter adds to all channels does not cancel.
    powers = np.array([channels[:, i].astype(np.float64).var() for i in range(n_channels)])
    if not mean.var() * n_channels < CANCELLED * powers.mean():
        return mean.astype(np.float32), ""
    best = int(powers.argmax())
    return (
        channels[:, best].astype(np.float32),
        f"its {n_channels} channels cancel in their mean, so channel {best + 1} is used alone",
    )
