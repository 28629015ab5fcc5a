"""Load trained networks from their folders."""

from pathlib import Path

from exvo.hubert.fine_tuned_network import FineTunedConfig
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.networks.fusion_network import FeatureFusionConfig
from exvo.networks.mlp import MlpConfig
from exvo.training.storage import load_trained
from exvo.training.trained import Trained

KINDS = (MlpConfig, ConformerNetworkConfig, EmbeddingNetworkConfig, FineTunedConfig, FeatureFusionConfig)


def load_system(folder: str | Path) -> Trained:
    """Read the trained network of a system or a feature fusion."""
    return load_trained(folder, KINDS)
