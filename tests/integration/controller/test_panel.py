"""The operator before a panel, on a real API server: votes that are cast there, and gateways that look at them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from reembed import signing
from reembed.api.fields import Fields
from reembed.api.panel import (
    Ballot,
    Decision,
    membership_json,
    parse_decision,
    render_ballot,
    render_decision,
    render_memberships,
)
from reembed.api.routing import _parse_routing, _render_routing
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Conflict
from reembed.core.model import Routing
from reembed.core.names import AGENT_PREFIX
from reembed.core.quorum import raising
from reembed.core.quorum.certificates import Certified, Choice
from reembed.core.quorum.proposals import Kind
from reembed.core.quorum.roles import Wish
from reembed.panel.objects import ObjectReader
from reembed.panel.wishing import proposed
from tests import panels
from tests.integration.controller.running import filled, operator, start, state, until
from tests.integration.controller.world import World

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

AGENTS = panels.agents()
# What an agent makes of a Decision; None is silence.
Mind = Callable[[Decision], Choice | None]


def approves(decision: Decision) -> Choice | None:
    return Choice.APPROVE


def rejects(decision: Decision) -> Choice | None:
    return Choice.REJECT


def silent(decision: Decision) -> Choice | None:
    return None


def refuses_half(decision: Decision) -> Choice | None:
    return Choice.REJECT if decision.proposal.after.weight == 50 else Choice.APPROVE


class Panel:
    """Eight agents that vote in `namespace` as they are minded to."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.minds: dict[str, Mind] = dict.fromkeys(AGENTS.names, approves)
        self.seen: list[Decision] = []
        self.asked = asyncio.Event()

    def be(self, mind: Mind, names: Iterable[str]) -> None:
        self.minds |= dict.fromkeys(names, mind)

    async def sit(self) -> None:
        """Write the Panel, and vote for ever."""
        meta = {"namespace": self.namespace, "name": "panel"}
        await self.cluster.apply(
            kinds.PANEL, {"metadata": meta, "spec": membership_json(AGENTS.membership)}, manager="user"
        )
        status = {"memberships": render_memberships((Certified(AGENTS.membership),))}
        await self.cluster.apply(
            kinds.PANEL, {"metadata": meta, "status": status}, manager="agent", subresource="status"
        )
        for name in AGENTS.names:
            lease = {"metadata": {"namespace": self.namespace, "name": AGENT_PREFIX + name}, "spec": {}}
            await self.cluster.apply(kinds.LEASE, lease, manager="agent")
        while True:  # every watch ends
            with suppress(ClusterError, TimeoutError):
                await self._listen()

    async def _listen(self) -> None:
        async for event, found in self.cluster.watch(kinds.DECISION, self.namespace):
            decision = parse_decision(found)
            if event == "ADDED" and decision.meta.uid not in {one.meta.uid for one in self.seen}:
                await self.vote(decision)

    async def vote(self, decision: Decision) -> None:
        self.seen.append(decision)
        self.asked.set()
        for name, mind in self.minds.items():
            choice = mind(decision)
            if choice is not None:
                vote = AGENTS.vote(name, decision.proposal, choice)
                ballot = Ballot(name, decision.proposal.slot, decision.proposal.digest, choice, vote, ("Asked: to",))
                try:
                    await self.cluster.create(
                        kinds.BALLOT,
                        self.namespace,
                        render_ballot(ballot, self.namespace, decision.meta),
                        manager="agent",
                    )
                except Conflict:
                    continue


class Gateway:
    """What a gateway that asks for certificates follows of what it is told."""

    def __init__(self, uid: str) -> None:
        self.held = Routing()
        self.trust = raising.Trust(uid, AGENTS.membership.digest)
        self.refused: list[str] = []

    def __call__(self, raw: dict[str, Any]) -> dict[str, Any]:
        told = _parse_routing(Fields(raw, "routing"))
        if told.epoch >= self.held.epoch:
            found = raising.uncertified(self.held, told, self.trust, datetime.now(UTC), signing.verify)
            if found is not None:
                self.refused.append(found.reason)
            self.held = told if found is None else raising.only_lowered(self.held, told)
        return _render_routing(self.held)


