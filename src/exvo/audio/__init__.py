"""The audio stages: baseline, raw, dc, denoised and vad, and the shards that store them."""
