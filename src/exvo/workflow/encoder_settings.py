"""The sections of the encoders in the config: an entry of the table for each, with the dataclasses of its keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exvo.hubert.fine_tuned_network import FineTune
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.networks.fusion_network import FeatureFusionConfig
from exvo.networks.losses import LossWeights
from exvo.networks.mlp import MlpConfig
from exvo.training.trained import TrainingConfig


@dataclass(frozen=True)
class EncoderSettings:
    """Where the keys of an encoder are declared.

    Attributes
    ----------
    description : str
        What the encoder is, and which features it reads.
    sections : tuple of type
        Dataclasses of the network and of the training; their fields are the keys, all on one level.
    defaults : mapping
        Defaults that differ from those of the dataclasses, by key.
    without : tuple of str
        Fields that are no keys of this encoder.
    """

    description: str
    sections: tuple[type, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class FineTuning:
    """Whether a HuBERT is fine-tuned.

    Attributes
    ----------
    fine_tune : FineTune or None
        Fine-tune the encoder, except its front end; null keeps the encoder unchanged, ``{}`` takes the defaults.
    """

    fine_tune: FineTune | None = None


# Settings of the training of networks that read frames; others read one vector per clip.
FRAME_KEYS = ("max_batch_frames", "crop_frames", "spec_augment", "speed_perturbation")

ENCODERS = {
    "mlp": EncoderSettings(
        "The organisers' multitask network. It reads any feature: openSMILE functionals, or the mean and SD over time"
        " of log-mel or HuBERT frames.",
        (MlpConfig, TrainingConfig),
        # The organisers' baseline.
        defaults={
            "batch_size": 8,
            "max_epochs": 20,
            "patience": 5,
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "schedule": "constant",
            "weight_decay": 1e-4,
            "gradient_clip": 0.0,
            "combination": "uncertainty",
            "emotion_loss": "mse_sum",
            "age_loss": "mse",
        },
        without=FRAME_KEYS,
    ),
    "conformer": EncoderSettings(
        "Conformer with attentive pooling per task. It reads log-mel frames, or their modulations by STRFs.",
        (ConformerNetworkConfig, TrainingConfig),
    ),
    "hubert": EncoderSettings(
        "Attentive pooling per task over frozen HuBERT embeddings (a weighted sum over their layers) or over log-mel"
        " frames; or a HuBERT that is fine-tuned.",
        (EmbeddingNetworkConfig, FineTuning, TrainingConfig),
    ),
}
# The network of feature fusions, which is no encoder of a system.
FEATURE_FUSION = EncoderSettings(
    "Network on the embeddings or features of several systems.",
    (FeatureFusionConfig, TrainingConfig),
    # The emotion weight is for 1 - CCC.
    defaults={
        "max_epochs": 30,
        "patience": 8,
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "loss_weights": LossWeights(emotion=20.0),
        "emotion_loss": "ccc",
    },
    without=(*FRAME_KEYS, "loss_weight_grid"),
)
