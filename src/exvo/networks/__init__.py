"""Networks and losses of the multitask systems."""
