"""The label table, clip files, shards and the demo corpus."""
