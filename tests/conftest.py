"""What every test may ask for, each started once: a real API server, PostgreSQL, Chroma and Prometheus."""

import asyncio

from hypothesis import settings

# No test fails by a time: a busy machine takes as long as it takes.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# looptime asks for the current loop before every test; without this, Python makes one that nobody closes.
asyncio.set_event_loop(None)

pytest_plugins = [
    "tests.fixtures.apiserver",
    "tests.fixtures.chroma",
    "tests.fixtures.postgres",
    "tests.fixtures.prometheus",
]
