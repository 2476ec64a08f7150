"""What the benchmark of the gateway says of answers is what they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from tests.bench.gateway import load

EXPECTED = ["7"]
Handler = Callable[[web.Request], Awaitable[web.Response]]


async def right(request: web.Request) -> web.Response:
    return web.json_response({"results": [{"id": "7", "score": 1.0}]})


async def wrong(request: web.Request) -> web.Response:
    return web.json_response({"results": [{"id": "8", "score": 1.0}]})


async def failing(request: web.Request) -> web.Response:
    return web.json_response({"error": {}}, status=503, headers={"Retry-After": "1"})


async def busy_without_a_word(request: web.Request) -> web.Response:
    return web.json_response({"error": {}}, status=429)


def busy_at_first() -> Handler:
    first = True

    async def answer(request: web.Request) -> web.Response:
        nonlocal first
        was_first, first = first, False
        return web.json_response({}, status=429, headers={"Retry-After": "0"}) if was_first else await right(request)

    return answer


@pytest.mark.parametrize(
    ("answer", "fates"),
    [
        pytest.param(right, {"answered": 3}, id="right"),
        pytest.param(wrong, {"failed": 3}, id="another document"),
        pytest.param(failing, {"failed": 3}, id="unavailable"),
        pytest.param(busy_without_a_word, {"failed": 3}, id="busy, not saying until when"),
        pytest.param(busy_at_first(), {"answered": 3, "busy": 1}, id="busy at first"),
    ],
)
async def test_callers_at_once_are_counted_by_what_they_got(answer: Handler, fates: dict[str, int]) -> None:
    app = web.Application()
    app.router.add_post("/v1/search", answer)
    app.router.add_get("/ready", right)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        assert await load.at_once(f"http://127.0.0.1:{runner.addresses[0][1]}", EXPECTED, 3) == Counter(fates)
    finally:
        await runner.cleanup()
