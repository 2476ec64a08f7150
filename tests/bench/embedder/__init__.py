"""How fast the embedder is beside others, and what it needs: `python -m tests.bench.embedder`."""
