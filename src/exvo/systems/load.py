"""Trained systems that read sequences, read back from their folders.

Nothing here trains, so that prediction does without lightning, which takes seconds to import.
"""

from pathlib import Path

from exvo.hubert.fine_tuned_network import FineTunedConfig
from exvo.networks.conformer_network import ConformerNetworkConfig
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.networks.fusion_network import FeatureFusionConfig
from exvo.training.storage import load_sequence
from exvo.training.trained import TrainedSequence

KINDS = (ConformerNetworkConfig, EmbeddingNetworkConfig, FineTunedConfig, FeatureFusionConfig)


def load_system(folder: str | Path) -> TrainedSequence:
    """Read the network of a system that reads sequences, or of a feature fusion, of whatever kind it is."""
    return load_sequence(folder, KINDS)
