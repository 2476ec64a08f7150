"""The small HTTP server beside a process that serves nobody else: liveness, readiness, metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

# Whether the process is ready, and what it says about that.
Report = Callable[[], tuple[bool, dict[str, Any]]]


def application(report: Report, registry: CollectorRegistry, health: str) -> web.Application:
    """Return what answers `/ready`, `/metrics` and, at the path `health`, that the process turns."""

    async def turns(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        is_ready, answer = report()
        return web.json_response(answer, status=200 if is_ready else 503)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    made = web.Application()
    made.add_routes([web.get(health, turns), web.get("/ready", ready), web.get("/metrics", scrape)])
    return made


@asynccontextmanager
async def served(made: web.Application, port: int) -> AsyncIterator[None]:
    """Answer while the block runs."""
    runner = web.AppRunner(made, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    try:
        yield
    finally:
        await runner.cleanup()
