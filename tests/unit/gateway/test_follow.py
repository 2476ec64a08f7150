"""A gateway follows its index, and without it goes back to what served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from reembed.cluster.client import ClusterError, Refused
from reembed.core.leading import Record
from reembed.core.model import Routing
from reembed.gateway.accepting import Accepting, Judging
from reembed.gateway.follow import Follower
from reembed.gateway.in_force import RoutingInForce
from reembed.gateway.meter import Meter
from tests.fixtures.arms import NEW, OLD
from tests.fixtures.routing import FakeSource

CANARY = Routing(epoch=7, serving=OLD, candidate=NEW, weight=50)
NEXT = replace(CANARY, epoch=8, weight=100)

pytestmark = pytest.mark.looptime


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(CANARY)


class LeaderLease:
    """The Lease of an operator that renews it every two seconds while it `leads`."""

    def __init__(self) -> None:
        self.leads_since: float | None = 0.0
        self.left_at = 0
        self.error: ClusterError | None = None

    @property
    def leads(self) -> bool:
        return self.leads_since is not None

    def die(self) -> None:
        self.left_at, self.leads_since = self._renewals(), None

    def come_back(self) -> None:
        self.leads_since = asyncio.get_running_loop().time()

    async def read(self) -> Record | None:
        if self.error is not None:
            raise self.error
        return Record("operator", version=str(self._renewals()))

    def _renewals(self) -> int:
        since = self.leads_since
        return self.left_at + (int((asyncio.get_running_loop().time() - since) / 2) + 1 if since is not None else 0)


@pytest.fixture
def leader() -> LeaderLease:
    return LeaderLease()


@asynccontextmanager
async def following(source: FakeSource, leader: LeaderLease | None = None) -> AsyncIterator[RoutingInForce]:
    """Follow `source` for the length of the block, from after the first reading."""
    held = RoutingInForce()
    task = asyncio.create_task(Follower(source, held, Accepting(held, None, Meter(), Judging()), leader).run())
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


BACK = replace(CANARY, weight=0)


async def test_a_gateway_that_starts_gives_a_candidate_traffic_once_it_has_seen_that_an_operator_leads(
    source: FakeSource, leader: LeaderLease
) -> None:
    async with following(source, leader) as held:
        before = held.snapshot()
        await asyncio.sleep(2)
        assert (before, held.snapshot()) == (BACK, CANARY)


async def test_a_gateway_that_starts_without_an_operator_never_does(source: FakeSource, leader: LeaderLease) -> None:
    leader.die()
    async with following(source, leader) as held:
        weights = set()
        for _ in range(300):
            await asyncio.sleep(1)
            weights.add(held.snapshot().weight)
        assert weights == {0}


@pytest.mark.parametrize("fault", ["dead", "unreadable"])
async def test_two_minutes_after_the_last_sign_of_an_operator_the_old_model_answers(
    source: FakeSource, leader: LeaderLease, fault: str
) -> None:
    async with following(source, leader) as held:
        await asyncio.sleep(60)
        if fault == "dead":
            leader.die()
        else:
            leader.error = Refused(403, "the API server answered 403: leases is forbidden")
        await asyncio.sleep(105)
        before = held.snapshot()
        await asyncio.sleep(20)
        assert (before, held.snapshot()) == (CANARY, BACK)


async def test_traffic_returns_to_the_candidate_when_an_operator_leads_again(
    source: FakeSource, leader: LeaderLease
) -> None:
    async with following(source, leader) as held:
        await asyncio.sleep(10)
        leader.die()
        await asyncio.sleep(300)
        before = held.snapshot()
        leader.come_back()
        await asyncio.sleep(12)
        assert (before, held.snapshot()) == (BACK, CANARY)


async def test_an_operator_that_is_replaced_moves_no_traffic(source: FakeSource, leader: LeaderLease) -> None:
    async with following(source, leader) as held:
        await asyncio.sleep(10)
        leader.die()
        weights = set()
        for second in range(60):
            await asyncio.sleep(1)
            weights.add(held.snapshot().weight)
            if second == 17:
                leader.come_back()
        assert weights == {50}


async def test_the_operator_s_lease_is_not_needed_to_answer(source: FakeSource, leader: LeaderLease) -> None:
    leader.error = ClusterError(404, "not found")
    source.tell(Routing(epoch=9, serving=NEW))
    async with following(source, leader) as held:
        await asyncio.sleep(300)
        assert held.snapshot() == Routing(epoch=9, serving=NEW)
