"""Shadow queries compare both sides, and no caller notices that they do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from reembed.client import EmbedderUnavailable
from reembed.core.measures import Compared, overlaps
from reembed.core.model import Routing
from reembed.core.sequences import Sample
from reembed.gateway.shadow import average_overlap, overlap
from tests.fixtures.arms import NEW, OLD
from tests.fixtures.exposition import parse
from tests.unit.gateway.test_app import World, answer, running

pytestmark = pytest.mark.looptime

SHADOWED = Routing(epoch=7, serving=OLD, candidate=NEW, weight=0, shadow=1.0)


async def counted(world: World) -> dict[tuple[str, str], float]:
    """Return what became of the sample's queries, and the sums, by metric and outcome."""
    await asyncio.sleep(30)
    text = (await world.http.get("/metrics")).text
    return {
        (name.removeprefix("reembed_gateway_shadow_"), labels.get("outcome", "")): value
        for name, labels, value in parse(text)
        if name.startswith("reembed_gateway_shadow") and "le" not in labels and not name.endswith("_created")
    }


async def test_every_query_of_the_sample_is_compared_after_it_was_answered() -> None:
    async with running(World(SHADOWED)) as world:
        answers = [(await world.search(f"query {number}", k=5)).json() for number in range(3)]
        found = await counted(world)
    assert answers == [answer("serving", f"query {number}", k=5) for number in range(3)]
    assert found["total", "compared"] == 3
    # The two models of these tests find nothing in common.
    assert (found["overlap_total", ""], found["overlap_squares_total", ""]) == (0, 0)


async def test_a_dead_other_side_is_nobodys_failure() -> None:
    async with running(World(SHADOWED)) as world:
        world.clients[NEW].error = EmbedderUnavailable("connection refused")
        status = (await world.search()).status_code
        found, metrics = await counted(world), await world.metrics()
    assert (status, found["total", "failed"]) == (200, 1)
    assert metrics["reembed_gateway_answers_total", "answered"] == 1


async def test_a_slow_other_side_holds_nobody_up_and_is_passed_over() -> None:
    async with running(World(SHADOWED)) as world:
        world.clients[NEW].seconds = 5.0
        began = asyncio.get_running_loop().time()
        for number in range(10):
            await world.search(f"query {number}")
        took = asyncio.get_running_loop().time() - began
        found = await counted(world)
    assert took < 1.0
    assert (found["total", "compared"], found["total", "passed_over"]) == (4, 6)


@pytest.mark.parametrize(
    "routing",
    [
        pytest.param(replace(SHADOWED, shadow=0.0), id="no share"),
        pytest.param(replace(SHADOWED, candidate=None), id="no candidate"),
    ],
)
async def test_without_a_share_or_a_candidate_nothing_is_compared(routing: Routing) -> None:
    async with running(World(routing)) as world:
        await world.search()
        assert not [name for name in await counted(world) if name[0] == "total"]


@pytest.mark.parametrize(
    ("first", "second", "alike", "on_average"),
    [
        ("abcd", "abcd", 1.0, 1.0),
        ("abcd", "dcba", 1.0, (0 + 0 + 2 / 3 + 1) / 4),
        ("abcd", "axyz", 0.25, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4),
        ("abcd", "wxyz", 0.0, 0.0),
        ("ab", "ab", 0.5, (1 + 1 + 2 / 3 + 2 / 4) / 4),
    ],
)
def test_overlaps_of_two_lists(first: str, second: str, alike: float, on_average: float) -> None:
    found = overlap(first, second, 4), average_overlap(first, second, 4)
    assert found == pytest.approx((alike, on_average))


def test_sums_are_read_back_and_counted_since_a_mark_over_restarts() -> None:
    def scraped(count: int, total: float) -> dict[str, Sample]:
        labels = {"candidate": "c_new"}
        samples = [
            ("reembed_gateway_shadow_total", {**labels, "outcome": "compared"}, float(count)),
            ("reembed_gateway_shadow_total", {**labels, "outcome": "failed"}, 99.0),
            ("reembed_gateway_shadow_overlap_total", labels, total),
            ("reembed_gateway_shadow_overlap_squares_total", labels, total),
        ]
        return {"a": overlaps(samples)["c_new"]}

    since = Compared().add(scraped(100, 50.0)).add(scraped(110, 56.0)).add({}).add(scraped(4, 3.0))
    assert since.sample == Sample(14, 9.0, 9.0)
