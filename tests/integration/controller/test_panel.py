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
from reembed.api.panel import Ballot, Decision, membership_json, parse_decision, render_ballot, render_memberships
from reembed.api.routing import _parse_routing, _render_routing
from reembed.cluster import kinds
from reembed.cluster.client import Cluster, ClusterError, Conflict
from reembed.core.model import Routing
from reembed.core.names import AGENT_PREFIX
from reembed.core.quorum import raising
from reembed.core.quorum.certificates import Certified, Choice
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
