"""Shadow queries compare both sides, and no caller notices that they do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from starlette.types import Message, Receive, Scope, Send

from reembed.client import EmbedderBusy, EmbedderUnavailable, TextInvalid
from reembed.core.measures import Comparisons, counted, overlaps
from reembed.core.model import Arm, Routing
from reembed.core.sequences import Sample
from reembed.gateway.shadow import average_overlap, overlap_at
from reembed.stores.protocol import Filter, Hit
from tests.fixtures.arms import NEW, OLD, FakeStore
from tests.fixtures.exposition import parse
from tests.unit.gateway.test_app import World, answer, running

pytestmark = pytest.mark.looptime

SHADOWED = Routing(epoch=7, serving=OLD, candidate=NEW, weight=0, shadow=1.0)


class Ranked(FakeStore):
    """Collections that find the documents of `ranks`, one letter each."""

    def __init__(self, ranks: dict[Arm, str]) -> None:
        super().__init__(list(ranks))
        self._ranks = {arm.collection: documents for arm, documents in ranks.items()}

    async def search(
        self, collection: str, fingerprint: str, vector: bytes, k: int, within: Filter | None = None
    ) -> list[Hit]:
        return [Hit(document, 1.0) for document in self._ranks[collection][:k]]


async def text(world: World) -> str:
    return (await world.http.get("/metrics")).text


async def fates(world: World) -> dict[str, int]:
    """Return what became of the sample's queries, half a minute later."""
    await asyncio.sleep(30)
    return {
        labels["outcome"]: round(value)
        for name, labels, value in parse(await text(world))
        if name == "reembed_gateway_shadow_total" and value
    }


async def test_every_query_of_the_sample_is_compared_after_it_was_answered() -> None:
    async with running(World(SHADOWED)) as world:
        answers = [(await world.search(f"query {number}", k=5)).json() for number in range(3)]
        assert answers == [answer("serving", f"query {number}", k=5) for number in range(3)]
        assert await fates(world) == {"compared": 3}


@pytest.mark.parametrize(("weight", "asked"), [(0, NEW), (100, OLD)])
async def test_the_side_that_did_not_answer_is_asked(weight: int, asked: Arm) -> None:
    async with running(World(replace(SHADOWED, weight=weight))) as world:
        world.clients[asked].error = EmbedderUnavailable("connection refused")
        assert (await world.search()).json()["fellBack"] is False
        assert await fates(world) == {"failed": 1}


async def test_sums_of_overlaps_are_told_by_both_collections() -> None:
    async with running(World(SHADOWED)) as world:
        world.store.search = Ranked({OLD: "abcd", NEW: "axby"}).search  # type: ignore[method-assign]
        for number in range(2):
            await world.search(f"query {number}", k=4)
        await asyncio.sleep(1)
        samples = list(parse(await text(world)))
    sums = {
        name.removeprefix("reembed_gateway_shadow_"): (labels["serving"], labels["candidate"], value)
        for name, labels, value in samples
        if name.startswith("reembed_gateway_shadow_")
        and name.endswith(("_total", "_count"))
        and "outcome" not in labels
    }
    rank = (1 + 1 / 2 + 2 / 3 + 2 / 4) / 4
    assert sums == {
        "overlap_total": ("c_old", "c_new", 1.0),
        "overlap_squares_total": ("c_old", "c_new", 0.5),
        "rank_total": ("c_old", "c_new", pytest.approx(2 * rank)),
        "rank_squares_total": ("c_old", "c_new", pytest.approx(2 * rank * rank)),
        "seconds_count": ("c_old", "c_new", 2),
    }
    assert overlaps(samples)["c_new"].overlap == Sample(2, 1.0, 0.5)


async def test_the_counters_are_there_at_zero_before_the_first_comparison() -> None:
    async with running(World(SHADOWED)) as world:
        found = overlaps(parse(await text(world)))
    assert found == {"c_new": Comparisons(Sample(), found["c_new"].process)}
    assert found["c_new"].process is not None


