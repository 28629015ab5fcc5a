"""Pre-training of a small HuBERT: clusters and masked prediction."""
