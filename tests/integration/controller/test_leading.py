"""Two replicas on a real API server: one leads, the other takes over, and who was replaced writes nothing more."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cache import ROOT
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
from tests.unit.chart.rendering import render

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

NAME = "reembed-operator"


class Cut(Cluster):
    """A replica's own connection, that can be cut; it counts the writes that were let through its fence."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster._access, cluster._session)
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


@pytest.fixture(autouse=True)
async def handed_over(cluster: Cluster, namespace: str) -> None:
    """Write the Lease as a leader leaves it: one that is missing may have been deleted, and is waited for."""
    await Lease(cluster, namespace, NAME).write(Record(""), None)


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
        assert (await record(cluster, namespace)).transitions == 2  # the first one took it from nobody
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
        assert (await record(cluster, namespace)).transitions == 2  # the first one took it from nobody


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
    lease = Lease(cluster, namespace, "another")
    made = await lease.write(Record("a"), None)
    with pytest.raises(Conflict):
        await lease.write(Record("b"), None)
    moved = await lease.write(Record("b", 1), made)
    with pytest.raises(Conflict):
        await lease.write(Record("a", 2), made)
    assert (await lease.read(), moved.holder, moved.transitions, moved.duration) == (moved, "b", 1, 15.0)


@asynccontextmanager
async def process(kubeconfig: Path, namespace: str, identity: str) -> AsyncIterator[Process]:
    """Run a replica in a process of its own."""
    words = ("-m", "tests.integration.controller.standing", str(kubeconfig), namespace, NAME, identity)
    running = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def holder(cluster: Cluster, namespace: str, wanted: str) -> Record:
    held = await until(
        cluster, kinds.LEASE, namespace, NAME, lambda seen: seen.get("spec", {}).get("holderIdentity") == wanted
    )
    return Record(held["spec"]["holderIdentity"], held["spec"]["leaseTransitions"])


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_leader_that_is_told_to_end_hands_its_lease_over_and_exits_with_0(
    cluster: Cluster, namespace: str, apiserver_with_crds: Path, sign: signal.Signals
) -> None:
    async with process(apiserver_with_crds, namespace, "a") as leading:
        await holder(cluster, namespace, "a")
        leading.send_signal(sign)
        async with asyncio.timeout(20):
            ended = await leading.wait()
        assert (ended, (await record(cluster, namespace)).holder) == (0, "")


async def test_a_follower_that_is_told_to_end_leaves_the_lease_alone(
    cluster: Cluster, namespace: str, apiserver_with_crds: Path
) -> None:
    await Lease(cluster, namespace, NAME).write(Record("somebody"), await record(cluster, namespace))
    async with process(apiserver_with_crds, namespace, "a") as follower:
        await asyncio.sleep(4)
        follower.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            ended = await follower.wait()
        assert (ended, (await record(cluster, namespace)).holder) == (0, "somebody")


async def test_a_leader_that_stood_still_for_too_long_follows_when_it_goes_on(
    cluster: Cluster, namespace: str, apiserver_with_crds: Path
) -> None:
    async with process(apiserver_with_crds, namespace, "a") as first:
        await holder(cluster, namespace, "a")
        async with process(apiserver_with_crds, namespace, "b"):
            first.send_signal(signal.SIGSTOP)
            assert await holder(cluster, namespace, "b") == Record("b", 2)
            first.send_signal(signal.SIGCONT)
            await asyncio.sleep(4)
            assert await holder(cluster, namespace, "b") == Record("b", 2)
            first.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                ended = await first.wait()
        assert (ended, (await record(cluster, namespace)).holder) == (0, "b")


async def test_the_chart_s_rights_are_enough_to_lead_and_to_look_and_for_no_other_lease(
    cluster: Cluster, namespace: str, apiserver_with_crds: Path, kube_binary: Path
) -> None:
    kubectl = [str(kube_binary), "kubectl", f"--kubeconfig={apiserver_with_crds}", f"--namespace={namespace}"]
    rights = [one for one in render(kube_binary) if one["kind"] in {"Role", "RoleBinding"}]
    moved = yaml.safe_dump_all(rights).replace("reembed-system", namespace).encode()
    applying = await asyncio.create_subprocess_exec(*kubectl, "apply", "-f", "-", stdin=PIPE, stdout=PIPE)
    await applying.communicate(moved)

    async def allowed(account: str, verb: str, lease: str) -> bool:
        name = f"system:serviceaccount:{namespace}:{account}"
        asked = (*kubectl, "auth", "can-i", verb, f"leases.coordination.k8s.io/{lease}", f"--as={name}")
        return await (await asyncio.create_subprocess_exec(*asked, stdout=PIPE, stderr=PIPE)).wait() == 0

    found = {
        (account, lease): [verb for verb in ("get", "create", "patch", "delete") if await allowed(account, verb, lease)]
        for account in ("reembed", "reembed-gateway", "reembed-worker")
        for lease in (NAME, "another")
    }
    assert found == {
        ("reembed", NAME): ["get", "create", "patch"],
        ("reembed", "another"): ["create"],
        ("reembed-gateway", NAME): ["get"],
        ("reembed-gateway", "another"): [],
        ("reembed-worker", NAME): [],
        ("reembed-worker", "another"): [],
    }
