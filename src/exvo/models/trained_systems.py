"""Trained systems that read sequences, read back from their folders.

Nothing here trains, so that prediction does without lightning, which takes seconds to import.
"""

from pathlib import Path

from exvo.models.embedding_network import EmbeddingNetworkConfig
from exvo.models.fine_tuned_network import FineTunedConfig
from exvo.models.joint_network import JointConfig
from exvo.models.sequence_network import SequenceConfig
from exvo.models.sequence_storage import load_sequence
from exvo.models.trained_sequence import TrainedSequence

KINDS = (SequenceConfig, EmbeddingNetworkConfig, FineTunedConfig, JointConfig)


def load_system(folder: str | Path) -> TrainedSequence:
    """Read the network of a system that reads sequences, or of a joint fusion, of whatever kind it is."""
    return load_sequence(folder, KINDS)
