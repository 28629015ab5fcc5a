"""The HuBERT encoder: weights, front ends, embeddings, fine-tuning."""
