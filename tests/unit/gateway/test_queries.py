"""What is asked in the background leaves the store's places to callers."""

from __future__ import annotations

import asyncio

import pytest

from reembed.gateway.embedders import Embedders
from reembed.gateway.queries import Crowded, Queries
from tests.fixtures.arms import NEW, OLD, FakeEmbedder, FakeStore

pytestmark = pytest.mark.looptime


def queries(places: int) -> Queries:
    """Return queries whose searches take two seconds."""
    embedders = Embedders(lambda arm: FakeEmbedder(arm.fingerprint))
    return Queries(embedders, FakeStore([OLD, NEW], seconds=2.0), searches_per_arm=places)


async def took(*work: asyncio.Future[object]) -> float:
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*work)
    return round(asyncio.get_running_loop().time() - began, 3)


async def test_it_does_not_queue_where_callers_use_all_places() -> None:
    asked = queries(3)
    callers = [asyncio.ensure_future(asked.search(f"query {number}", 1)(OLD)) for number in range(3)]
    await asyncio.sleep(1)
    with pytest.raises(Crowded, match="callers use all places of old in the store"):
        await asked.search("nobody waits", 1, background=True)(OLD)
    await asyncio.gather(*callers)


async def test_it_has_a_third_of_an_arms_places_for_both_arms_together() -> None:
    asked = queries(6)
    background = [asked.search(f"query {number}", 1, background=True)(arm) for number in range(2) for arm in (OLD, NEW)]
    assert await took(*map(asyncio.ensure_future, background)) == 4.0


async def test_callers_find_their_places_beside_it() -> None:
    asked = queries(3)
    background = [asyncio.ensure_future(asked.search(f"b {number}", 1, background=True)(OLD)) for number in range(4)]
    await asyncio.sleep(1)
    callers = [asyncio.ensure_future(asked.search(f"query {number}", 1)(OLD)) for number in range(2)]
    assert await took(*callers) == 2.0
    await asyncio.gather(*background)
