"""A gateway of an index with a panel: what it needs of the store, and what it does without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reembed.cluster.client import Refused
from reembed.core.acceptance import Accepted
from reembed.core.model import Arm, PanelRef, PointerPlan, RefusedRaise, Routing
from reembed.gateway.accepting import Accepting
from reembed.gateway.follow import Follower
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.meter import Meter
from tests.fixtures.exposition import parse
from tests.fixtures.remembering import FakeMemory, judging
from tests.fixtures.routing import FakeSource
from tests.panels import NEW, NOON, OLD, agents, raising

PANEL = agents()
REF = PanelRef("reembed-panel", "panel", PANEL.membership.digest)
UID = "uid-index"
SERVING = Arm(OLD.pool, OLD.collection, OLD.fingerprint)
CANDIDATE = Arm(NEW.pool, NEW.collection, NEW.fingerprint)
TEN = Routing(4, SERVING, CANDIDATE, 10)
TO_HALF = raising(10, 50)
HALF = Routing(5, SERVING, CANDIDATE, 50, certificate=PANEL.certificate(TO_HALF))
FORGED = Routing(5, SERVING, CANDIDATE, 100)
NONE = Routing(6, SERVING, CANDIDATE, 0)
TEN_ROW = Accepted(TEN, REF.digest, 1)
POINTER = PointerPlan(SERVING.collection, SERVING.fingerprint, 1)

pytestmark = pytest.mark.looptime


class Events:
    """Who posts events; `denied` by the API server until it is allowed to."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, int, str]] = []
        self.denied = False

    async def refused(self, uid: str, refused: RefusedRaise) -> None:
        if self.denied:
            raise Refused(403, "events is forbidden")
        self.posted.append((uid, refused.epoch, refused.reason))


class World:
    """An index with a panel, its store, and a day on which its certificates are good."""

    def __init__(self, told: Routing = TEN, row: Accepted | None = TEN_ROW) -> None:
        self.source = FakeSource(told, uid=UID, panel=REF)
        self.store = FakeMemory(row, POINTER, UID)
        self.events = Events()
        self.day = NOON

    @property
    def row(self) -> Routing:
        return self.store.rows[UID].routing

    def now(self) -> datetime:
        return self.day


class Running:
    """A gateway that follows the index of a world."""

    def __init__(self, world: World) -> None:
        self.held, self.meter = RoutingInForce(), Meter()
        accepting = Accepting(self.held, world.store, self.meter, judging(world.now, world.events))
        self.follower = Follower(world.source, self.held, accepting)

    @property
    def routing(self) -> Routing:
        return self.held.snapshot()

    @property
    def refused(self) -> str | None:
        return self.held.refused.reason if self.held.refused is not None else None

    def counted(self) -> dict[str, float]:
        text = self.meter.exposition(self.routing).decode()
        name = "reembed_gateway_certificates_refused_total"
        return {labels["reason"]: value for found, labels, value in parse(text) if found == name}


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Running]:
    gateway = Running(world)
    task = asyncio.create_task(gateway.follower.run())
    await asyncio.sleep(1)
    yield gateway
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def world() -> World:
    return World()


async def told(world: World, routing: Routing) -> None:
    world.source.tell(routing)
    await asyncio.sleep(0.01)


async def test_a_certified_raise_is_followed_once_it_is_in_the_store(world: World) -> None:
    async with running(world) as gateway:
        world.store.reachable = False
        await told(world, HALF)
        before = gateway.routing
        world.store.reachable = True
        await asyncio.sleep(3)
        assert (before, gateway.routing) == (TEN, HALF)
        assert world.row == replace(HALF, certificate=None)


async def test_a_raise_whose_certificate_expires_while_the_store_is_away_is_not_followed(world: World) -> None:
    async with running(world) as gateway:
        world.store.reachable = False
        await told(world, HALF)
        world.day += timedelta(minutes=6)
        await asyncio.sleep(12)
        world.store.reachable = True
        await asyncio.sleep(12)
        assert (gateway.routing, gateway.refused, world.row) == (TEN, "CertificateExpired", TEN)


async def test_less_is_followed_without_the_store_and_written_when_it_is_there(world: World) -> None:
    async with running(world) as gateway:
        world.store.reachable = False
        await told(world, NONE)
        assert (gateway.routing, world.row) == (NONE, TEN)
        world.store.reachable = True
        await asyncio.sleep(3)
        assert world.row == NONE


async def test_an_operator_that_lies_moves_nothing_and_is_told_of(world: World) -> None:
    async with running(world) as gateway:
        await told(world, FORGED)
        await asyncio.sleep(60)
        assert (gateway.routing, gateway.refused, world.row) == (TEN, "CertificateMissing", TEN)
        assert gateway.counted() == {"CertificateMissing": 1}
        assert world.events.posted == [(UID, 5, "CertificateMissing")]


async def test_a_raise_that_was_certified_before_a_lowering_is_not_followed_again(world: World) -> None:
    async with running(world) as gateway:
        await told(world, HALF)
        await told(world, NONE)
        await told(world, HALF)
        assert (gateway.routing, gateway.refused, world.row) == (NONE, "EpochConsumed", NONE)


async def test_events_of_a_flood_of_epochs_come_some_time_apart(world: World) -> None:
    async with running(world) as gateway:
        for epoch in range(5, 105):
            await told(world, replace(FORGED, epoch=epoch))
        await asyncio.sleep(25)
        assert len(world.events.posted) <= 3
        assert world.events.posted[-1] == (UID, 104, "CertificateMissing")
        assert gateway.counted() == {"CertificateMissing": 100}


