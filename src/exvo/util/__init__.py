"""Files, Arrow columns, code digests."""
