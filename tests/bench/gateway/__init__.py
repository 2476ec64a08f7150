"""What the gateway itself costs: `python -m tests.bench.gateway`."""
