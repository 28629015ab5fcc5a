"""Pre-training of a small HuBERT encoder: clusters and masked prediction."""
