"""The audio stages: baseline, raw, dc, denoised and vad, and the shards they are stored in."""
