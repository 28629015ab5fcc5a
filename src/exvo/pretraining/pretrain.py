"""Pre-training of a small HuBERT encoder: masked prediction of frame clusters on Train, without corpus labels.

Source: Hsu et al., "HuBERT", IEEE/ACM TASLP 2021. Two stacked log-mel frames replace the convolutions as in Lin et al.,
"MelHuBERT", ASRU 2023.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from exvo.corpus.shards import stable_hash
from exvo.hubert.encoder import Hubert, HubertConfig, build_hubert
from exvo.hubert.fft_positions import use_fourier_positions
from exvo.networks.torch_setup import isolated
from exvo.pretraining.batches import MaskedClips, Targets, encoder_frames
from exvo.pretraining.checkpoint import (
    CHECKPOINT,
    pretraining_identity,
    pretraining_state,
)
from exvo.pretraining.loop import MaskedLearner, PretrainConfig
from exvo.pretraining.masked_prediction import MaskedPrediction
from exvo.training.checkpoint import save_checkpoint
from exvo.training.frames import FrameStore
from exvo.training.loop import Loop

logger = logging.getLogger(__name__)

# In nats. A channel with almost no variation on Train would have extreme values on other clips.
_LEAST_SD = 0.1


@dataclass(frozen=True)
class Pretrained:
    """Result of a pre-training.

    Attributes
    ----------
    network : MaskedPrediction
        On the CPU, in evaluation mode.
    curves : list of dict
        One per ``report_every`` steps: ``step``, ``epoch`` (number of started epochs) and ``learning_rate``. Per set
        of targets ``<set>_loss`` (mean cross-entropy over masked frames), ``<set>_masked_accuracy`` and
        ``<set>_unmasked_accuracy`` over the steps since the previous row. ``heldout_<set>_...`` are the same for the
        held-out speakers, with constant masks.
    n_clips, n_heldout : int
        Number of training clips, and of held-out clips.
    n_frames : int
        Frames of 20 ms in the training clips.
    """

    network: MaskedPrediction
    curves: list[dict[str, float]]
    n_clips: int
    n_heldout: int
    n_frames: int

    @property
    def encoder(self) -> Hubert:
        """The encoder."""
        return self.network.encoder


def pretrain(
    inputs: FrameStore,
    targets: Mapping[str, Targets],
    clip_ids: Sequence[str],
    speakers: Sequence[str],
    encoder_config: HubertConfig,
    config: PretrainConfig,
    seed: int,
    folder: str | Path,
    *,
    statistics: Mapping[str, Sequence[float]] | None = None,
    start: Mapping[str, Tensor] | None = None,
    n_threads: int = 1,
) -> Pretrained:
    """Pre-train an encoder, or resume an interrupted pre-training.

    Parameters
    ----------
    inputs : FrameStore
        Log-mel frames every 10 ms, or samples for an encoder with convolutions.
    targets : mapping of str to Targets
        At least one set, by name; their losses are added.
    clip_ids : sequence of str
        Clips of Train. Clips with fewer than two frames of 20 ms are skipped.
    speakers : sequence of str
        Speakers of the same clips.
    encoder_config : HubertConfig
    config : PretrainConfig
    seed : int
        The same seed, machine and ``n_threads`` give the same bits, even after an interruption.
    folder : str or Path
        Folder of the checkpoint, which `exvo.pretraining.storage.save_pretrained` removes.
    statistics : mapping, optional
        ``mean`` and ``std`` of every mel channel; needed with a log-mel front end.
    start : mapping of str to Tensor, optional
        State of the initial network; its heads are ignored.
    n_threads : int
        Threads of PyTorch during the call.

    Raises
    ------
    ValueError
        Where the config does not fit the device or the data, or the folder has the checkpoint of another
        pre-training.
    """
    device = config.placement()
    if not targets:
        raise ValueError("pretrain: no targets; name at least one set of clusters")
    n_frames = encoder_frames(inputs, clip_ids, encoder_config.frontend)
    usable = np.flatnonzero(n_frames >= 2).tolist()
    if len(usable) < len(clip_ids):
        logger.warning("%d clips are shorter than two frames and are skipped", len(clip_ids) - len(usable))
    ids, speakers = [clip_ids[i] for i in usable], [speakers[i] for i in usable]
    held = held_out(speakers, config.heldout_share, seed)

    def clips(chosen: np.ndarray, crop_frames: int | None) -> MaskedClips:
        return MaskedClips(
            inputs,
            [part.labels for part in targets.values()],
            [ids[i] for i in np.flatnonzero(chosen).tolist()],
            frontend=encoder_config.frontend,
            mask=config.mask,
            seed=seed,
            max_batch_frames=config.max_batch_frames,
            crop_frames=crop_frames,
        )

    train, heldout = clips(~held, config.crop_frames), clips(held, config.crop_frames)
    network = _initial_network(encoder_config, targets, statistics, start, seed)
    checkpoint = Path(folder) / CHECKPOINT
    identity = pretraining_identity(
        inputs, targets, ids, speakers, encoder_config, config, network.state_dict(), seed, device
    )
    with isolated(n_threads, device):
        learner = MaskedLearner(network.to(device), train, heldout, config, seed)
        loop = Loop(
            learner,
            learner.optimizer(),
            device=device,
            precision=config.precision,
            gradient_clip=config.gradient_clip,
            report_every=config.report_every,
        )
        if checkpoint.is_file():
            loop.load_state_dict(pretraining_state(checkpoint, identity))
            logger.info("pre-training resumes after step %d", loop.step)
        loop.run(lambda state: save_checkpoint(checkpoint, identity, state))
    return Pretrained(
        network=network.cpu().eval(),
        curves=learner.curves,
        n_clips=len(train),
        n_heldout=len(heldout),
        n_frames=int(train.n_frames.sum()),
    )


def held_out(speakers: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Return which clips belong to held-out speakers [shape=(n_clips,), bool].

    Raises
    ------
    ValueError
        Where there are fewer than two speakers, or all would be held out.
    """
    drawn = sorted(set(speakers), key=lambda speaker: (stable_hash(f"{seed} {speaker}"), speaker))
    n_held = max(1, round(share * len(drawn)))
    if n_held >= len(drawn):
        raise ValueError(
            f"pretrain: {n_held} of {len(drawn)} speaker(s) would be held out, and none would remain for training"
        )
    return np.isin(np.array(speakers, dtype=object), drawn[:n_held])


def _initial_network(
    encoder_config: HubertConfig,
    targets: Mapping[str, Targets],
    statistics: Mapping[str, Sequence[float]] | None,
    start: Mapping[str, Tensor] | None,
    seed: int,
) -> MaskedPrediction:
    """Return the network before the first step."""
    network = MaskedPrediction(
        build_hubert(encoder_config, seed), {name: part.k for name, part in targets.items()}, seed
    )
    if start is not None:
        without_heads = {name: value for name, value in start.items() if not name.startswith("heads.")}
        missing, unexpected = network.load_state_dict(without_heads, strict=False)
        other = [name for name in missing if not name.startswith("heads.")] + unexpected
        if other:
            raise ValueError(f"start: the weights belong to another encoder; they differ in {other[0]}")
    if encoder_config.frontend == "logmel":
        if statistics is None:
            raise ValueError(
                "pretrain: an encoder with a log-mel front end needs the mean and SD of the frames"
            )
        std = np.maximum(statistics["std"], _LEAST_SD)
        network.encoder.feature_extractor.set_moments(statistics["mean"], std)
    use_fourier_positions(network.encoder)
    return network