async def test_the_other_side_begins_only_when_the_answer_has_left() -> None:
    world = World(SHADOWED)
    order: list[str] = []
    embed = world.clients[NEW].embed

    async def noted(*args: object, **options: object) -> object:
        order.append("asked" if options["background"] else "probed")
        return await embed(*args, **options)  # type: ignore[arg-type]

    app = world.gateway.app()

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            await asyncio.sleep(1.0)  # a slow caller
            order.append(message["type"])
            await send(message)

        await app(scope, receive, sent if scope["path"] == "/v1/search" else send)

    async with running(world):
        world.http._transport.app = noting  # type: ignore[attr-defined]
        world.clients[NEW].embed = noted  # type: ignore[method-assign]
        await world.search()
        await fates(world)
    assert [step for step in order if step != "probed"] == ["http.response.start", "http.response.body", "asked"]


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        pytest.param(EmbedderUnavailable("connection refused"), "failed", id="dead"),
        pytest.param(TextInvalid(0, "no such prefix"), "failed", id="refuses the text"),
        pytest.param(ZeroDivisionError(), "failed", id="defective"),
        pytest.param(EmbedderBusy(1.0, "background is turned away"), "passed_over", id="busy"),
    ],
)
async def test_what_goes_wrong_with_the_other_side_is_nobodys_failure(error: Exception, fate: str) -> None:
    async with running(World(SHADOWED)) as world:
        before = counted(parse(await text(world)))["c_new"]
        world.clients[NEW].error = error
        response, metrics = await world.search(), await world.metrics()
        after = counted(parse(await text(world)))["c_new"]
        assert (response.json(), await fates(world)) == (answer("serving"), {fate: 1})
    assert metrics["reembed_gateway_answers_total", "answered"] == 1
    assert after == before


async def test_a_slow_other_side_holds_nobody_up_and_is_passed_over() -> None:
    async with running(World(SHADOWED)) as world:
        world.clients[NEW].seconds = 5.0
        began = asyncio.get_running_loop().time()
        for number in range(10):
            await world.search(f"query {number}")
        took = asyncio.get_running_loop().time() - began
        assert took < 1.0
        assert await fates(world) == {"compared": 4, "passed_over": 6}


async def test_a_side_that_never_answers_is_given_up() -> None:
    async with running(World(SHADOWED)) as world:
        world.clients[NEW].seconds = 3600
        await world.search()
        assert await fates(world) == {"failed": 1}


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(replace(SHADOWED, epoch=8, shadow=0.0), id="no share"),
        pytest.param(replace(SHADOWED, epoch=8, candidate=None), id="no candidate"),
        pytest.param(Routing(epoch=8, serving=NEW, shadow=1.0), id="promoted"),
    ],
)
async def test_what_is_under_way_stops_when_the_operator_ends_it(told: Routing) -> None:
    async with running(World(SHADOWED)) as world:
        world.clients[NEW].seconds = 8.0
        await world.search()
        world.source.tell(told)
        await asyncio.sleep(0.5)
        assert await fates(world) == {"stopped": 1}


async def test_what_is_under_way_stops_with_the_process() -> None:
    async with running(World(SHADOWED)) as world:
        world.clients[NEW].seconds = 8.0
        await world.search()
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 1.0


async def test_embeddings_are_not_compared() -> None:
    async with running(World(SHADOWED)) as world:
        await world.embed("keys")
        assert await fates(world) == {}


async def test_a_query_that_fell_back_is_not_put_to_the_side_that_just_failed_it() -> None:
    async with running(World(replace(SHADOWED, weight=100))) as world:
        world.clients[NEW].error = EmbedderUnavailable("connection refused")
        await world.search()
        assert await fates(world) == {}


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
        assert await fates(world) == {}


@pytest.mark.parametrize(
    ("first", "second", "alike", "on_average"),
    [
        pytest.param("abcd", "abcd", 1.0, 1.0, id="the same"),
        pytest.param("abcd", "dcba", 1.0, (0 + 0 + 2 / 3 + 1) / 4, id="reversed"),
        pytest.param("abcd", "axyz", 0.25, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, id="the first alone"),
        pytest.param("abcd", "wxyz", 0.0, 0.0, id="nothing in common"),
        pytest.param("abcdef", "abcdxy", 1.0, 1.0, id="what is beyond k does not count"),
        pytest.param("ab", "ab", 1.0, 1.0, id="fewer documents than k"),
        pytest.param("abcd", "ab", 0.5, (1 + 1 + 2 / 3 + 2 / 4) / 4, id="one side finds fewer"),
        pytest.param("abcd", "", 0.0, 0.0, id="one side finds nothing"),
        pytest.param("", "", 1.0, 1.0, id="neither side finds anything"),
    ],
)
def test_how_alike_two_lists_are(first: str, second: str, alike: float, on_average: float) -> None:
    found = overlap_at(4, first, second), average_overlap(4, first, second)
    assert found == pytest.approx((alike, on_average))
