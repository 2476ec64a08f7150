"""Fills collections and keeps the store as the index asks: the shard pipeline and the store worker."""
