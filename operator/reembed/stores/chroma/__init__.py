"""Chroma behind the protocol of `reembed.stores`, over its HTTP API v2."""
