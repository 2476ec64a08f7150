"""Requests wait for each other as the throttle says, and yield to a store and to callers that suffer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from reembed.backfill.metrics import Metrics
from reembed.backfill.pacing import Pacing
from reembed.core.throttle import FIRST, MOST


@dataclass
class World:
    """A pacing whose clock is moved by hand; `p95` is what callers see."""

    now: float = 0.0
    p95: float | None = None
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.pacing = Pacing(self.metrics, lambda: self.p95, lambda: self.now)

    def commits(self, *seconds: float) -> None:
        for one in seconds:
            self.now += 1.5
            self.pacing.committed(one)

    def figure(self, name: str, **labels: str) -> float | None:
        registry: CollectorRegistry = self.metrics.registry
        return registry.get_sample_value(f"reembed_backfill_{name}", labels)


async def begun(pacing: Pacing) -> int:
    """Return how many requests are let in until one has to wait."""
    count = 0
    while True:
        try:
            async with asyncio.timeout(0):
                await pacing.begin()
        except TimeoutError:
            return count
        count += 1


async def test_so_many_requests_as_the_throttle_says_are_under_way() -> None:
    assert await begun(World().pacing) == FIRST


async def test_while_nobody_suffers_more_and_more_are() -> None:
    world = World()
    world.commits(*[0.01] * 20)
    assert (await begun(world.pacing), world.figure("requests_limit")) == (MOST, MOST)


async def test_a_store_that_suffers_is_asked_for_less_and_is_named() -> None:
    world = World()
    world.commits(0.01, 0.01, 2.0, 2.0)
    assert (world.pacing.throttled_by, await begun(world.pacing)) == ("store", 1)
    assert world.figure("throttled_seconds_total", throttled_by="store") == 1.5


async def test_callers_that_suffer_are_yielded_to_and_named() -> None:
    world = World(p95=0.03)
    world.commits(0.01, 0.01)
    world.p95 = 0.3
    world.commits(0.01)
    assert world.pacing.throttled_by == "queries"
    world.p95 = 0.03
    world.commits(0.01)
    assert world.pacing.throttled_by is None


async def test_a_request_that_ended_lets_the_next_one_in() -> None:
    pacing = World().pacing
    await begun(pacing)
    waiting = asyncio.create_task(pacing.begin())
    await asyncio.sleep(0)
    pacing.end(0.1)
    await waiting
