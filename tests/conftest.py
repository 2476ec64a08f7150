"""What every test may ask for: a real API server, PostgreSQL and Prometheus, each started once and when asked for."""

import asyncio

# looptime asks for the current loop before every test; without this, Python makes one that nobody closes.
asyncio.set_event_loop(None)

pytest_plugins = ["tests.fixtures.apiserver", "tests.fixtures.postgres", "tests.fixtures.prometheus"]
