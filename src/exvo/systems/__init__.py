"""From feature shards to a trained folder, and back."""
