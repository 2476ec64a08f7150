"""What every test may ask for, each started once: a real API server, PostgreSQL, Chroma and Prometheus."""

import asyncio

# looptime asks for the current loop before every test; without this, Python makes one that nobody closes.
asyncio.set_event_loop(None)

pytest_plugins = [
    "tests.fixtures.apiserver",
    "tests.fixtures.chroma",
    "tests.fixtures.postgres",
    "tests.fixtures.prometheus",
]
