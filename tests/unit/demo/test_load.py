"""The load counts every query exactly once: as an answer with its source, or as failed with a reason."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from demo.corpus import Query
from demo.load import Count, Malformed, Source, Stream, Tally, read_answer

SOURCE = Source(3, "candidate", "c_new", "fp-new", fell_back=False)


def body(**changes: Any) -> dict[str, Any]:
    results = [{"id": str(number), "score": 1.0} for number in range(10)]
    said = {"collection": "c_new", "fingerprint": "fp-new", "arm": "candidate", "fellBack": False, "epoch": 3}
    return {"results": results, "pool": "new", **said, **changes}


@asynccontextmanager
async def stream(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[Stream]:
    app = web.Application()
    app.router.add_post("/v1/search", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Stream(session, str(server.make_url("")).rstrip("/"), 10_000.0, Tally(), asyncio.Event())


async def test_answers_are_counted_by_their_source_with_the_rank_of_the_right_document() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body())

    async with stream(answer) as load:
        await load.run([Query("first", 0), Query("fourth", 3), Query("absent", 99)])
    assert (load.tally.sent, load.tally.failed) == (3, 0)
    assert load.tally.sources == {SOURCE: Count(3, 1.25)}


async def test_refused_broken_and_malformed_answers_have_failed() -> None:
    answers = iter([web.json_response({}, status=503), web.Response(text="{"), web.json_response(body(results=[]))])

    async def answer(_: web.Request) -> web.Response:
        return next(answers)

    async with stream(answer) as load:
        await load.run([Query("q", 1)] * 3)
    assert (load.tally.sent, load.tally.failed, load.tally.sources) == (3, 3, {})


async def test_a_slow_answer_does_not_hold_the_next_query_back() -> None:
    every = asyncio.Barrier(3)

    async def answer(_: web.Request) -> web.Response:
        await every.wait()  # answers none until all three are there
        return web.json_response(body())

    async with stream(answer) as load, asyncio.timeout(10):
        await load.run([Query("q", 1)] * 3)
    assert load.tally.sources[SOURCE].answers == 3


async def test_a_stopped_stream_waits_for_the_queries_under_way() -> None:
    async def answer(_: web.Request) -> web.Response:
        load.stop.set()
        return web.json_response(body())

    async with stream(answer) as load, asyncio.timeout(10):
        await load.run(Query("q", 1) for _ in iter(int, 1))
    assert load.tally.sent == load.tally.sources[SOURCE].answers


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(body(results=[{"id": "1"}] * 10), id="one document ten times"),
        pytest.param(body(epoch=None), id="no epoch"),
        pytest.param([], id="not an object"),
    ],
)
def test_an_answer_that_is_not_a_search_result_is_malformed(answer: Any) -> None:
    with pytest.raises(Malformed):
        read_answer(answer, 1)


def test_percentiles_of_a_tally() -> None:
    tally = Tally(sent=100, latencies=[number / 1000 for number in range(1, 101)])
    said = tally.json()
    assert (said["p50_ms"], said["p95_ms"], said["slowest_ms"]) == (51.0, 96.0, 100.0)
