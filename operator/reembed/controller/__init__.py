"""Observe, decide, apply: the loops that make pools, indexes and migrations true on a cluster."""
