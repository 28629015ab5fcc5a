"""Trained systems that read sequences, read back from their folders.

Nothing here trains, so that prediction does without lightning, which takes seconds to import.
"""

from pathlib import Path

from exvo.hubert.fine_tuned_network import FineTunedConfig
from exvo.networks.conformer_network import SequenceConfig
from exvo.networks.embedding_network import EmbeddingNetworkConfig
from exvo.networks.fusion_network import JointConfig
from exvo.training.storage import load_sequence
from exvo.training.trained import TrainedSequence

KINDS = (SequenceConfig, EmbeddingNetworkConfig, FineTunedConfig, JointConfig)


def load_system(folder: str | Path) -> TrainedSequence:
    """Read the network of a system that reads sequences, or of a joint fusion, of whatever kind it is."""
    return load_sequence(folder, KINDS)
