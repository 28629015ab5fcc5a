"""Files, Arrow columns, code digests, types of settings."""