@pytest.fixture
async def panel(cluster: Cluster, namespace: str, world: World) -> AsyncIterator[Panel]:
    """Return a panel in office, on which the index depends; its gateways ask for certificates."""
    sitting = Panel(cluster, namespace)
    ref = {"namespace": namespace, "name": "panel", "digest": AGENTS.membership.digest}
    spec = {"panelRef": ref, "store": {"gatewayRole": "reembed_gateway"}}
    index = await cluster.patch(kinds.INDEX, namespace, "docs", {"spec": spec}, manager="user")
    world.gateway = Gateway(index["metadata"]["uid"])
    task = asyncio.create_task(sitting.sit())
    yield sitting
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def deciding(cluster: Cluster, world: World, namespace: str) -> AsyncIterator[None]:
    async with operator(cluster, world, namespace, panel=namespace):
        yield


async def test_a_migration_is_certified_from_its_first_step_to_its_last(
    cluster: Cluster, world: World, namespace: str, panel: Panel
) -> None:
    panel.be(rejects, AGENTS.names[:1])
    panel.be(silent, AGENTS.names[1:2])
    async with deciding(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move")
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
    asked = [(one.proposal.kind.value, one.proposal.after.weight) for one in panel.seen]
    assert asked == [
        *[("LoadModel", 0), ("Complete", 0)],
        *[("LoadModel", 0), ("Traffic", 10), ("Traffic", 50), ("Traffic", 100), ("Complete", 0)],
    ]
    assert world.weights == [0, 10, 50, 100, 0]
    assert isinstance(world.gateway, Gateway)
    assert world.gateway.refused == []


async def test_three_agents_that_are_gone_stop_it_and_it_goes_on_when_they_are_back(
    cluster: Cluster, world: World, namespace: str, panel: Panel
) -> None:
    async with deciding(cluster, world, namespace):
        await filled(cluster, namespace)
        panel.be(silent, AGENTS.names[:3])
        await start(cluster, namespace, "move")
        waiting = await until(
            cluster,
            kinds.MIGRATION,
            namespace,
            "move",
            lambda seen: len(seen.get("status", {}).get("proposal", {}).get("approved", ())) == 5,
        )
        panel.be(approves, AGENTS.names[:3])
        await panel.vote(panel.seen[-1])
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
    assert (waiting["status"]["reason"], waiting["status"]["proposal"]["missing"]) == (
        "AwaitingPanel",
        list(AGENTS.names[:3]),
    )
    assert world.weights == [0, 10, 50, 100, 0]


async def test_three_that_refuse_keep_the_weight_where_it_is(
    cluster: Cluster, world: World, namespace: str, panel: Panel
) -> None:
    async with deciding(cluster, world, namespace):
        await filled(cluster, namespace)
        panel.be(refuses_half, AGENTS.names[:3])
        await start(cluster, namespace, "move")
        held = await until(
            cluster,
            kinds.MIGRATION,
            namespace,
            "move",
            lambda seen: seen.get("status", {}).get("reason") == "PanelRefused",
        )
    assert held["status"]["message"].startswith("3 agents refuse 50 % for the candidate")
    assert world.weights == [0, 10]


async def test_an_operator_that_dies_before_and_after_each_vote_ends_the_same(
    cluster: Cluster, world: World, namespace: str, panel: Panel
) -> None:
    async with deciding(cluster, world, namespace):
        await filled(cluster, namespace)
    await start(cluster, namespace, "move")
    for _ in range(5):
        panel.be(silent, AGENTS.names)
        panel.asked.clear()
        async with deciding(cluster, world, namespace), asyncio.timeout(30):
            await panel.asked.wait()
        panel.be(approves, AGENTS.names)
        await panel.vote(panel.seen[-1])
    async with deciding(cluster, world, namespace):
        await until(cluster, kinds.MIGRATION, namespace, "move", state("Succeeded"))
    assert world.weights == [0, 10, 50, 100, 0]
    assert isinstance(world.gateway, Gateway)
    assert world.gateway.refused == []


async def wish(panel: Panel, kind: Kind, epoch: int = 1, **change: str) -> str:
    """Put to the panel what one of its agents wishes for, and return its Decision's name."""
    around = await ObjectReader(panel.cluster, (panel.namespace, "panel")).look(panel.namespace, "docs")
    assert around is not None
    wished = Wish(kind, tuple(sorted(change.items())), "an agent measured it")
    found = proposed(around.objects, wished, epoch, datetime.now(UTC))
    body = render_decision(found, panel.namespace, AGENTS.names[0])
    await panel.cluster.create(kinds.DECISION, panel.namespace, body, manager="agent")
    return found.name


def executed(seen: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = seen.get("status", {}).get("executed", [])
    return [(one["kind"], one["decision"], one.get("problem", "")) for one in found]


async def pods_at_once(cluster: Cluster, namespace: str, count: int) -> None:
    """Wait until the backfill of migration move runs so many pods at once."""

    async def found() -> list[int]:
        jobs = await cluster.list(kinds.JOB, namespace)
        return [
            one["spec"]["parallelism"] for one in jobs if one["metadata"]["name"].startswith("reembed-backfill-move")
        ]

    async with asyncio.timeout(60):
        while await found() != [count]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def fills(cluster: Cluster, world: World, namespace: str) -> None:
    """Begin a migration whose backfill does not end."""
    await filled(cluster, namespace)
    world.reached = "Filling"
    await start(cluster, namespace, "move")
    await until(cluster, kinds.MIGRATION, namespace, "move", state("Backfilling"))
    await pods_at_once(cluster, namespace, 2)


async def evicts(cluster: Cluster, namespace: str, budget: str) -> None:
    """Say in the place of Kubernetes that one pod of a budget may go."""
    found = await cluster.get(kinds.DISRUPTION_BUDGET, namespace, budget)
    assert found is not None
    counts = {"currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "disruptionsAllowed": 1}
    status = {"observedGeneration": found["metadata"]["generation"], **counts}
    body = {"metadata": {"namespace": namespace, "name": budget}, "status": status}
    await cluster.apply(kinds.DISRUPTION_BUDGET, body, manager="kubernetes", subresource="status")


async def gone(cluster: Cluster, namespace: str, pod: str) -> None:
    async with asyncio.timeout(60):
        while await cluster.get(kinds.POD, namespace, pod) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_tuning_is_executed_once_and_outlives_its_certificate_and_the_operator(
    cluster: Cluster, world: World, namespace: str, panel: Panel
) -> None:
    async with deciding(cluster, world, namespace):
        await fills(cluster, world, namespace)
        tuned = await wish(panel, Kind.TUNING, parallelism="1")
        await pods_at_once(cluster, namespace, 1)
        too_many = await wish(panel, Kind.TUNING, 2, parallelism="3")
        await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: len(executed(seen)) == 2)
    for name in (tuned, too_many):
        await cluster.delete(kinds.DECISION, namespace, name)
    async with deciding(cluster, world, namespace):
        passed = {"metadata": {"annotations": {"passed": "once more"}}}
        await cluster.patch(kinds.MIGRATION, namespace, "move", passed, manager="user")
        await asyncio.sleep(3)
        await pods_at_once(cluster, namespace, 1)
    found = await cluster.get(kinds.MIGRATION, namespace, "move")
    assert found is not None
    problem = "'3' pods at once, and the migration's spec allows 1 to 2"
    assert executed(found) == [("Tuning", tuned, ""), ("Tuning", too_many, problem)]
    told = [one["reason"] for one in await cluster.list(kinds.EVENT, namespace)]
    assert (told.count("PanelTuning"), told.count("PanelNotExecuted")) == (1, 1)


async def test_a_recovery_replaces_one_pod_after_another_is_ready_and_within_its_budget(
    cluster: Cluster, world: World, namespace: str, panel: Panel
) -> None:
    deployment, budget = "reembed-embedder-new-cpu", "reembed-embedder-new"
    async with deciding(cluster, world, namespace):
        await filled(cluster, namespace)
        await start(cluster, namespace, "move", hold="10m")
        await until(
            cluster,
            kinds.MIGRATION,
            namespace,
            "move",
            lambda seen: seen.get("status", {}).get("weight") == {"set": 10, "actual": 10},
        )
        pool = await cluster.get(kinds.POOL, namespace, "new")
        assert pool is not None
        sick = f"{deployment}-0"
        named = {"pool": "new", "poolUid": pool["metadata"]["uid"], "pod": sick}
        name = await wish(panel, Kind.RECOVER, **named)
        await until(cluster, kinds.DEPLOYMENT, namespace, deployment, lambda seen: seen["spec"]["replicas"] == 2)
    async with deciding(cluster, world, namespace):
        await until(
            cluster, kinds.DEPLOYMENT, namespace, deployment, lambda seen: seen["status"].get("readyReplicas") == 2
        )
        world.starting.add(deployment)  # what is gone does not come again
        await asyncio.sleep(3)
        assert await cluster.get(kinds.POD, namespace, sick) is not None  # its budget lets none go
        await evicts(cluster, namespace, budget)
        await gone(cluster, namespace, sick)
        await until(cluster, kinds.DEPLOYMENT, namespace, deployment, lambda seen: seen["spec"]["replicas"] == 1)
    assert await cluster.get(kinds.POD, namespace, f"{deployment}-1") is not None
    found = await cluster.get(kinds.MIGRATION, namespace, "move")
    assert found is not None
    assert executed(found) == [("Recover", name, "")]
    assert world.weights == [0, 10]


async def test_a_correction_moves_the_pointer_back_from_where_somebody_moved_it(
    cluster: Cluster, world: World, namespace: str, panel: Panel
) -> None:
    async with deciding(cluster, world, namespace):
        await fills(cluster, world, namespace)
        index = await cluster.get(kinds.INDEX, namespace, "docs")
        assert index is not None
        planned = index["status"]["plan"]["pointer"]
        world.pointer = {"collection": "c_other", "fingerprint": "other", "generation": 9}
        name = await wish(panel, Kind.CORRECT, drift="PointerDrift", collection=planned["collection"], generation="9")
        moved = await until(
            cluster,
            kinds.INDEX,
            namespace,
            "docs",
            lambda seen: seen["status"]["plan"]["pointer"]["generation"] > planned["generation"],
        )
    found = await cluster.get(kinds.MIGRATION, namespace, "move")
    assert found is not None
    assert (moved["status"]["plan"]["pointer"], executed(found)) == (
        {**planned, "generation": 10},
        [("Correct", name, "")],
    )


async def test_a_correction_has_one_gateway_begin_anew_within_its_budget(
    cluster: Cluster, world: World, namespace: str, panel: Panel
) -> None:
    astray = "reembed-gateway-docs-0"
    async with deciding(cluster, world, namespace):
        await fills(cluster, world, namespace)
        before = await cluster.get(kinds.DEPLOYMENT, namespace, "reembed-gateway-docs")
        name = await wish(panel, Kind.CORRECT, drift="GatewayDrift", pod=astray)
        await until(cluster, kinds.MIGRATION, namespace, "move", lambda seen: len(executed(seen)) == 1)
        await evicts(cluster, namespace, "reembed-gateway-docs")
        await gone(cluster, namespace, astray)
    assert await cluster.get(kinds.POD, namespace, "reembed-gateway-docs-1") is not None
    after = await cluster.get(kinds.DEPLOYMENT, namespace, "reembed-gateway-docs")
    found = await cluster.get(kinds.MIGRATION, namespace, "move")
    assert before is not None
    assert after is not None
    assert found is not None
    assert (after["spec"], executed(found)) == (before["spec"], [("Correct", name, "")])
