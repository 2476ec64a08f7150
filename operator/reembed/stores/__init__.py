"""Where vectors live: one protocol, and pgvector as its first implementation."""
