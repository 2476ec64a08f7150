"""Emergency protection over HTTP: who asks for it, who is refused, how it ends. The engine is a double."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from reembed.core.emergency_limits import Limits, conservative
from reembed.core.model import Model, Pooling
from reembed.embedder.app import Embedder
from reembed.embedder.limits import normal
from reembed.embedder.messages import Done, Packs
from reembed.embedder.settings import Settings
from reembed.embedder.trial import Trial
from tests.fixtures.exposition import parse

pytestmark = pytest.mark.looptime

_MODEL = Model("http://models/a.gguf", "0" * 64, Pooling.MEAN, 2, 256)
_CPUS = 4
_NORMAL = normal(_MODEL, _CPUS)
_BACKGROUND = {"X-Reembed-Priority": "background"}


class _Engine:
    """Answers when `goes_on` is set; knows the limits that it was given."""

    ready, offloads, cosine, packs = True, False, 1.0, Packs()
    restarts = tokens = contexts_peak = contexts_busy = 0

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.limited: list[Limits] = []

    def limit(self, limits: Limits) -> None:
        self.limited.append(limits)

    async def embed(self, texts: Sequence[str], *, background: bool) -> Done:
        await self.goes_on.wait()
        return Done(0, b"\0" * 8 * len(texts), (1,) * len(texts), ())


class _World:
    def __init__(self, http: httpx.AsyncClient, engine: _Engine) -> None:
        self.http = http
        self.engine = engine

    async def protect(self, seconds: Any) -> httpx.Response:
        return await self.http.put("/v1/emergency", content=json.dumps({"seconds": seconds}))

    async def embed(self, *, background: bool = False, text: str = "a") -> httpx.Response:
        headers = _BACKGROUND if background else {}
        return await self.http.post("/v1/embeddings", json={"input": text}, headers=headers)

    async def metrics(self) -> dict[str, float]:
        text = (await self.http.get("/metrics")).text
        return {name.removeprefix("reembed_embedder_"): value for name, labels, value in parse(text) if not labels}


@asynccontextmanager
async def _world() -> AsyncIterator[_World]:
    embedder = Embedder(Settings(_MODEL, "fp", None, Path("/cache"), Path("/log"), 8080), _CPUS)
    engine = _Engine()
    embedder.engine, embedder.trial = engine, Trial(0.0)  # type: ignore[assignment]
    transport = httpx.ASGITransport(embedder.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://embedder") as http:
        yield _World(http, engine)


async def test_it_gives_the_engine_lower_limits_and_the_old_ones_back_by_itself() -> None:
    async with _world() as world:
        answer = await world.protect(30)
        during = await world.metrics()
        await asyncio.sleep(31)
        after = await world.metrics()
    low = conservative(_NORMAL, _CPUS)
    assert (answer.status_code, answer.json()["seconds"], answer.json()["limits"]["requests"]) == (200, 30, 10)
    assert world.engine.limited == [low, _NORMAL]
    assert [(one["emergency"], one["emergencies_total"]) for one in (during, after)] == [(1, 1), (0, 1)]


async def test_renewing_goes_on_with_it_and_is_not_entering() -> None:
    async with _world() as world:
        for _ in range(3):
            await world.protect(30)
            await asyncio.sleep(20)
        found = await world.metrics()
        await asyncio.sleep(11)
        ended = await world.metrics()
    assert (found["emergency"], found["emergencies_total"], ended["emergency"]) == (1, 1, 0)


async def test_zero_lifts_it_at_once_and_a_second_time_does_nothing() -> None:
    async with _world() as world:
        await world.protect(30)
        answers = [await world.protect(0), await world.protect(0)]
        background = await world.embed(background=True)
    assert [(answer.status_code, answer.json()["limits"]["requests"]) for answer in answers] == [(200, None)] * 2
    assert background.status_code == 200
    assert len(world.engine.limited) == 2


async def test_background_requests_are_refused_with_the_time_to_come_again() -> None:
    async with _world() as world:
        await world.protect(30)
        await asyncio.sleep(7.5)
        refused, live = await world.embed(background=True), await world.embed()
    message = refused.json()["error"]["message"]
    assert (refused.status_code, refused.headers["Retry-After"], live.status_code) == (429, "23", 200)
    assert message.startswith("emergency protection holds until ")
    assert message.endswith(" UTC unless renewed: no background requests; try again later")


async def test_the_body_of_a_refused_background_request_is_not_read() -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"{}")
        yield b"{}"

    async with _world() as world:
        await world.protect(30)
        answer = await world.http.post("/v1/embeddings", content=body(), headers=_BACKGROUND)
    assert (answer.status_code, read) == (429, [])


async def test_a_background_request_whose_body_comes_after_the_beginning_is_refused() -> None:
    async with _world() as world:

        async def body() -> AsyncIterator[bytes]:
            yield b'{"input": '
            await asyncio.sleep(5)
            yield b'"a"}'

        asked = asyncio.create_task(world.http.post("/v1/embeddings", content=body(), headers=_BACKGROUND))
        await asyncio.sleep(1)
        await world.protect(30)
        answer = await asked
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "26")


async def test_ten_requests_are_under_way_and_the_others_are_told_to_come_again() -> None:
    async with _world() as world:
        await world.protect(30)
        world.engine.goes_on.clear()
        asked = [asyncio.create_task(world.embed()) for _ in range(64)]
        await asyncio.sleep(1)
        found = await world.metrics()
        world.engine.goes_on.set()
        answers = [await one for one in asked]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (found["requests_under_way"], found["requests_under_way_peak"]) == (10, 10)
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 54
    assert {(answer.headers["Retry-After"], answer.json()["error"]["message"]) for answer in refused} == {
        ("1", "10 requests are under way, emergency protection allows 10; try again later")
    }


async def test_what_was_under_way_before_is_finished() -> None:
    async with _world() as world:
        world.engine.goes_on.clear()
        asked = [asyncio.create_task(world.embed()) for _ in range(20)]
        await asyncio.sleep(1)
        await world.protect(30)
        late = await world.embed()
        world.engine.goes_on.set()
        assert [(await one).status_code for one in asked] == [200] * 20
    assert late.status_code == 429


async def test_a_place_is_free_again_after_an_answer_a_fault_and_a_refusal() -> None:
    async with _world() as world:
        await world.protect(30)
        answers = [await world.embed(text=text) for text in ("a", " ") * 15]
        found = await world.metrics()
    assert {answer.status_code for answer in answers} == {200, 422}
    assert (found["requests_under_way"], found["requests_under_way_peak"]) == (0, 1)


async def test_a_body_above_half_of_the_bound_may_come_again_one_above_the_whole_is_wrong() -> None:
    async with _world() as world:
        await world.protect(30)
        large = await world.embed(text="a" * (3 << 20))
        await world.protect(0)
        codes = [(await world.embed(text="a" * (size << 20))).status_code for size in (3, 5)]
    assert (large.status_code, large.json()["error"]["message"]) == (
        429,
        "the body is larger than 2097152 bytes, which emergency protection allows; try again later",
    )
    assert codes == [200, 422]


async def test_large_bodies_share_a_bound_and_small_ones_are_always_read() -> None:
    async with _world() as world:
        world.engine.goes_on.clear()
        first = asyncio.create_task(world.embed(text="a" * (3 << 20)))
        await asyncio.sleep(1)
        second = await world.embed(text="a" * (2 << 20))
        small = asyncio.create_task(world.embed(text="a" * 1000))
        await asyncio.sleep(1)
        world.engine.goes_on.set()
        codes = [(await one).status_code for one in (first, small)]
        again = await world.embed(text="a" * (2 << 20))
    assert (second.status_code, second.headers["Retry-After"], codes, again.status_code) == (429, "1", [200, 200], 200)
    assert second.json()["error"]["message"].endswith(
        " bytes of requests are under way, at most 4194304 are taken at a time; try again later"
    )


async def test_a_body_that_never_ends_gives_its_place_back() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"input": "'
        await asyncio.sleep(3600)

    async with _world() as world:
        await world.protect(60)
        slow = [asyncio.create_task(world.http.post("/v1/embeddings", content=body())) for _ in range(10)]
        await asyncio.sleep(1)
        during = await world.embed()
        await asyncio.sleep(30)
        after = await world.embed()
        late = [await one for one in slow]
    assert (during.status_code, after.status_code, {one.status_code for one in late}) == (429, 200, {408})
    assert late[0].json()["error"]["message"] == "the body was not whole after 30 seconds (11 bytes); send it again"


async def test_what_kubernetes_asks_is_answered_while_all_places_are_taken() -> None:
    async with _world() as world:
        await world.protect(30)
        world.engine.goes_on.clear()
        asked = [asyncio.create_task(world.embed()) for _ in range(10)]
        await asyncio.sleep(1)
        codes = [(await world.http.get(path)).status_code for path in ("/health", "/ready", "/metrics")]
        lifted = await world.protect(0)
        world.engine.goes_on.set()
        await asyncio.gather(*asked)
    assert (codes, lifted.status_code) == ([200] * 3, 200)


async def test_it_holds_before_there_is_a_model() -> None:
    embedder = Embedder(Settings(_MODEL, "fp", None, Path("/cache"), Path("/log"), 8080), _CPUS)
    transport = httpx.ASGITransport(embedder.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://embedder") as http:
        answer = await http.put("/v1/emergency", json={"seconds": 30})
        assert (answer.status_code, embedder.protection.limits) == (200, conservative(_NORMAL, _CPUS))


async def test_entering_and_leaving_are_logged_once_with_figures(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reembed.embedder")
    async with _world() as world:
        await world.protect(30)
        await asyncio.sleep(10)
        await world.protect(30)
        await world.embed(background=True)
        await asyncio.sleep(31)
    assert [record.getMessage() for record in caplog.records if record.name == "reembed.embedder"] == [
        "emergency protection for 30 s unless renewed: 10 requests at a time, 32768 of 65536 tokens may wait, 2 of 5 "
        "contexts compute, 1 text a call of the engine, no background requests",
        "emergency protection ended after 40 s; requests it refused: 1",
    ]


_WANTED = "send 1 to 60 and renew it before they are over, or 0 to lift emergency protection"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"{}", f"seconds is missing; {_WANTED}", id="missing"),
        pytest.param(b'{"seconds": -1}', f"seconds is -1, not between 0 and 60; {_WANTED}", id="negative"),
        pytest.param(b'{"seconds": NaN}', f"seconds is nan, not between 0 and 60; {_WANTED}", id="no number"),
        pytest.param(b'{"seconds": 61}', f"seconds is 61, not between 0 and 60; {_WANTED}", id="too many"),
        pytest.param(b'{"seconds": 1e999}', f"seconds is inf, not between 0 and 60; {_WANTED}", id="infinite"),
        pytest.param(b'{"seconds": "30"}', f"seconds is not a number but str; {_WANTED}", id="text"),
        pytest.param(b'{"seconds": true}', f"seconds is not a number but bool; {_WANTED}", id="truth"),
        pytest.param(b'{"seconds": null}', f"seconds is not a number but NoneType; {_WANTED}", id="null"),
        pytest.param(b"[30]", 'the body is not a JSON object; send {"seconds": 30}', id="list"),
        pytest.param(
            b"seconds=30",
            'the body is not JSON (Expecting value: line 1 column 1 (char 0)); send {"seconds": 30}',
            id="not JSON",
        ),
        pytest.param(b" " * 2000, 'the body is larger than 1024 bytes; send {"seconds": 30}', id="large"),
    ],
)
async def test_a_wrong_wish_is_refused_with_what_to_send(body: bytes, message: str) -> None:
    async with _world() as world:
        answer = await world.http.put("/v1/emergency", content=body)
    assert (answer.status_code, answer.json()["error"]) == (422, {"type": "invalid_request", "message": message})
    assert world.engine.limited == []
