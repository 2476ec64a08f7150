"""Two replicas on a real API server: one leads, the other takes over, and who was replaced writes nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster, Conflict
from reembed.cluster.lease import Lease
from reembed.controller.leading import Candidate, Fenced, Term
from reembed.controller.operator import Operator, Replica
from reembed.controller.settings import Settings
from reembed.controller.tasks import end
from reembed.controller.web import Metrics
from reembed.core.leading import Record
from tests.integration.controller.running import IMAGES, filled, start, state, until
from tests.integration.controller.world import World

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

NAME = "reembed-operator"


class Cut(Cluster):
    """A replica's own connection, that can be cut; it counts the writes that were let through its fence."""

    def __init__(self, cluster: Cluster) -> None:
        self._api = cluster._api
        self.cut = False
        self.writes = 0

    async def _request(self, method: str, *rest: Any) -> Any:
        if self.cut:
            await asyncio.Event().wait()
        self.writes += method != "GET"
        return await super()._request(method, *rest)


class Running:
    """One replica, its connection for objects and that for the Lease."""

    def __init__(self, name: str, cluster: Cluster, world: World, namespace: str) -> None:
        self.name = name
        self.line, self.lease_line = Cut(cluster), Cut(cluster)
        metrics = Metrics()

        def make(term: Term) -> Operator:
            return Operator(Fenced(self.line, term), world, Settings((namespace,), IMAGES), metrics)

        self.replica = Replica(Candidate(Lease(self.lease_line, namespace, NAME), name), make, metrics)
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.replica.run(self.stop))

    @property
    def leads(self) -> bool:
        return self.replica.term.leads()

    async def kill(self) -> None:
        """End as a killed process does: nothing is handed over."""
        self.lease_line.cut = self.line.cut = True
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def replicas(cluster: Cluster, world: World, namespace: str) -> AsyncIterator[tuple[Running, Running]]:
    """Run two replicas that were started at the same moment; the leader comes first."""
    running = [Running(name, cluster, world, namespace) for name in ("a", "b")]
    try:
        await leader(running)
        running.sort(key=lambda one: not one.leads)
        yield running[0], running[1]
    finally:
        for one in running:
            await one.kill()


async def leader(running: list[Running]) -> Running:
    began = [asyncio.create_task(one.replica.term.began.wait()) for one in running]
    async with asyncio.timeout(30):
        await asyncio.wait(began, return_when=asyncio.FIRST_COMPLETED)
    await end(began)
    (leading,) = [one for one in running if one.leads]
    return leading


async def record(cluster: Cluster, namespace: str) -> Record:
    found = await Lease(cluster, namespace, NAME).read()
    assert found is not None
    return found


async def test_of_two_that_start_at_the_same_moment_one_leads_and_a_migration_is_made(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with replicas(cluster, world, namespace) as (first, second):
        await filled(cluster, namespace)
        assert (first.leads, second.leads, second.line.writes) == (True, False, 0)
        assert (await record(cluster, namespace)).holder == first.name


async def test_when_the_leader_ends_in_order_the_other_goes_on_with_the_migration(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with replicas(cluster, world, namespace) as (first, second):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Canary"))
        first.stop.set()
        await first.task
        assert (await leader([second])) is second
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
        assert (await record(cluster, namespace)).transitions == 1
    assert world.weights == [0, 10, 50, 100, 0]


async def test_when_the_leader_is_killed_the_other_takes_over_after_the_lease(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with replicas(cluster, world, namespace) as (first, second):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move", hold="20s")
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Canary"))
        await first.kill()
        assert (await leader([second])) is second
        await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: seen["status"].get("step", 0) >= 1)
        assert (await record(cluster, namespace)).transitions == 1


async def test_a_leader_whose_lease_is_lost_writes_nothing_more_and_follows(
    cluster: Cluster, world: World, namespace: str
) -> None:
    async with replicas(cluster, world, namespace) as (first, second):
        await filled(cluster, namespace)
        first.lease_line.cut = True  # its objects it could still write
        async with asyncio.timeout(15):
            await first.replica.term.over.wait()
        written = first.line.writes
        assert (await leader([second])) is second
        first.lease_line.cut = False
        await start(cluster, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
        async with asyncio.timeout(30):
            while first.replica.report()[1]["status"] != "standby":  # noqa: ASYNC110 - asked over HTTP elsewhere
                await asyncio.sleep(0.05)
        assert (first.line.writes - written, first.leads, second.leads) == (0, False, True)


async def test_a_lease_is_written_by_compare_and_set(cluster: Cluster, namespace: str) -> None:
    lease = Lease(cluster, namespace, NAME)
    made = await lease.write(Record("a"), None)
    with pytest.raises(Conflict):
        await lease.write(Record("b"), None)
    moved = await lease.write(Record("b", 1), made)
    with pytest.raises(Conflict):
        await lease.write(Record("a", 2), made)
    assert (await lease.read(), moved.holder, moved.transitions, moved.duration) == (moved, "b", 1, 15.0)
