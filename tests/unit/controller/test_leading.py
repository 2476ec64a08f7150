"""Replicas that share a Lease: one leads, the next one does when it may, and nothing is written in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import ClusterError
from reembed.cluster.kinds import Kind
from reembed.controller.leading import Candidate, Fenced, NotLeading, Term
from reembed.core.leading import Record
from tests.unit.controller.fakes import FakeCluster
from tests.unit.controller.leases import Line, MemoryLease

pytestmark = pytest.mark.looptime

POOL = {"metadata": {"namespace": "rag", "name": "old"}}


def now() -> float:
    return asyncio.get_running_loop().time()


class Replica:
    """A candidate that notes when each of its terms began and ended."""

    def __init__(self, name: str, lease: MemoryLease) -> None:
        self.line = Line(lease)
        self.candidate = Candidate(self.line, name)
        self.term = Term(now)
        self.task: asyncio.Task[None] | None = None
        self.led: list[tuple[int, int]] = []

    def start(self) -> None:
        self.task = asyncio.create_task(self._stand())

    async def _stand(self) -> None:
        while True:
            standing = asyncio.create_task(self.candidate.stand(self.term))
            try:
                await self.term.began.wait()
                began = now()
                await self.term.over.wait()
                self.led.append((round(began), round(now())))
            finally:
                standing.cancel()
            await asyncio.gather(standing, return_exceptions=True)
            self.term = Term(now)

    async def kill(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def shut_down(self) -> None:
        await self.kill()
        await self.candidate.hand_over(self.term)


@pytest.fixture
async def lease() -> MemoryLease:
    return MemoryLease()


@pytest.fixture
async def first(lease: MemoryLease) -> AsyncIterator[Replica]:
    replica = Replica("first", lease)
    yield replica
    await replica.kill()


@pytest.fixture
async def second(lease: MemoryLease) -> AsyncIterator[Replica]:
    replica = Replica("second", lease)
    yield replica
    await replica.kill()


async def stand(first: Replica, second: Replica | None = None) -> None:
    """Have `first` lead for a minute, and `second` follow for some seconds of it."""
    first.start()
    await asyncio.sleep(50)
    if second is not None:
        second.start()
    await asyncio.sleep(10)


async def test_of_two_that_start_at_the_same_moment_one_leads(lease: MemoryLease, looptime: Any) -> None:
    replicas = [Replica(name, lease) for name in ("first", "second")]
    for one in replicas:
        one.start()
    await asyncio.sleep(600)
    assert [one.term.leads() for one in replicas].count(True) == 1
    assert {one.term.holder for one in replicas} == {lease.record.holder if lease.record else None}
    for one in replicas:
        await one.kill()


async def test_without_a_lease_somebody_may_lead_for_as_long_as_one_lasts(lease: MemoryLease, looptime: Any) -> None:
    replica = Replica("first", lease)
    replica.start()
    await replica.term.began.wait()
    assert 15 <= looptime < 15.1
    await replica.kill()


async def test_a_leader_that_was_killed_is_replaced_when_its_lease_has_run_out(
    first: Replica, second: Replica, lease: MemoryLease, looptime: Any
) -> None:
    await stand(first, second)
    await first.kill()
    killed = now()
    await second.term.began.wait()
    # The last renewal was up to two seconds old.
    assert 13 <= now() - killed <= 15.1
    assert lease.record is not None
    assert (lease.record.holder, lease.record.transitions) == ("second", 1)


async def test_a_leader_that_shuts_down_is_replaced_at_once(first: Replica, second: Replica) -> None:
    await stand(first, second)
    await first.shut_down()
    stopped = now()
    await second.term.began.wait()
    assert now() - stopped <= 2.1


async def test_a_pod_whose_container_is_restarted_leads_at_once(first: Replica, lease: MemoryLease) -> None:
    await stand(first)
    await first.kill()
    again, killed = Replica("first", lease), now()
    again.start()
    await again.term.began.wait()
    assert now() - killed < 0.1
    assert lease.record is not None
    assert lease.record.transitions == 0
    await again.kill()


@pytest.mark.parametrize("fault", ["cut", "hanging"])
async def test_a_leader_that_cannot_renew_stops_before_another_begins(
    first: Replica, second: Replica, fault: str
) -> None:
    await stand(first, second)
    first.line.fault, failed = fault, now()
    await first.term.over.wait()
    ended = now()
    await second.term.began.wait()
    assert 8 <= ended - failed <= 10.1
    assert now() - ended >= 4.9


async def test_a_renewal_whose_answer_comes_late_prolongs_the_lead_from_when_it_was_sent(lease: MemoryLease) -> None:
    replica = Replica("first", lease)
    replica.line.seconds = 2.5
    replica.start()
    await replica.term.began.wait()
    assert round(replica.term.left(), 2) == 10 - 2.51
    await replica.kill()


async def test_a_leader_that_never_learns_that_it_renewed_stops_as_well(first: Replica) -> None:
    await stand(first)
    first.line.fault, failed = "deaf", now()
    await first.term.over.wait()
    assert 8 <= now() - failed <= 10.1


async def test_a_leader_that_cannot_renew_for_a_while_goes_on(first: Replica, second: Replica) -> None:
    await stand(first, second)
    first.line.fault = "hanging"
    await asyncio.sleep(5)
    first.line.fault = ""
    await asyncio.sleep(60)
    assert (first.term.leads(), first.led, second.term.leads()) == (True, [], False)


async def test_a_leader_whose_answer_was_lost_goes_on(first: Replica) -> None:
    await stand(first)
    first.line.fault = "deaf"
    await asyncio.sleep(5)
    first.line.fault = ""
    await asyncio.sleep(60)
    assert (first.term.leads(), first.led) == (True, [])


async def test_who_lost_the_lease_is_a_candidate_again(first: Replica, second: Replica, lease: MemoryLease) -> None:
    await stand(first, second)
    first.line.fault = "cut"
    await second.term.began.wait()
    first.line.fault = ""
    await asyncio.sleep(5)
    await second.shut_down()
    await asyncio.sleep(5)
    assert (first.term.leads(), lease.record and lease.record.transitions) == (True, 2)


async def test_a_leader_that_finds_another_s_name_in_its_lease_stops_at_its_next_renewal(
    first: Replica, lease: MemoryLease
) -> None:
    await stand(first)
    lease.swap(Record("somebody"), lease.record)
    await asyncio.sleep(2.1)
    assert (first.term.leads(), first.term.holder, len(first.led)) == (False, "somebody", 1)


async def test_a_lease_that_somebody_deletes_stays_its_leader_s(
    first: Replica, second: Replica, lease: MemoryLease
) -> None:
    await stand(first, second)
    lease.delete()
    await asyncio.sleep(60)
    assert (first.term.leads(), first.led, second.term.leads()) == (True, [], False)


async def test_a_follower_tells_who_leads_and_what_keeps_it_from_knowing(first: Replica, second: Replica) -> None:
    await stand(first, second)
    before = (second.term.holder, second.term.problem)
    second.line.fault = "cut"
    await asyncio.sleep(3)
    assert (before, second.term.problem) == (("first", ""), "connection refused")


async def test_a_hand_over_that_nobody_takes_does_not_hold_up_the_end(first: Replica) -> None:
    await stand(first)
    await first.kill()
    first.line.fault, stopped = "hanging", now()
    await first.candidate.hand_over(first.term)
    assert now() - stopped == 2.0


class Slow(FakeCluster):
    """A cluster whose writes take a while."""

    seconds = 0.0

    async def apply(self, kind: Kind, obj: dict[str, Any], *, manager: str, subresource: str | None = None) -> Any:
        await asyncio.sleep(self.seconds)
        return await super().apply(kind, obj, manager=manager, subresource=subresource)

    async def create(self, kind: Kind, namespace: str, obj: dict[str, Any], *, manager: str) -> Any:
        return self.write(kind, obj)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        self.gone(kind, namespace, name)


async def write(cluster: Fenced, verb: str) -> None:
    change: Mapping[str, Any] = {"metadata": {"finalizers": ["theirs"]}}
    match verb:
        case "apply":
            await cluster.apply(kinds.POOL, POOL, manager="test")
        case "patch":
            await cluster.patch(kinds.POOL, "rag", "old", change, manager="test")
        case "delete":
            await cluster.delete(kinds.POOL, "rag", "old")
        case "create":
            await cluster.create(kinds.POOL, "rag", {**POOL, "spec": {"new": True}}, manager="test")


@pytest.mark.parametrize("verb", ["apply", "patch", "delete", "create"])
@pytest.mark.parametrize("leads", [True, False])
async def test_a_leader_may_write_and_nobody_else(verb: str, leads: bool) -> None:
    cluster, term = Slow(), Term(now)
    cluster.write(kinds.POOL, {**POOL, "spec": {}})
    if leads:
        term.renewed(now())
    before = cluster.version
    if leads:
        await write(Fenced(cluster, term), verb)
    else:
        with pytest.raises(NotLeading, match="nothing was written"):
            await write(Fenced(cluster, term), verb)
    assert (cluster.version > before) is (leads and verb != "apply")


async def test_a_process_that_stood_still_writes_nothing_when_it_goes_on() -> None:
    # Nobody told the term that it is over: the process has not come to that yet.
    cluster, clock = FakeCluster(), [0.0]
    term = Term(lambda: clock[0])
    term.renewed(0.0)
    clock[0] = 10.0
    with pytest.raises(NotLeading):
        await Fenced(cluster, term).apply(kinds.POOL, POOL, manager="test")
    assert (cluster.applies, term.over.is_set()) == (0, False)


async def test_a_term_that_is_over_does_not_begin_again() -> None:
    term = Term(now)
    term.renewed(now())
    term.end()
    term.renewed(now())
    assert not term.leads()


async def test_a_write_that_the_api_server_sits_on_is_given_up_before_another_may_lead(looptime: Any) -> None:
    cluster, term = Slow(), Term(now)
    cluster.seconds = 30.0
    term.renewed(now())
    with pytest.raises(ClusterError, match="within 4 s; it is given up"):
        await Fenced(cluster, term).apply(kinds.POOL, POOL, manager="test")
    assert (looptime, cluster.applies) == (4, 0)


async def test_a_lease_is_handed_over_after_the_last_write_that_was_cut_off(first: Replica, looptime: Any) -> None:
    await stand(first)
    cluster = Slow()
    cluster.seconds = 3.0
    writing = asyncio.create_task(Fenced(cluster, first.term).apply(kinds.POOL, POOL, manager="test"))
    await asyncio.sleep(1)
    writing.cancel()
    await first.shut_down()
    assert (63 <= looptime < 63.1, cluster.applies) == (True, 1)


async def test_reading_needs_no_lead() -> None:
    cluster = FakeCluster()
    cluster.write(kinds.POOL, POOL)
    fenced = Fenced(cluster, Term(now))
    found = await fenced.get(kinds.POOL, "rag", "old")
    assert ([found], found) == (await fenced.list(kinds.POOL, "rag"), cluster.objects[next(iter(cluster.objects))])
