"""Over real HTTP: embedders that die, hang, run another model, and callers that hang up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
import pytest
from aiohttp import web

from reembed.core.measures import counted
from reembed.core.model import Routing
from reembed.gateway.answer import Deadlines
from reembed.gateway.app import Settings
from tests.fixtures import fake_embedder, gateways
from tests.fixtures.arms import NEW, OLD, FakeStore, right_answer
from tests.fixtures.fake_embedder import EmbedderServer
from tests.fixtures.gateways import Listening
from tests.fixtures.routing import FakeSource

CANARY = Routing(epoch=7, serving=OLD, candidate=NEW, weight=50)
ALL_ON_NEW = replace(CANARY, weight=100)
SETTINGS = Settings("rag", "docs", "gateway-a", deadlines=Deadlines(total=1.0, candidate=0.2))


@dataclass
class World:
    gateway: Listening
    source: FakeSource
    old: EmbedderServer
    new: EmbedderServer

    async def live(self, collection: str) -> tuple[int, int]:
        """Return (ok, errors) of callers' queries."""
        found = counted(await self.gateway.metrics())[collection].live
        return found.ok, found.errors


@asynccontextmanager
async def running(routing: Routing = ALL_ON_NEW, settings: Settings = SETTINGS) -> AsyncIterator[World]:
    source = FakeSource(routing)
    async with (
        fake_embedder.listening(OLD.fingerprint) as old,
        fake_embedder.listening(NEW.fingerprint) as new,
        gateways.listening(settings, source, {OLD.pool: old.url, NEW.pool: new.url}, FakeStore([OLD, NEW])) as gateway,
    ):
        yield World(gateway, source, old, new)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fake_embedder.disconnecting, id="it crashes under each request"),
        pytest.param(fake_embedder.hanging, id="it hangs"),
        pytest.param(fake_embedder.saying("<html>", 502), id="a proxy answers for it"),
        pytest.param(fake_embedder.refusing(429, {"message": "full"}, {"Retry-After": "9"}), id="it is full"),
        pytest.param(
            fake_embedder.saying({"fingerprint": "fp-other", "data": [{"index": 0, "embedding": "AAAAAA=="}]}),
            id="it runs another model",
        ),
    ],
)
async def test_what_serves_answers_each_query_while_the_candidate_is_broken(fault: fake_embedder.Behaviour) -> None:
    async with running() as world:
        world.new.behaviour = fault
        answers = await asyncio.gather(*(world.gateway.search(f"query {number}", k=1) for number in range(20)))
        for number, (status, answer) in enumerate(answers):
            assert (status, answer["results"][0]["id"]) == (200, right_answer(OLD, f"query {number}"))
        assert (await world.live("c_new"), await world.live("c_old")) == ((0, 20), (20, 0))


async def test_a_model_swapped_behind_the_service_answers_nothing() -> None:
    async with running(Routing(epoch=7, serving=OLD)) as world:
        world.old.fingerprint = "fp-swapped"
        status, answer = await world.gateway.search()
        assert (status, answer["error"]["type"]) == (503, "unavailable")
        assert "'fp-swapped' where 'fp-old' was expected" in answer["error"]["message"]


async def test_a_pod_that_is_replaced_costs_no_query_and_no_fall_back() -> None:
    async with running() as world:
        world.new.behaviour = fake_embedder.disconnecting_once()
        status, answer = await world.gateway.search()
        assert (status, answer["arm"]) == (200, "candidate")
        assert await world.live("c_new") == (1, 0)


async def test_a_caller_that_hangs_up_leaves_the_embedders_queue() -> None:
    patient = replace(SETTINGS, deadlines=Deadlines(total=60, candidate=30))
    async with running(settings=patient) as world:
        world.new.behaviour = fake_embedder.hanging
        world.new.entered.clear()
        async with aiohttp.ClientSession() as impatient:
            asking = asyncio.create_task(
                impatient.post(
                    f"{world.gateway.url}/v1/search", json={"query": "keys"}, headers={"X-Reembed-User": "a"}
                )
            )
            await asyncio.wait_for(world.new.entered.wait(), 5)
            asking.cancel()
        await asyncio.wait_for(world.new.dropped.wait(), 5)
        world.new.behaviour = fake_embedder.answering
        assert (await world.gateway.search())[0] == 200
        assert await world.live("c_old") == (0, 0)


async def test_queries_under_way_finish_on_the_arm_they_began_with() -> None:
    async with running() as world:
        go_on = asyncio.Event()

        async def waiting(server: EmbedderServer, request: web.Request) -> web.StreamResponse:
            server.entered.set()
            await go_on.wait()
            return await fake_embedder.answering(server, request)

        world.new.behaviour = waiting
        world.new.entered.clear()
        asking = asyncio.create_task(world.gateway.search(k=1))
        await world.new.entered.wait()
        world.source.tell(Routing(epoch=8, serving=OLD))
        async with asyncio.timeout(5):
            while (await world.gateway.index())["epoch"] != 8:
                pass
        go_on.set()
        status, answer = await asking
        assert (status, answer["epoch"], answer["results"][0]["id"]) == (200, 7, right_answer(NEW, "keys"))


async def test_every_query_is_answered_rightly_while_routing_and_embedders_change() -> None:
    async with running(CANARY) as world:

        async def disturb() -> None:
            faults = (fake_embedder.disconnecting, fake_embedder.hanging, fake_embedder.answering)
            for epoch in range(8, 38):
                world.new.behaviour = faults[epoch % 3]
                world.source.tell(replace(CANARY, epoch=epoch, weight=(10, 50, 100)[epoch % 3]))
                await asyncio.sleep(0.05)

        async def ask(number: int) -> bool:
            status, answer = await world.gateway.search(f"query {number}", k=1)
            arm = {"serving": OLD, "candidate": NEW}[answer["arm"]]
            assert (status, answer["results"][0]["id"]) == (200, right_answer(arm, f"query {number}"))
            return bool(answer["fellBack"])

        fell_back: list[bool] = []
        disturbing = asyncio.create_task(disturb())
        while not disturbing.done():
            fell_back += await asyncio.gather(*(ask(len(fell_back) + number) for number in range(25)))
        assert set(fell_back) == {True, False}
