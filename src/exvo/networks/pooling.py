"""Self-attentive pooling of the frames of a clip to one vector.

Source: Lin et al., "A structured self-attentive sentence embedding", ICLR 2017, Eq. 1 to 3 with one hop, where the
matrix W_s2 is a vector v. The ExVo systems use this form for each task.
"""

import torch
from torch import Tensor, nn


def valid_frames(lengths: Tensor, n_frames: int) -> Tensor:
    """Return which frames of a padded batch belong to their clip.

    Parameters
    ----------
    lengths : Tensor [shape=(batch,), int]
        Number of frames of each clip.
    n_frames : int
        Number of frames of the padded batch.

    Returns
    -------
    Tensor [shape=(batch, n_frames), bool]
        On the device of ``lengths``, without waiting for it.
    """
    return torch.arange(n_frames, device=lengths.device) < lengths.unsqueeze(1)


class SelfAttentivePooling(nn.Module):
    """Weighted mean of the frames of a clip, with the weights ``softmax_t(v^T tanh(W h_t))``.

    Parameters
    ----------
    d_in : int
        Width of a frame ``h_t``.
    d_attention : int
        Number of rows of ``W``, and length of ``v``.
    """

    def __init__(self, d_in: int, d_attention: int) -> None:
        super().__init__()
        self.project = nn.Linear(d_in, d_attention, bias=False)
        self.score = nn.Linear(d_attention, 1, bias=False)

    def forward(
        self, frames: Tensor, lengths: Tensor, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pool the frames of each clip.

        Parameters
        ----------
        frames : Tensor [shape=(batch, n_frames, d_in)]
            Values beyond the length of a clip are ignored, NaN included.
        lengths : Tensor [shape=(batch,), int]
            At least 1 each.
        return_weights : bool
            Whether to return the weights too.

        Returns
        -------
        pooled : Tensor [shape=(batch, d_in)]
        weights : Tensor [shape=(batch, n_frames), float32]
            With ``return_weights``. Their sum for a clip is 1; they are 0 beyond its length.
        """
        valid = valid_frames(lengths, frames.shape[1])
        # A weight of 0 would not remove a NaN from the sum or from the gradient.
        frames = frames.masked_fill(~valid.unsqueeze(2), 0.0)
        scores = self.score(torch.tanh(self.project(frames))).squeeze(2)
        # In float32 also with autocast, because half precision has only 3 digits for hundreds of frames.
        weights = torch.softmax(scores.float().masked_fill(~valid, -torch.inf), dim=1)
        pooled = torch.bmm(weights.to(frames.dtype).unsqueeze(1), frames).squeeze(1)
        return (pooled, weights) if return_weights else pooled
