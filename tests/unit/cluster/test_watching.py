"""A watch that breaks says how: by an event of type ERROR, or by a line that is the error itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from reembed.cluster import kinds
from reembed.cluster.access import Access
from reembed.cluster.client import Cluster, ClusterError, Gone

STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "too old resource version"}
ADDED = {"type": "ADDED", "object": {"metadata": {"name": "a"}}}


@asynccontextmanager
async def server(*lines: Any) -> AsyncIterator[Cluster]:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(json.dumps(line).encode() + b"\n")
        return response

    app = web.Application()
    app.add_routes([web.get("/{any:.*}", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    async def nobody() -> str | None:
        return None

    authorization: Callable[[], Awaitable[str | None]] = nobody
    async with aiohttp.ClientSession() as session:
        yield Cluster(Access(f"http://127.0.0.1:{port}", None, authorization), session)  # type: ignore[arg-type]
    await runner.cleanup()


async def seen(cluster: Cluster) -> list[str]:
    return [obj["metadata"]["name"] async for _, obj in cluster.watch(kinds.DECISION, "panel")]


@pytest.mark.parametrize(
    "line",
    [{"type": "ERROR", "object": {**STATUS, "code": 410}}, {**STATUS, "code": 410}],
    ids=["an event", "a status alone"],
)
async def test_a_watch_that_cannot_go_on_says_that_it_must_begin_anew(line: dict[str, Any]) -> None:
    async with server(ADDED, line) as cluster:
        with pytest.raises(Gone, match="too old resource version"):
            await seen(cluster)


@pytest.mark.parametrize("line", [{"type": "ERROR"}, [], "no"], ids=["no object", "a list", "a string"])
async def test_a_line_that_is_no_event_ends_the_watch(line: Any) -> None:
    async with server(ADDED, line) as cluster:
        with pytest.raises(ClusterError):
            await seen(cluster)


async def test_what_is_whole_is_told(*_: Any) -> None:
    async with server(ADDED, {"type": "BOOKMARK", "object": {"metadata": {}}}) as cluster:
        assert await seen(cluster) == ["a"]
