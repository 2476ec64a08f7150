"""Each query is answered by one arm as a whole, and by what serves where the candidate fails."""

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reembed.client import EmbedderBusy, EmbedderError, EmbedderUnavailable, FingerprintMismatch, TextTooLong
from reembed.core.buckets import choose
from reembed.core.measures import Counters, Counts, counted
from reembed.core.model import Arm, Routing
from reembed.gateway.answer import Answer, Answering, ArmsFailed, Deadlines, NothingServes
from reembed.gateway.embedders import Embedders
from reembed.gateway.guard import Guard
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.lease import Reading, renewed
from reembed.gateway.meter import Meter
from reembed.gateway.queries import Queries
from reembed.stores.protocol import CollectionMismatch, Hit, StoreUnavailable
from tests.fixtures.arms import NEW, OLD, FakeEmbedder, FakeStore, queries, right_answer
from tests.fixtures.exposition import answers, samples

ALL_ON_NEW = Routing(epoch=7, serving=OLD, candidate=NEW, weight=100)
ALL_ON_OLD = replace(ALL_ON_NEW, weight=0)
DEADLINES = Deadlines(total=10.0, candidate=4.0)
QUERY = "how do I rotate a key"


class World:
    """Two arms, a store and what is counted of them."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.embedders = {OLD: FakeEmbedder(OLD.fingerprint), NEW: FakeEmbedder(NEW.fingerprint)}
        self.store = FakeStore([OLD, NEW])
        self.answering = Answering(self.meter, DEADLINES, Guard(at_once=8))
        self.queries = queries(self.embedders, self.store)

    async def ask(self, routing: Routing = ALL_ON_NEW, query: str = QUERY) -> Answer[list[Hit]]:
        return await self.answering.answer(routing, query, self.queries.search(query, 1))

    def requests(self) -> dict[str, tuple[int, int]]:
        """Return (ok, errors) of live traffic by collection."""
        found = counted(samples(self.meter))
        return {name: (counters.live.ok, counters.live.errors) for name, counters in found.items()}


@pytest.fixture
def world() -> World:
    return World()


def from_arm(arm: Arm, *, fell_back: bool = False) -> Answer[list[Hit]]:
    return Answer([Hit(right_answer(arm, QUERY), 1.0)], arm, fell_back)


async def test_the_arm_of_the_bucket_embeds_and_searches(world: World) -> None:
    assert await world.ask(ALL_ON_NEW) == from_arm(NEW)
    assert await world.ask(ALL_ON_OLD) == from_arm(OLD)


def break_embedder(world: World, arm: Arm) -> None:
    world.embedders[arm].error = EmbedderUnavailable("connection refused")


def answer_with_another_model(world: World, arm: Arm) -> None:
    world.embedders[arm].error = FingerprintMismatch("http://new", arm.fingerprint, "fp-other")


def refuse_the_text(world: World, arm: Arm) -> None:
    world.embedders[arm].error = TextTooLong(0, "300 tokens, above the limit of 256")


def withdraw(world: World, arm: Arm) -> None:
    world.store.errors[arm.collection] = CollectionMismatch("withdrawn")


def break_store(world: World, arm: Arm) -> None:
    world.store.errors[arm.collection] = StoreUnavailable("connection lost")


def break_unexpectedly(world: World, arm: Arm) -> None:
    world.embedders[arm].error = ZeroDivisionError()


def hang(world: World, arm: Arm) -> None:
    world.embedders[arm].seconds = 3600


Fault = Callable[[World, Arm], None]
FAULTS: list[Fault] = [
    break_embedder,
    answer_with_another_model,
    refuse_the_text,
    withdraw,
    break_store,
    break_unexpectedly,
    hang,
]


@pytest.mark.looptime
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_serves_answers_for_a_candidate_that_fails(world: World, fault: Fault) -> None:
    fault(world, NEW)
    assert await world.ask() == from_arm(OLD, fell_back=True)


@pytest.mark.looptime
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_arm_is_counted_for_itself_although_the_caller_got_an_answer(world: World, fault: Fault) -> None:
    fault(world, NEW)
    await world.ask()
    assert world.requests() == {"c_new": (0, 1), "c_old": (1, 0)}
    assert answers(world.meter) == {"fell_back": 1}


@pytest.mark.looptime
async def test_a_hanging_candidate_leaves_what_serves_the_rest_of_the_time(world: World, looptime: Any) -> None:
    hang(world, NEW)
    world.embedders[OLD].seconds = 5.9
    assert await world.ask() == from_arm(OLD, fell_back=True)
    assert looptime == 9.9


@pytest.mark.looptime
async def test_a_query_ends_within_its_deadline_when_both_arms_hang(world: World, looptime: Any) -> None:
    hang(world, NEW)
    hang(world, OLD)
    with pytest.raises(ArmsFailed, match="no answer within 6 s"):
        await world.ask()
    assert looptime == 10


@pytest.mark.looptime
async def test_work_that_ignores_its_cancellation_does_not_hold_the_query(world: World, looptime: Any) -> None:
    async def stubborn(arm: Arm) -> str:
        if arm == OLD:
            return "answer"
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(60)  # as a driver does that waits for a dead server to confirm a cancellation
        return "too late"

    answer = await world.answering.answer(ALL_ON_NEW, QUERY, stubborn)
    assert (answer.value, looptime) == ("answer", 4)
    await asyncio.sleep(60)


@pytest.mark.looptime
async def test_what_serves_has_the_whole_time_where_there_is_no_one_behind_it(world: World) -> None:
    world.embedders[OLD].seconds = 9.9
    assert await world.ask(ALL_ON_OLD) == from_arm(OLD)


BUSY = EmbedderBusy(1.0, "10 requests are under way, emergency protection allows 10; try again later")
GONE = EmbedderUnavailable("the embedder answered 503: the engine stopped; another is started, try again")


@pytest.mark.looptime
@pytest.mark.parametrize("routing", [ALL_ON_OLD, ALL_ON_NEW], ids=["first", "after the candidate"])
@pytest.mark.parametrize("said", [BUSY, GONE], ids=["busy", "killed"])
async def test_what_serves_is_asked_again_while_its_embedder_is_busy_or_starts_again(
    world: World, routing: Routing, said: EmbedderError
) -> None:
    world.embedders[OLD].error = world.embedders[NEW].error = said
    asking = asyncio.create_task(world.ask(routing))
    await asyncio.sleep(1)
    world.embedders[OLD].error = None
    assert await asking == from_arm(OLD, fell_back=routing == ALL_ON_NEW)
    assert world.requests()["c_old"] == (1, 0)


@pytest.mark.looptime
@pytest.mark.parametrize("said", [BUSY, GONE], ids=["busy", "killed"])
async def test_an_embedder_that_stays_so_is_told_of_within_seconds(
    world: World, said: EmbedderError, looptime: Any
) -> None:
    world.embedders[OLD].error = said
    with pytest.raises(ArmsFailed, match=re.escape(str(said))):
        await world.ask(ALL_ON_OLD)
    assert looptime <= DEADLINES.total / 2
    assert world.requests() == {"c_old": (0, 1)}


@pytest.mark.looptime
@pytest.mark.parametrize("said", [BUSY, GONE], ids=["busy", "killed"])
async def test_such_a_candidate_costs_its_callers_no_time(world: World, said: EmbedderError, looptime: Any) -> None:
    world.embedders[NEW].error = said
    assert (await world.ask(), looptime) == (from_arm(OLD, fell_back=True), 0)


@pytest.mark.looptime
async def test_callers_of_a_dead_embedder_wait_in_their_part_of_the_places_and_no_more(
    world: World, looptime: Any
) -> None:
    world.embedders[OLD].error = GONE
    waiting = [asyncio.create_task(world.ask(ALL_ON_OLD)) for _ in range(8)]
    await asyncio.sleep(1)
    with pytest.raises(ArmsFailed):
        await world.ask(ALL_ON_OLD)
    assert looptime == 1
    world.embedders[OLD].error = None
    assert await asyncio.gather(*waiting) == [from_arm(OLD)] * 8


@pytest.mark.looptime
async def test_the_candidate_never_answers_for_what_serves(world: World) -> None:
    break_embedder(world, OLD)
    with pytest.raises(ArmsFailed, match="connection refused"):
        await world.ask(ALL_ON_OLD)
    assert world.requests() == {"c_old": (0, 1)}
    assert answers(world.meter) == {"failed": 1}


async def test_a_text_that_both_arms_refuse_is_nobodys_failure_but_the_callers(world: World) -> None:
    refuse_the_text(world, NEW)
    refuse_the_text(world, OLD)
    with pytest.raises(TextTooLong):
        await world.ask()
    assert (world.requests(), answers(world.meter)) == ({}, {})


async def test_nothing_answers_an_index_without_vectors(world: World) -> None:
    with pytest.raises(NothingServes):
        await world.ask(Routing())


@pytest.mark.looptime
async def test_a_candidate_that_fails_again_and_again_delays_nobody_more(world: World, looptime: Any) -> None:
    hang(world, NEW)
    for _ in range(5):
        await world.ask()
    assert looptime == 20
    assert await world.ask() == from_arm(OLD, fell_back=True)
    assert looptime == 20
    assert world.requests() == {"c_new": (0, 6), "c_old": (6, 0)}


async def test_a_probe_that_succeeds_brings_callers_back_to_a_candidate(world: World) -> None:
    break_embedder(world, NEW)
    for _ in range(6):
        await world.ask()
    world.embedders[NEW].error = None
    assert await world.ask() == from_arm(OLD, fell_back=True)
    await world.answering.probe(NEW, world.queries.search("probe", 1))
    assert await world.ask() == from_arm(NEW)


@pytest.mark.looptime
async def test_a_hanging_candidate_holds_its_part_of_the_places_and_no_more(world: World, looptime: Any) -> None:
    hang(world, NEW)
    asking = [asyncio.create_task(world.ask()) for _ in range(8)]
    await asyncio.sleep(1)
    assert await world.ask() == from_arm(OLD, fell_back=True)
    assert looptime == 1
    await asyncio.gather(*asking)


@pytest.mark.looptime
async def test_what_serves_is_asked_however_often_it_failed(world: World) -> None:
    break_embedder(world, OLD)
    for _ in range(9):
        with pytest.raises(ArmsFailed):
            await world.ask(ALL_ON_OLD)
    world.embedders[OLD].error = None
    assert await world.ask(ALL_ON_OLD) == from_arm(OLD)


@pytest.mark.looptime
async def test_searches_of_a_slow_collection_leave_connections_to_the_other_arm(looptime: Any) -> None:
    store = FakeStore([OLD, NEW], seconds=1)
    asked = Queries(Embedders(lambda arm: FakeEmbedder(arm.fingerprint)), store, searches_per_arm=2)
    slow = [asyncio.ensure_future(asked.search(QUERY, 1)(NEW)) for _ in range(6)]
    await asked.search(QUERY, 1)(OLD)
    assert looptime == 1
    await asyncio.gather(*slow)
    assert looptime == 3


@pytest.mark.looptime
async def test_a_caller_that_hangs_up_shows_in_the_latency_of_a_hanging_arm(world: World) -> None:
    hang(world, NEW)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.5):
            await world.ask()
    found = counted(samples(world.meter))["c_new"].live
    assert (found.ok, found.errors) == (0, 0)
    assert (found.buckets[3.0], found.buckets[4.0]) == (0, 1)


@pytest.mark.looptime
async def test_an_answer_is_timed_and_a_quick_failure_is_not(world: World) -> None:
    world.embedders[OLD].seconds = 0.25
    break_embedder(world, NEW)
    await world.ask()
    buckets = {name: counters.live.buckets for name, counters in counted(samples(world.meter)).items()}
    assert buckets["c_old"][0.2] == 0
    assert buckets["c_old"][0.3] == 1
    assert not any(buckets["c_new"].values())


async def test_a_probe_is_counted_apart_from_callers(world: World) -> None:
    assert await world.answering.probe(OLD, world.queries.search("probe", 1))
    break_embedder(world, NEW)
    assert not await world.answering.probe(NEW, world.queries.search("probe", 1))
    found = counted(samples(world.meter))
    assert {name: (one.live, one.probes.ok, one.probes.errors) for name, one in found.items()} == {
        "c_old": (Counts(buckets=found["c_old"].live.buckets), 1, 0),
        "c_new": (Counts(buckets=found["c_new"].live.buckets), 0, 1),
    }
    assert isinstance(found["c_old"], Counters)


@given(weight=st.integers(0, 100), query=st.text(min_size=1), faults=st.lists(st.sampled_from(FAULTS[:-1]), max_size=2))
async def test_an_answer_is_always_that_of_the_callers_arm_or_of_what_serves(
    weight: int, query: str, faults: list[Fault]
) -> None:
    query = query.encode(errors="ignore").decode().strip() or "empty"
    world, routing = World(), replace(ALL_ON_NEW, weight=weight)
    for fault in faults:
        fault(world, NEW)
    arm = OLD if faults else choose(routing, query)
    assert arm is not None
    assert (await world.ask(routing, query)).value == [Hit(right_answer(arm, query), 1.0)]


@pytest.mark.looptime
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_ten_thousand_queries_over_fifty_switches_mix_no_arms(seed: int) -> None:
    rng = random.Random(seed)
    arms = [Arm(f"pool-{n}", f"c_{n}", f"fp-{n}") for n in range(6)]
    store = FakeStore(arms)
    ask = queries({arm: FakeEmbedder(arm.fingerprint) for arm in arms}, store)
    answering = Answering(Meter(), DEADLINES, Guard(at_once=10_000))
    held = RoutingInForce()
    held.hold(renewed(held.lease, Reading("uid", Routing(0, arms[0], arms[1], 10)), 0.0))

    async def query(number: int) -> tuple[Arm, bool]:
        await asyncio.sleep(rng.randrange(500) / 10)
        snapshot, text = held.snapshot(), f"query {number}"
        answer = await answering.answer(snapshot, text, ask.search(text, 1))
        assert answer.value == [Hit(right_answer(answer.arm, text), 1.0)]
        return answer.arm, answer.arm == choose(snapshot, text)

    async def switch() -> None:
        for epoch in range(1, 51):
            await asyncio.sleep(1)
            serving, candidate = rng.sample(arms, 2)
            held.hold(
                renewed(
                    held.lease,
                    Reading("uid", Routing(epoch, serving, candidate, rng.choice([0, 10, 50, 100]))),
                    float(epoch),
                )
            )
            store.seconds = rng.randrange(20) / 10

    switching = asyncio.create_task(switch())
    results = await asyncio.gather(*(query(number) for number in range(10_000)))
    await switching
    assert {arm for arm, _ in results} == set(arms)
    assert all(own for _, own in results)
