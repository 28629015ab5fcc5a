"""Data, batches and the training loop."""
