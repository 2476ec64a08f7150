"""A gateway follows its index, and without it goes back to what served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from reembed.core.model import Routing
from reembed.gateway.follow import Follower, RoutingInForce
from tests.fixtures.arms import NEW, OLD
from tests.fixtures.routing import FakeSource

CANARY = Routing(epoch=7, serving=OLD, candidate=NEW, weight=50)
NEXT = replace(CANARY, epoch=8, weight=100)

pytestmark = pytest.mark.looptime


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(CANARY)


@asynccontextmanager
async def following(source: FakeSource) -> AsyncIterator[RoutingInForce]:
    """Follow `source` for the length of the block, from after the first reading."""
    held = RoutingInForce()
    task = asyncio.create_task(Follower(source, held).run())
    await asyncio.sleep(1)
    yield held
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_known_before_the_first_reading(source: FakeSource) -> None:
    source.reachable = False
    async with following(source) as held:
        assert (held.known, held.snapshot()) == (False, Routing())


async def test_a_change_arrives_by_the_watch_at_once(source: FakeSource) -> None:
    async with following(source) as held:
        source.tell(NEXT)
        await asyncio.sleep(0.01)
        assert held.snapshot() == NEXT


async def test_a_change_that_the_watch_lost_arrives_by_the_next_reading(source: FakeSource) -> None:
    async with following(source) as held:
        source.watching = False
        source.tell(NEXT)
        await asyncio.sleep(8)
        assert held.snapshot() == CANARY
        await asyncio.sleep(2)
        assert held.snapshot() == NEXT


@pytest.mark.parametrize("fault", ["reachable", "hanging"])
async def test_without_an_api_server_the_candidate_keeps_its_traffic_for_thirty_seconds(
    source: FakeSource, fault: str
) -> None:
    async with following(source) as held:
        setattr(source, fault, fault == "hanging")
        await asyncio.sleep(28)
        assert held.snapshot() == CANARY
        await asyncio.sleep(2)
        assert held.snapshot() == replace(CANARY, weight=0)


async def test_traffic_returns_to_the_candidate_when_the_api_server_does(source: FakeSource) -> None:
    async with following(source) as held:
        source.reachable = False
        await asyncio.sleep(60)
        source.reachable = True
        await asyncio.sleep(10)
        assert held.snapshot() == CANARY


async def test_the_annotation_takes_all_traffic_back(source: FakeSource) -> None:
    async with following(source) as held:
        source.tell(CANARY, force_stable=True)
        await asyncio.sleep(0.01)
        assert held.snapshot() == replace(CANARY, weight=0)


async def test_a_snapshot_does_not_change_under_its_request(source: FakeSource) -> None:
    async with following(source) as held:
        snapshot = held.snapshot()
        source.tell(Routing(epoch=9, serving=NEW))
        await asyncio.sleep(0.01)
        assert (snapshot, held.snapshot()) == (CANARY, Routing(epoch=9, serving=NEW))