async def test_a_right_that_is_missing_for_events_changes_nothing_else(world: World) -> None:
    world.events.denied = True
    async with running(world) as gateway:
        await told(world, FORGED)
        await asyncio.sleep(20)
        await told(world, HALF)
        await asyncio.sleep(1)
        assert (gateway.routing, gateway.refused) == (HALF, None)


async def test_what_was_lowered_at_another_gateway_ends_here_within_ten_seconds(world: World) -> None:
    async with running(world) as gateway:
        await told(world, HALF)
        world.store.rows[UID] = Accepted(NONE, REF.digest, 1)
        await asyncio.sleep(11)
        assert (gateway.routing, gateway.refused) == (NONE, "EpochConsumed")


async def test_two_gateways_follow_one_raise_by_one_row(world: World) -> None:
    async with running(world) as one, running(world) as two:
        await told(world, HALF)
        await asyncio.sleep(1)
        assert (one.routing, two.routing) == (HALF, HALF)
        assert world.store.written == [Accepted(replace(HALF, certificate=None), REF.digest, 1)]


@pytest.mark.parametrize("written", [True, False])
async def test_on_the_third_day_a_gateway_that_starts_follows_what_the_row_names_and_nothing_else(
    *, written: bool
) -> None:
    row = replace(HALF, certificate=None) if written else TEN
    world = World(HALF, Accepted(row, REF.digest, 1))
    world.day += timedelta(days=3)
    async with running(world) as gateway:
        assert gateway.routing == (HALF if written else TEN)
        assert gateway.refused == (None if written else "CertificateExpired")


async def test_a_gateway_that_starts_answers_nothing_before_the_store_was_asked(world: World) -> None:
    world.store.reachable = False
    async with running(world) as gateway:
        before = (gateway.held.known, gateway.routing)
        world.store.reachable = True
        await asyncio.sleep(3)
        assert (before, gateway.held.known, gateway.routing) == ((False, Routing()), True, TEN)


async def test_a_gateway_goes_on_while_the_store_is_away(world: World) -> None:
    async with running(world) as gateway:
        world.store.reachable = False
        await asyncio.sleep(300)
        assert gateway.routing == TEN


async def test_what_serves_by_the_pointer_serves_without_a_row_when_the_pointer_is_there() -> None:
    world = World(Routing(1, SERVING), None)
    world.store.pointer = None
    async with running(world) as gateway:
        before = (gateway.routing, gateway.refused)
        world.store.pointer = POINTER
        await asyncio.sleep(11)
        assert (before, gateway.routing) == ((Routing(), "CertificateMissing"), Routing(1, SERVING))
        await asyncio.sleep(1)
        assert world.row == Routing(1, SERVING)


async def test_a_panel_that_the_user_takes_away_binds_nobody_any_more(world: World) -> None:
    async with running(world) as gateway:
        await told(world, FORGED)
        world.source.panel = None
        await told(world, FORGED)
        assert (gateway.routing, gateway.refused, world.row) == (FORGED, None, TEN)


async def test_a_panel_that_the_user_names_binds_from_then_on() -> None:
    world = World(row=None)
    world.source.panel = None
    world.source.tell(TEN)
    async with running(world) as gateway:
        world.source.panel = REF
        await told(world, FORGED)
        await asyncio.sleep(1)
        assert (gateway.routing, gateway.refused, world.row) == (TEN, "CertificateMissing", TEN)


async def test_an_index_without_a_panel_has_no_row(world: World) -> None:
    world.store.rows.clear()
    world.source.panel = None
    world.source.tell(FORGED)
    async with running(world) as gateway:
        await asyncio.sleep(60)
        assert (gateway.routing, world.store.rows) == (FORGED, {})


async def test_another_object_of_the_same_name_begins_with_a_row_of_its_own(world: World) -> None:
    async with running(world) as gateway:
        world.source.uid = "uid-next"
        await told(world, HALF)
        await asyncio.sleep(1)
        assert (gateway.routing, gateway.refused) == (Routing(0, SERVING), "CertificateOfOther")
        await told(world, Routing(1, SERVING))
        await asyncio.sleep(1)
        assert (gateway.routing, world.store.rows["uid-next"].routing) == (Routing(1, SERVING),) * 2


async def test_a_late_word_of_the_store_about_another_object_is_not_believed(world: World) -> None:
    async with running(world) as gateway:
        world.store.seconds = 3.0
        await asyncio.sleep(10)  # the store is being asked about the old one
        world.source.uid = "uid-next"
        await told(world, TEN)
        await asyncio.sleep(2)
        assert gateway.routing == Routing()
        await asyncio.sleep(5)
        assert (gateway.routing, gateway.refused) == (Routing(0, SERVING), "CertificateMissing")


async def test_a_deleted_index_goes_on_with_what_serves_and_writes_nothing(world: World) -> None:
    async with running(world) as gateway:
        world.source.tell(None)
        world.store.rows.clear()
        await asyncio.sleep(60)
        assert (gateway.routing, world.store.rows) == (Routing(4, SERVING), {})


async def test_the_annotation_takes_a_certified_weight_back(world: World) -> None:
    async with running(world) as gateway:
        world.source.tell(TEN, force_stable=True)
        await asyncio.sleep(0.01)
        assert gateway.routing == replace(TEN, weight=0)
