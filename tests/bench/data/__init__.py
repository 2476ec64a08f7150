"""How fast the backfill is beside others, and what it needs: `python -m tests.bench.data`."""
