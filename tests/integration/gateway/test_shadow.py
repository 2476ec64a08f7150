"""Over real HTTP, and with a real PostgreSQL: both sides are compared, and callers get the same bytes as without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from reembed.core.measures import Comparisons, counted, overlaps
from reembed.core.model import Routing
from reembed.core.sequences import Sample
from reembed.gateway.app import Settings
from tests.fixtures import fake_embedder, gateways
from tests.fixtures.arms import NEW, OLD, FakeStore, right_answer
from tests.fixtures.fake_embedder import EmbedderServer
from tests.fixtures.gateways import Listening
from tests.fixtures.postgres import Database
from tests.fixtures.routing import FakeSource
from tests.integration.gateway import test_store

SEARCHES = 50
AT_ONCE = 4  # as many comparisons run at a time; what comes meanwhile is passed over
WITHOUT = Routing(epoch=7, serving=OLD, candidate=NEW, weight=50)
SHADOWED = replace(WITHOUT, shadow=1.0)


@dataclass
class World:
    gateway: Listening
    source: FakeSource
    old: EmbedderServer
    new: EmbedderServer

    async def fates(self, wanted: int) -> dict[str, int]:
        """Return what became of the sample's queries, when that is known of `wanted` of them."""
        return await fates(self.gateway, wanted)

    async def raw(self, number: int) -> tuple[int, bytes]:
        async with self.gateway.http.post(
            f"{self.gateway.url}/v1/search", json={"query": f"query {number}"}
        ) as response:
            return response.status, await response.read()

    @staticmethod
    def asked(embedder: EmbedderServer) -> tuple[int, int]:
        """Return how many callers' queries and how many in the background an embedder was asked."""
        own = [headers for body, headers in embedder.asked if body["input"][0].startswith("query ")]
        background = sum(headers.get("X-Reembed-Priority") == "background" for headers in own)
        return len(own) - background, background


async def fates(gateway: Listening, wanted: int) -> dict[str, int]:
    async with asyncio.timeout(15):
        while True:
            found = {
                labels["outcome"]: round(value)
                for name, labels, value in await gateway.metrics()
                if name == "reembed_gateway_shadow_total" and value
            }
            if sum(found.values()) >= wanted:
                return found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(routing: Routing = SHADOWED) -> AsyncIterator[World]:
    source = FakeSource(routing)
    settings = Settings("rag", "docs", "gateway-a")
    async with (
        fake_embedder.listening(OLD.fingerprint) as old,
        fake_embedder.listening(NEW.fingerprint) as new,
        gateways.listening(settings, source, {OLD.pool: old.url, NEW.pool: new.url}, FakeStore([OLD, NEW])) as gateway,
    ):
        yield World(gateway, source, old, new)


async def test_callers_get_the_same_bytes_and_each_query_is_compared() -> None:
    async with running() as world:
        answers = []
        for number in range(SEARCHES):
            answers.append(await world.raw(number))
            if len(answers) % AT_ONCE == 0:
                await world.fates(len(answers))
        assert await world.fates(SEARCHES) == {"compared": SEARCHES}
        shadowed = counted(await world.gateway.metrics())
        callers = world.asked(world.old)[0], world.asked(world.new)[0]
        background = world.asked(world.old)[1], world.asked(world.new)[1]
    async with running(WITHOUT) as world:
        assert answers == [await world.raw(number) for number in range(SEARCHES)]
        assert {status for status, _ in answers} == {200}
    # Each query was asked of both embedders, once for its caller and once in the background.
    assert (sum(callers), background) == (SEARCHES, callers[::-1])
    assert (shadowed["c_old"].live.ok, shadowed["c_new"].live.ok) == callers


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fake_embedder.disconnecting, id="it crashes under each request"),
        pytest.param(fake_embedder.hanging, id="it hangs"),
        pytest.param(fake_embedder.saying("<html>", 502), id="a proxy answers for it"),
        pytest.param(fake_embedder.saying({"fingerprint": "fp-other", "data": []}), id="it runs another model"),
        pytest.param(fake_embedder.saying({"fingerprint": NEW.fingerprint, "data": [{"index": 9}]}), id="no vectors"),
    ],
)
async def test_a_broken_other_side_costs_no_caller_anything(fault: fake_embedder.Behaviour) -> None:
    async with running(replace(SHADOWED, weight=0)) as world:
        world.new.behaviour = fault
        answers = await asyncio.gather(*(world.gateway.search(f"query {number}", k=1) for number in range(SEARCHES)))
        for number, (status, answer) in enumerate(answers):
            assert (status, answer["results"][0]["id"]) == (200, right_answer(OLD, f"query {number}"))
        assert set(await world.fates(SEARCHES - AT_ONCE)) <= {"failed", "passed_over"}
        arms = counted(await world.gateway.metrics())
        assert ((arms["c_new"].live.ok, arms["c_new"].live.errors), arms["c_old"].live.ok) == ((0, 0), SEARCHES)


async def test_a_busy_other_side_sheds_what_nobody_waits_for() -> None:
    async with running(replace(SHADOWED, weight=0)) as world:
        world.new.behaviour = fake_embedder.refusing(429, {"message": "no background requests"}, {"Retry-After": "9"})
        assert (await world.gateway.search())[0] == 200
        assert await world.fates(1) == {"passed_over": 1}


async def test_a_comparison_under_way_ends_when_the_operator_takes_the_share_away() -> None:
    async with running(replace(SHADOWED, weight=0)) as world:
        world.new.behaviour = fake_embedder.hanging
        world.new.entered.clear()
        assert (await world.gateway.search())[0] == 200
        await world.new.entered.wait()
        world.source.tell(replace(WITHOUT, weight=0))
        assert await world.fates(1) == {"stopped": 1}


async def test_overlaps_are_of_what_the_database_finds(database: Database) -> None:
    routing = Routing(2, test_store.OLD, test_store.NEW, 0, 1.0)
    async with test_store.running(database, routing) as (gateway, _):
        for number in range(1, SEARCHES + 1):
            await test_store.ids(gateway, number)
            if number % AT_ONCE == 0:
                await fates(gateway, number)
        await fates(gateway, SEARCHES)
        told = overlaps(await gateway.metrics())["c_new"]
    # Random vectors: only the document with the query's own text is found by both, and others by chance.
    mean = told.overlap.total / SEARCHES
    assert told == Comparisons(Sample(SEARCHES, told.overlap.total, told.overlap.squares), told.process)
    assert 1 / 5 <= mean < 2 / 5
